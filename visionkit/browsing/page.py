"""Samples as a page that needs no server: thumbnails that are filtered where it is opened, and large images."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionkit.browsing.items import SIZES, Item
from visionkit.drawing.files import jpeg
from visionkit.errors import EnvironmentFault
from visionkit.run_report.sheets import small
from visionkit.wording import counted

PAGE, FOLDER = "index.html", "images"
THUMBNAIL, LARGE = 240, 1280
"""Longer side of a thumbnail and of a large image, in pixels."""

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:80em;padding:0 1em;color:#1e222a;background:#fff}
h1{font-size:1.4em;margin-bottom:.1em}p{margin:.2em 0;color:#5b6472}
form{position:sticky;top:0;background:#fff;padding:.7em 0;display:flex;flex-wrap:wrap;gap:.5em 1em;align-items:center}
select{font:inherit;max-width:14em}.all{display:flex;flex-wrap:wrap;gap:14px;margin:.6em 0}
figure{margin:0;max-width:240px}figure[hidden]{display:none}
figure img{max-width:240px;max-height:240px;display:block;background:#eee}
figcaption{font-size:12px;overflow-wrap:anywhere}figcaption b{font-weight:600}.error{color:#b3261e}
.warning{color:#8a5a00}.note{color:#4a5568}
@media (prefers-color-scheme:dark){body,form{background:#14171c;color:#e6e9ee}p{color:#9aa4b2}
figure img{background:#222}}
"""

_SCRIPT = """
const form = document.querySelector("form"), count = document.getElementById("count");
const all = [...document.querySelectorAll("figure")];
function show() {
  let shown = 0;
  for (const each of all) {
    each.hidden = ["split", "class", "size", "finding"].some(name => {
      const asked = form.elements[name]?.value;
      return asked && !JSON.parse(each.dataset[name]).includes(asked);
    });
    shown += !each.hidden;
    const view = form.elements.view?.value;
    for (const link of each.querySelectorAll("a")) link.hidden = view && link.dataset.view !== view;
  }
  count.textContent = `${shown} of ${all.length} shown`;
}
form.addEventListener("change", show);
show();
"""


@dataclass(frozen=True)
class Shown:
    """One sample of the page.

    Attributes:
        item: The sample.
        views: Its drawings, (h, w, 3) uint8 each, by what they are: `labels`, `augmented`, `prediction`.
        note: What else is stated of it.
    """

    item: Item
    views: Mapping[str, np.ndarray]
    note: str = ""


def write_page(folder: Path, title: str, about: str, samples: Iterable[Shown]) -> int:
    """Writes the page with its images.

    Args:
        folder: Made where it is not there; holds `index.html` and the folder `images`.
        title: Title of the page.
        about: A sentence below it.
        samples: Drawn one after the other.

    Returns:
        Number of samples.

    Raises:
        EnvironmentFault: The folder cannot be written.
    """
    figures: list[str] = []
    items: list[Item] = []
    views: list[str] = []
    try:
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        for number, shown in enumerate(samples):
            links = "".join(_links(folder, number, shown))
            figures.append(_figure(shown, links))
            items.append(shown.item)
            views += [name for name in shown.views if name not in views]
        controls = "".join(_controls(items, views))
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        head += '<meta name="viewport" content="width=device-width, initial-scale=1">'
        body = f"<h1>{html.escape(title)}</h1><p>{html.escape(about)}</p>"
        body += f'<form onsubmit="return false">{controls}<span id="count" role="status"></span></form>'
        body += f'<div class="all">{"".join(figures)}</div><script>{_SCRIPT}</script>'
        (folder / PAGE).write_text(f"{head}<style>{_STYLE}</style>{body}</html>\n", encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(f"{folder}: the page cannot be written ({error.strerror})") from error
    return len(items)


def _links(folder: Path, number: int, shown: Shown) -> Iterator[str]:
    for place, (view, drawn) in enumerate(shown.views.items()):
        name = f"{FOLDER}/{number:05d}-{view.replace(' ', '-')}"
        (folder / f"{name}.jpg").write_bytes(jpeg(np.asarray(small(drawn, LARGE)) if _is_large(drawn) else drawn))
        (folder / f"{name}-small.jpg").write_bytes(jpeg(np.asarray(small(drawn, THUMBNAIL)), 85))
        words = html.escape(f"{shown.item.name}: {view}")
        yield (
            f'<a href="{name}.jpg" data-view="{html.escape(view)}"{" hidden" if place else ""}>'
            f'<img src="{name}-small.jpg" alt="{words}" title="{words}" loading="lazy"></a>'
        )


def _is_large(drawn: np.ndarray) -> bool:
    return bool(max(drawn.shape[:2]) > LARGE)


def _figure(shown: Shown, links: str) -> str:
    item = shown.item
    data = {"split": [item.split], "class": item.classes, "size": item.sizes, "finding": item.kinds}
    attributes = " ".join(f'data-{name}="{html.escape(_json(values))}"' for name, values in data.items())
    lines = [f"<b>{html.escape(Path(item.name).name)}</b>, {item.split}", html.escape(item.caption)]
    lines += [html.escape(shown.note)] if shown.note else []
    lines += [
        f'<span class="{each.severity}">{html.escape(f"{each.kind}: {each.message}")}</span>' for each in item.findings
    ]
    return f"<figure {attributes}>{links}<figcaption>{'<br>'.join(lines)}</figcaption></figure>"


def _json(values: Iterable[str]) -> str:
    import json

    return json.dumps(list(values), ensure_ascii=False)


def _controls(items: Sequence[Item], views: Sequence[str]) -> Iterator[str]:
    """A choice for each filter that distinguishes the samples."""
    if len(views) > 1:
        yield _choice("view", "Show", views, every=False)
    yield from (
        _choice(name.lower(), name, values)
        for name, values in (
            ("Split", list(dict.fromkeys(each.split for each in items))),
            ("Class", sorted({name for each in items for name in each.classes})),
            ("Size", [size for size in SIZES if any(size in each.sizes for each in items)]),
            ("Finding", sorted({kind for each in items for kind in each.kinds})),
        )
        if len(values) > (name != "Finding")
    )


def _choice(name: str, label: str, values: Sequence[str], every: bool = True) -> str:
    options = ['<option value="">all</option>'] if every else []
    options += [f'<option value="{html.escape(each)}">{html.escape(each)}</option>' for each in values]
    return f'<label>{label} <select name="{name}">{"".join(options)}</select></label>'


def about_samples(count: int, of: int, filtered: bool) -> str:
    """How many samples a page shows, in words.

    Args:
        count: Samples of the page.
        of: Samples of the data.
        filtered: Whether a filter chose them.
    """
    whole = f"of {counted(of, 'image')}"
    return f"{count:,} {whole}" + (", as the filter asks for" if filtered else "")
