"""The findings of an examination as one page that needs nothing else: thumbnails with the place of each fault."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable

from visionkit.checkup.examination import Checkup
from visionkit.checkup.findings import Finding
from visionkit.checkup.kinds import KINDS
from visionkit.checkup.marking import mark
from visionkit.checkup.text_report import grouped, summary
from visionkit.errors import DataError
from visionkit.images import ImageSource
from visionkit.run_report.sheets import small
from visionkit.wording import counted

SHOWN = 12
"""Findings of a kind and split that are shown with images."""

_SIDE, _QUALITY = 220, 80
_STYLE = (
    "<style>body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:72em;padding:0 1em;color:#1e222a}"
    "h2{margin:1.6em 0 .2em;font-size:1.1em}.error{color:#b3261e}.warning{color:#8a5a00}.note{color:#4a5568}"
    "p{margin:.2em 0}table{border-collapse:collapse}"
    "td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ddd}"
    ".all{display:flex;flex-wrap:wrap;gap:12px;margin:.6em 0}figure{margin:0;max-width:452px}"
    "figcaption{font-size:12px;overflow-wrap:anywhere;max-width:440px}img{max-height:220px;margin-right:4px}"
    "li{font-size:13px;overflow-wrap:anywhere}</style>"
)


def page_of(checkup: Checkup, shown: Callable[[str], str] = str) -> str:
    """The page.

    Args:
        checkup: What was found; images are read again for their thumbnails.
        shown: Gives a text as the page shows it, such as without the folder that the data lies in; as it is by default.
    """
    title = f"Checkup of {checkup.data}"
    parts = [f"<h1>{html.escape(title)}</h1><p>{html.escape(summary(checkup))}</p>", _statistics(checkup)]
    for kind, split, some in grouped(checkup.findings):
        known = KINDS[kind]
        head = f"{kind}: {counted(len(some), known.unit)} in {split}"
        parts.append(f'<h2 id="{kind}-{html.escape(split)}"><span class="{known.severity}">{known.severity}</span> ')
        parts.append(f"{html.escape(head)}</h2><p>{html.escape(known.advice)}</p>")
        parts.append(f'<div class="all">{"".join(_figure(each, shown(_caption(each))) for each in some[:SHOWN])}</div>')
        if len(some) > SHOWN:
            rest = "".join(f"<li>{html.escape(shown(_caption(each)))}</li>" for each in some[SHOWN:500])
            parts.append(f"<details><summary>{len(some) - SHOWN:,} more</summary><ul>{rest}</ul></details>")
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>{_STYLE}'
    return f"{head}{''.join(parts)}</html>\n"


def _statistics(checkup: Checkup) -> str:
    rows = checkup.statistics
    if not rows:
        return ""
    names = list(next(iter(rows.values())))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("split", *names))
    body = "".join(
        f"<tr><td>{split}</td>{''.join(f'<td>{html.escape(_plain(row[name]))}</td>' for name in names)}</tr>"
        for split, row in rows.items()
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _caption(finding: Finding) -> str:
    place = finding.where()
    text = finding.message if not place or finding.message.startswith(place) else f"{place}: {finding.message}"
    return f"{text} ({', '.join(finding.others[:5])})" if finding.others else text


def _figure(finding: Finding, caption: str) -> str:
    shown = [_thumbnail(finding.file, finding)] + [_thumbnail(file, None) for file in finding.others[:3]]
    images = "".join(f'<img alt="" src="data:image/jpeg;base64,{data}">' for data in shown if data)
    return f"<figure>{images}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _thumbnail(file: str, finding: Finding | None) -> str:
    """A small image with the place of the fault, as base64; empty where it cannot be read."""
    if not file:
        return ""
    try:
        source = ImageSource(file)
        height, width = source.size
        pixels = source.read(3, min_scale=min(1.0, _SIDE / max(height, width)))
    except (DataError, OSError, ValueError):
        return ""
    image = small(pixels, _SIDE)
    if finding is not None:
        mark(image, finding, image.width / width, image.height / height)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()
