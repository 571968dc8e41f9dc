"""Metrics and tables as text that fits the terminal: columns are left out or split, numbers are never cut."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

Row = Mapping[str, Any]

MAX_ROWS = 30
"""Rows of a table that are printed; longer ones are for files."""

_CONFUSIONS = 10
_LABEL = 24
"""Width that a column of names keeps at least, where it has to give way to numbers."""


def number(value: float, digits: int = 4) -> str:
    """A metric for people: `n/a` where nothing was there to measure, which COCO's evaluation states as -1."""
    value = float(value)
    if math.isnan(value) or value == -1:
        return "n/a"
    return f"{value:.{digits}f}"


def one_line(values: Mapping[str, float], begin: str, monitor: str = "", width: int = 80) -> str:
    """Names and values in one line: the monitored metric, the loss, then as many others as fit.

    Args:
        values: Values by full name.
        begin: What the line begins with.
        monitor: Name of the metric that comes first and is never left out.
        width: Columns of the terminal.
    """
    losses = sorted((name for name in values if name.endswith("/loss")), key=len)
    first = [name for name in (monitor, *losses) if name in values]
    parts = {name: f"  {name} {short(values[name])}" for name in dict.fromkeys((*first, *values))}
    # A value that carries no information gives its place to one that does.
    parts = {name: part for name, part in parts.items() if name == monitor or not part.endswith(" n/a")}
    if len(begin) + sum(map(len, parts.values())) <= width:
        return begin + "".join(parts.values())
    line, left, room = begin, 0, width - len("  +99 more")
    for name, part in parts.items():
        if name == monitor or len(line) + len(part) <= room:
            line += part
        else:
            left += 1
    return f"{line}  +{left} more"


def short(value: float) -> str:
    """A value with four digits that count."""
    return "n/a" if math.isnan(value) or value == -1 else f"{value:.4g}"


def print_metrics(
    values: Mapping[str, float], console: Console, intervals: Mapping[str, Sequence[float]] | None = None
) -> None:
    """Prints one metric per row, with its interval where there are some."""
    rows: list[Row] = [{"metric": name, "value": number(value)} for name, value in values.items()]
    if intervals:
        rows = [{**row, "95 % interval": bounds(intervals.get(str(row["metric"])))} for row in rows]
    print_table("", rows, console, most=len(rows))


def bounds(interval: Sequence[float] | None) -> str:
    """Both bounds of an interval; empty for none."""
    return f"{number(interval[0])} to {number(interval[1])}" if interval else ""


def print_table(title: str, rows: Sequence[Row], console: Console, most: int = MAX_ROWS) -> None:
    """Prints a table in as many pieces as the width of the terminal asks for.

    A confusion matrix that is too wide becomes the list of its largest confusions. A table of more than `most` rows is
    named, not printed.

    Args:
        title: Title above it; none where empty.
        rows: Column to value, equal columns in each.
        console: Knows the width.
        most: Rows that are printed at most.
    """
    if not rows:
        return
    if is_confusion(rows) and (len(rows) > most or _natural_width(rows) > console.width):
        listed = largest_confusions(rows)
        title, rows = f"{title}: the {len(listed)} largest of {len(rows)} classes", listed
        if not listed:
            console.print("no class is taken for another", highlight=False)
            return
    if len(rows) > most:
        console.print(f"{title}: {len(rows)} rows, which --results FILE writes", highlight=False)
        return
    names = list(rows[0])
    for number_of, columns in enumerate(_pieces(rows, names, console.width)):
        shown = Table(title=title if not number_of else None, title_justify="left", box=box.SIMPLE_HEAD)
        for name in columns:
            label = name == names[0]
            shown.add_column(escape(name), overflow="fold", no_wrap=not label, justify="left" if label else "right")
        for row in rows:
            shown.add_row(*(escape(_cell(row[name])) for name in columns))
        console.print(shown, highlight=False)


def is_confusion(rows: Sequence[Row]) -> bool:
    """Whether it is a matrix whose columns are its rows: true classes by predicted ones."""
    first, *columns = rows[0]
    return len(columns) > 1 and columns == [str(row[first]) for row in rows]


def largest_confusions(rows: Sequence[Row], limit: int = _CONFUSIONS) -> list[dict[str, Any]]:
    """The pairs of classes that are taken for each other most often.

    Args:
        rows: A confusion matrix.
        limit: How many pairs at most.

    Returns:
        Rows with the true class, the predicted one, their number, and its fraction of the true class.
    """
    first, *columns = rows[0]
    pairs = [
        {"truth": str(row[first]), "prediction": name, "count": row[name], "fraction": row[name] / total}
        for row in rows
        if (total := sum(row[each] for each in columns))
        for name in columns
        if name != row[first] and row[name]
    ]
    return sorted(pairs, key=lambda pair: -pair["count"])[:limit]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return number(value, 3)
    return str(value)


def _widths(rows: Sequence[Row], names: Iterable[str]) -> list[int]:
    return [max(cell_len(name), *(cell_len(_cell(row[name])) for row in rows)) for name in names]


def _natural_width(rows: Sequence[Row]) -> int:
    widths = _widths(rows, rows[0])
    return sum(widths) + 3 * len(widths) + 1


def _pieces(rows: Sequence[Row], names: Sequence[str], width: int) -> list[list[str]]:
    """Columns in groups that fit, each behind the first column."""
    first, *rest = names
    label, *widths = _widths(rows, names)
    room = width - min(label, _LABEL) - 4
    pieces: list[list[str]] = [[]]
    used = 0
    for name, needed in zip(rest, widths, strict=True):
        if pieces[-1] and used + needed + 3 > room:
            pieces.append([])
            used = 0
        pieces[-1].append(name)
        used += needed + 3
    return [[first, *piece] for piece in pieces]
