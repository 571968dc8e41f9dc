"""A page of tables, charts and images that needs no other file."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

THUMBNAIL = 320
"""Longer side of an image of the page, in pixels."""

ROWS = 200
"""Rows of a table that the page has; the files have all of them."""

_STYLE = """
body{font:14px/1.5 sans-serif;margin:2em auto;max-width:1200px;padding:0 1em;color:#1e222a;background:#fff}
h1{font-size:22px}h2{font-size:17px;margin-top:2em;border-bottom:1px solid #e4e7ec}p{max-width:80ch}
.scroll{overflow-x:auto}table{border-collapse:collapse}td,th{padding:2px 10px;text-align:right;white-space:nowrap;
border-bottom:1px solid #eee}th{color:#6c727e;font-weight:600}td:first-child,th:first-child{text-align:left}
td.text{text-align:left}.images{display:flex;flex-wrap:wrap;gap:16px}figure{margin:0;max-width:660px}
figure img{max-width:320px;height:auto;margin-right:4px}figcaption{font-size:12px;overflow-wrap:anywhere}
img.chart{max-width:100%;height:auto}
"""


class Page:
    """Puts a page together, part by part.

    Args:
        title: Title of the page.
    """

    def __init__(self, title: str) -> None:
        self._title = html.escape(title)
        self._parts: list[str] = []

    def heading(self, text: str) -> None:
        """Begins a section."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        """Adds a paragraph; nothing where there is no text."""
        if text:
            self._parts.append(f"<p>{html.escape(text)}</p>")

    def table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds a table, at most `ROWS` of its rows."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        body = "".join(f"<tr>{''.join(_cell(row.get(name)) for name in names)}</tr>" for row in rows[:ROWS])
        self._parts.append(f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>')
        if len(rows) > ROWS:
            self.text(f"{len(rows) - ROWS} more rows are in the files.")

    def chart(self, image: Image.Image) -> None:
        """Adds a drawn chart."""
        self._parts.append(f'<img class="chart" src="{_data(image, "PNG")}">')

    def images(self, groups: Iterable[tuple[Sequence[np.ndarray], str]]) -> None:
        """Adds images that belong together side by side, each group with a caption below."""
        shown = "".join(
            f"<figure>{''.join(map(_thumbnail, images))}<figcaption>{html.escape(text)}</figcaption></figure>"
            for images, text in groups
        )
        self._parts.append(f'<div class="images">{shown}</div>')

    def render(self) -> str:
        """The whole page."""
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{self._title}</title>'
        return f"{head}<style>{_STYLE}</style><h1>{self._title}</h1>{''.join(self._parts)}</html>\n"


def number(value: float) -> str:
    """A number as a table has it: four digits that count, `n/a` where nothing was measured."""
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value) or value == -1:
        return "n/a"
    return f"{value:.4f}" if 0.001 <= abs(value) < 10 else f"{value:.4g}"


def _cell(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, (int, float, np.number)):
        return f"<td>{number(value.item() if isinstance(value, np.number) else value)}</td>"
    return f'<td class="text">{html.escape("" if value is None else str(value))}</td>'


def _thumbnail(image: np.ndarray) -> str:
    small = Image.fromarray(image)
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return f'<img src="{_data(small, "JPEG")}">'


def _data(image: Image.Image, format: str) -> str:
    file = io.BytesIO()
    image.convert("RGB").save(file, format, **({"quality": 85} if format == "JPEG" else {}))
    return f"data:image/{format.lower()};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
