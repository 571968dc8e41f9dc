"""Charts as images: lines with axes, ticks and a legend, bars, and confusion matrices.

Drawn with OpenCV's antialiased lines and Pillow's own font, since a plotting library would be the heaviest package of
all for a handful of charts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from visionkit.drawing.base import font, shortened

COLORS = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (90, 90, 90),
    (150, 110, 40),
)
"""Colors that people with any color vision distinguish (Okabe and Ito, 2008), and two more."""

PANEL = (560, 380)
"""Width and height of a chart of lines."""

_INK, _FAINT, _GRID, _PAPER = (30, 34, 42), (108, 114, 126), (228, 231, 236), (255, 255, 255)
_TEXT, _TITLE = 13, 17
_MOST_NAMED = 8


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: Name in the legend; "" is not listed.
        x: Its places along the horizontal axis.
        y: Its values.
        color: RGB; by its number by default.
        width: Width in pixels.
        marks: A dot at each point, for curves of few points.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: tuple[int, int, int] | None = None
    width: int = 2
    marks: bool = False


@dataclass(frozen=True)
class Panel:
    """A chart of lines.

    Attributes:
        title: Title above it.
        x_label: Label below the horizontal axis.
        y_label: Label above the vertical one.
        lines: The curves.
        x_limits: Range of the horizontal axis; that of the curves by default.
        y_limits: Range of the vertical axis; that of the curves by default.
        log_x: The horizontal axis is logarithmic.
        log_y: The vertical axis is logarithmic.
        whole_x: Only whole numbers stand along the horizontal axis.
        marks: Points with a ring around them.
    """

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    x_limits: tuple[float, float] | None = None
    y_limits: tuple[float, float] | None = None
    log_x: bool = False
    log_y: bool = False
    whole_x: bool = False
    marks: Sequence[tuple[float, float]] = ()


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers between two values: multiples of 1, 2, 2.5 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1.0, 2.0, 2.5, 5.0) if m * power >= rough * 0.999), 10.0 * power)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def number_text(value: float) -> str:
    """A tick's number, as short as it can be read: 0.25, 1,500, 20k, 1e-05."""
    size = abs(value)
    if size and size < 1e-3:
        return f"{value:.0e}"
    if size >= 1e6:
        return f"{value / 1e6:g}M"
    if size >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:,.0f}" if size >= 1000 else f"{value:g}" if value == round(value, 3) else f"{value:.3g}"


class _Axis:
    """Values to places along one side of a chart."""

    def __init__(self, low: float, high: float, start: float, end: float, log: bool) -> None:
        self.log = log
        if log:
            low, high = math.log10(low), math.log10(high)
        if high - low < 1e-12 * max(1.0, abs(low)):  # a single value lies in the middle
            low, high = low - (0.5 if log else abs(low) * 0.1 or 0.5), high + (0.5 if log else abs(high) * 0.1 or 0.5)
        self.low, self.high, self.start, self.end = low, high, start, end

    def at(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        numbers = np.asarray(values, dtype=np.float64)
        if self.log:
            numbers = np.log10(np.maximum(numbers, 1e-300))
        fraction = (numbers - self.low) / (self.high - self.low)
        return np.asarray(self.start + fraction.clip(-0.001, 1.001) * (self.end - self.start))

    def ticks(self, wanted: int) -> list[float]:
        if not self.log:
            return ticks(self.low, self.high, wanted)
        powers = range(math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9) + 1)
        if len(powers) < 2:
            return [10.0**self.low, 10.0**self.high]
        return [10.0**power for power in powers][:: max(1, len(powers) // 6)]


def draw_panel(panel: Panel, size: tuple[int, int] = PANEL) -> Image.Image:
    """A chart of lines of that width and height."""
    import cv2

    named = [line for line in panel.lines if line.name][:_MOST_NAMED]
    colors = {id(line): COLORS[k % len(COLORS)] for k, line in enumerate(named)}
    letters = font(_TEXT)
    width, height = size
    keys, key_rows = _legend_places(named, letters, width - 24)
    top = 58 + 20 * key_rows
    x_low, x_high = _limits([line.x for line in panel.lines], panel.x_limits, panel.log_x)
    y_low, y_high = _limits([line.y for line in panel.lines], panel.y_limits, panel.log_y, margin=0.05)
    y_axis = _Axis(y_low, y_high, height - 52, top, panel.log_y)
    y_ticks = y_axis.ticks(5)
    left = 22 + round(max((letters.getlength(number_text(tick)) for tick in y_ticks), default=20))
    x_axis = _Axis(x_low, x_high, left, width - 22, panel.log_x)

    canvas = np.full((height, width, 3), _PAPER, dtype=np.uint8)
    for tick in y_ticks:
        y = round(float(y_axis.at([tick])[0]))
        cv2.line(canvas, (left, y), (width - 22, y), _GRID, 1)
    x_ticks = x_axis.ticks(max(2, (width - left) // 90))
    x_ticks = [tick for tick in x_ticks if tick == round(tick)] if panel.whole_x else x_ticks
    for tick in x_ticks:
        x = round(float(x_axis.at([tick])[0]))
        cv2.line(canvas, (x, top), (x, height - 52), _GRID, 1)
    for line in reversed(panel.lines):  # the first lies on top
        points = np.stack([x_axis.at(line.x), y_axis.at(line.y)], axis=1)
        color = line.color or colors.get(id(line), COLORS[-2])
        fixed = np.round(points * 16).astype(np.int32)
        cv2.polylines(canvas, [fixed.reshape(-1, 1, 2)], False, color, line.width, cv2.LINE_AA, 4)
        if line.marks or len(points) == 1:
            for place in fixed.tolist():
                cv2.circle(canvas, place, 3 << 4, color, -1, cv2.LINE_AA, 4)
    cv2.line(canvas, (left, height - 52), (width - 22, height - 52), _FAINT, 1)
    cv2.line(canvas, (left, top), (left, height - 52), _FAINT, 1)
    for mark in panel.marks:
        center = round(float(x_axis.at([mark[0]])[0]) * 16), round(float(y_axis.at([mark[1]])[0]) * 16)
        cv2.circle(canvas, center, 5 << 4, _INK, 2, cv2.LINE_AA, 4)

    sheet = Image.fromarray(canvas)
    pen = ImageDraw.Draw(sheet)
    pen.text((12, 24), shortened(panel.title, font(_TITLE), width - 24), font=font(_TITLE), fill=_INK, anchor="ls")
    for line, (x, row, text) in zip(named, keys, strict=True):
        y = 42 + 20 * row
        pen.line((x, y - 1, x + 18, y - 1), fill=line.color or colors[id(line)], width=3)
        pen.text((x + 24, y + 4), text, font=letters, fill=_INK, anchor="ls")
    pen.text((12, top - 10), panel.y_label, font=letters, fill=_FAINT, anchor="ls")
    for tick in y_ticks:
        pen.text((left - 7, float(y_axis.at([tick])[0])), number_text(tick), font=letters, fill=_FAINT, anchor="rm")
    for tick in x_ticks:
        pen.text((float(x_axis.at([tick])[0]), height - 46), number_text(tick), font=letters, fill=_FAINT, anchor="ma")
    pen.text(((left + width - 22) / 2, height - 12), panel.x_label, font=letters, fill=_FAINT, anchor="ms")
    return sheet


def _legend_places(lines: Sequence[Line], letters: object, room: int) -> tuple[list[tuple[int, int, str]], int]:
    """Where each name of the legend stands: its place, its row and the text; and the number of rows."""
    places: list[tuple[int, int, str]] = []
    x, row = 12, 0
    for line in lines:
        text = shortened(line.name, letters, 220)  # type: ignore[arg-type]
        wide = 24 + round(letters.getlength(text)) + 18  # type: ignore[attr-defined]
        if x > 12 and x + wide > room:
            x, row = 12, row + 1
        places.append((x, row, text))
        x += wide
    return places, row + 1 if lines else 0


def _limits(
    values: Sequence[Sequence[float]], given: tuple[float, float] | None, log: bool, margin: float = 0.0
) -> tuple[float, float]:
    if given is not None:
        return given
    numbers = np.concatenate([np.asarray(each, dtype=np.float64) for each in values]) if values else np.zeros(0)
    numbers = numbers[np.isfinite(numbers) & ((numbers > 0) | (not log))]
    if not len(numbers):
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = float(numbers.min()), float(numbers.max())
    more = 0.0 if log else (high - low) * margin
    return low - more, high + more


def beside(panels: Sequence[Image.Image], columns: int = 2) -> Image.Image:
    """Images of one size on one sheet."""
    columns = min(columns, len(panels))
    wide, tall = (max(panel.size[k] for panel in panels) for k in (0, 1))
    sheet = Image.new("RGB", (wide * columns, tall * -(-len(panels) // columns)), _PAPER)
    for number, panel in enumerate(panels):
        sheet.paste(panel, (number % columns * wide, number // columns * tall))
    return sheet


def draw_bars(title: str, rows: Sequence[tuple[str, float]], most: int = 60) -> Image.Image:
    """A horizontal bar per row, values in [0, 1]; of more rows than `most` the lowest are shown.

    Args:
        title: Title above the bars.
        rows: Name and value; a negative or non-finite one is not measured.
        most: Rows that are shown.
    """
    shown = list(rows)
    if len(shown) > most:
        measured = sorted((row for row in shown if row[1] >= 0), key=lambda row: row[1])
        shown, title = measured[:most], f"{title} (the lowest {most} of {len(rows)})"
    letters, step, width = font(_TEXT), 24, 720
    names = [shortened(name, letters, 240) for name, _ in shown]
    left = 24 + round(max((letters.getlength(name) for name in names), default=0))
    sheet = Image.new("RGB", (width, 52 + step * len(shown) + 34), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((12, 28), shortened(title, font(_TITLE), width - 24), font=font(_TITLE), fill=_INK, anchor="ls")
    bottom, room = 48 + step * len(shown), width - left - 80
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + tick * room
        pen.line((x, 44, x, bottom), fill=_GRID)
        pen.text((x, bottom + 6), f"{tick:g}", font=letters, fill=_FAINT, anchor="ma")
    for number, (name, (_, value)) in enumerate(zip(names, shown, strict=True)):
        y = 48 + step * number
        pen.text((left - 8, y + step / 2 - 2), name, font=letters, fill=_INK, anchor="rm")
        measured_value = value if math.isfinite(value) and value >= 0 else None
        if measured_value is not None:
            pen.rectangle((left, y + 2, left + min(measured_value, 1.0) * room, y + step - 7), fill=COLORS[0])
        text = "n/a" if measured_value is None else f"{measured_value:.3f}"
        at = left + min(measured_value or 0.0, 1.0) * room + 6
        pen.text((at, y + step / 2 - 2), text, font=letters, fill=_INK, anchor="lm")
    return sheet


LARGEST_MATRIX = 200
"""Classes up to which a confusion matrix is drawn: beyond that a cell is no longer seen."""


def draw_matrix(title: str, rows: Sequence[str], columns: Sequence[str], counts: np.ndarray) -> Image.Image:
    """A confusion matrix: colors are fractions of the row, numbers are counts where they fit.

    Args:
        title: Title above it.
        rows: Names of the true classes.
        columns: Names of the predicted ones.
        counts: (rows, columns).
    """
    totals = counts.sum(axis=1, keepdims=True)
    fractions = counts / np.maximum(totals, 1)
    longest = max(len(f"{int(counts.max(initial=0)):,}"), 2)
    cell = 14 if len(columns) > 40 else 24 if len(columns) > 16 else max(40, 8 * longest + 10)
    letters = font(_TEXT if cell > 14 else 11)
    names = [[shortened(name, letters, 200) for name in each] for each in (rows, columns)]
    longest_name = [round(max(letters.getlength(name) for name in each)) for each in names]
    left, top = longest_name[0] + 48, longest_name[1] + 84
    wide, tall = cell * len(columns), cell * len(rows)
    title_room = round(font(_TITLE).getlength(title)) + 24
    sheet = Image.new("RGB", (max(left + wide + 24, min(title_room, 640)), top + tall + 52), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((12, 28), shortened(title, font(_TITLE), sheet.width - 24), font=font(_TITLE), fill=_INK, anchor="ls")
    pen.text((left, 52), "predicted class", font=font(_TEXT), fill=_FAINT, anchor="ls")
    upright = Image.new("RGB", (120, 18), _PAPER)
    ImageDraw.Draw(upright).text((0, 14), "true class", font=font(_TEXT), fill=_FAINT, anchor="ls")
    sheet.paste(upright.rotate(90, expand=True), (8, top + max(0, tall - 120)))
    for k, name in enumerate(names[1]):
        label = Image.new("RGB", (longest_name[1] + 4, cell), _PAPER)
        ImageDraw.Draw(label).text((0, cell / 2), name, font=letters, fill=_INK, anchor="lm")
        sheet.paste(label.rotate(90, expand=True), (left + k * cell, top - longest_name[1] - 10))
    for k, name in enumerate(names[0]):
        pen.text((left - 8, top + (k + 0.5) * cell), name, font=letters, fill=_INK, anchor="rm")
    colors = (255 - fractions[..., None] * (255 - np.array(COLORS[0]))).round().astype(np.uint8)
    sheet.paste(Image.fromarray(colors).resize((wide, tall), Image.Resampling.NEAREST), (left, top))
    if cell >= 24:
        for line in range(max(len(rows), len(columns)) + 1):
            if line <= len(columns):
                pen.line((left + line * cell, top, left + line * cell, top + tall), fill=_GRID)
            if line <= len(rows):
                pen.line((left, top + line * cell, left + wide, top + line * cell), fill=_GRID)
    else:
        pen.rectangle((left - 1, top - 1, left + wide, top + tall), outline=_GRID)
    if cell >= 40:
        for r, row in enumerate(counts.tolist()):
            for c, value in enumerate(row):
                if value:
                    ink = _PAPER if fractions[r, c] > 0.55 else _INK
                    middle = (left + (c + 0.5) * cell, top + (r + 0.5) * cell)
                    pen.text(middle, f"{int(value):,}", font=letters, fill=ink, anchor="mm")
    message = "color: fraction of the true class, from 0 (white) to 1 (blue)"
    pen.text((12, top + tall + 32), shortened(message, font(_TEXT), sheet.width - 24), font=font(_TEXT), fill=_FAINT)
    return sheet
