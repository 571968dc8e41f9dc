"""What was followed in a video, as markup: how many of each class, what crossed the lines, and who is visible when."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TYPE_CHECKING

from visionkit.drawing.tracks import track_color

if TYPE_CHECKING:
    from ui.videos import VideoTracks
    from visionkit.tracking.counts import LineCounter
    from visionkit.tracking.timeline import Timeline, Visible

_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 1e9)
ROWS = 200
"""Objects that are listed on the page, at most; the files to download hold all."""


def markup(followed: VideoTracks) -> str:
    """The counts and the timeline, on one line so that Markdown leaves it as it is.

    Args:
        followed: What was followed.
    """
    counts = followed.counts
    shown = "".join(f"<li><b>{number}</b> {_text(name)}</li>" for name, number in counts.objects.items())
    parts = [f'<ul class="vk-counts" aria-label="Objects by class">{shown or "<li>No objects</li>"}</ul>']
    if counts.lines:
        parts.append(_lines(counts.lines))
    if followed.timeline.objects:
        parts.append(_timeline(followed.timeline))
    return f'<section class="vk-followed">{"".join(parts)}</section>'


def _lines(lines: Iterable[LineCounter]) -> str:
    rows = []
    for number, line in enumerate(lines, 1):
        names = sorted({*line.right, *line.left})
        both = [("all", line.right.total(), line.left.total())]
        both += [(name, line.right[name], line.left[name]) for name in names] if len(names) > 1 else []
        if len(names) == 1:
            both = [(names[0], line.right.total(), line.left.total())]
        for name, right, left in both:
            first = f'<th scope="row" rowspan="{len(both)}">Line {number}</th>' if name == both[0][0] else ""
            rows.append(f"<tr>{first}<td>{_text(name)}</td><td>{right}</td><td>{left}</td></tr>")
    head = "".join(f'<th scope="col">{each}</th>' for each in ("", "", "along the arrow", "against it"))
    return (
        f'<table class="vk-lines"><caption>Crossings</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _timeline(timeline: Timeline) -> str:
    length = max(timeline.seconds, 1e-6)
    listed = list(timeline.objects.values())[:ROWS]
    rows = "".join(_row(each, length) for each in listed)
    ticks = "".join(f'<span style="left:{100 * at / length:.2f}%">{_clock(at)}</span>' for at in _ticks(length))
    total = len(timeline.objects) + timeline.unlisted
    more = f"<p>The first {ROWS} of {total} objects; the json lists more.</p>" if total > len(listed) else ""
    return (
        f'<table class="vk-timeline" data-seconds="{length:.4f}"><caption>Who is visible when</caption>'
        '<thead><tr><th scope="col">Object</th>'
        f'<th scope="col"><span class="vk-hidden">Visible</span><div class="vk-ticks" aria-hidden="true">{ticks}</div>'
        f"</th></tr></thead><tbody>{rows}</tbody></table>{more}"
    )


def _row(each: Visible, length: float) -> str:
    red, green, blue = track_color(each.id)
    color = f"rgb({red},{green},{blue})"
    bars = "".join(
        f'<i style="left:{100 * first / length:.3f}%;width:{100 * (end - first) / length:.3f}%;background:{color}"></i>'
        for first, end in each.spans
    )
    spans = [f"{_clock(first, 1)} to {_clock(end, 1)}" for first, end in each.spans]
    text = "; ".join(spans[:4]) + (f"; {len(spans) - 4} more" if len(spans) > 4 else "")
    data = " ".join(f"{first:.3f}-{end:.3f}" for first, end in each.spans)
    return (
        f'<tr data-spans="{data}"><th scope="row"><button type="button" data-second="{each.spans[0][0]:.3f}" '
        f'title="Show its first frame"><i style="background:{color}"></i><b>{each.id}</b> {_text(each.name)}</button>'
        f'</th><td><div class="vk-bars" aria-hidden="true">{bars}</div><small>{text}</small></td></tr>'
    )


def _ticks(length: float) -> list[float]:
    """Up to six round times."""
    step = next(each for each in _STEPS if length / each <= 5)
    return [step * number for number in range(int(length / step) + 1)]


def _clock(seconds: float, digits: int = 0) -> str:
    if not digits and seconds % 1:
        digits = 1
    minutes, rest = divmod(round(seconds, digits), 60)
    return f"{minutes:.0f}:{rest:0{3 + digits if digits else 2}.{digits}f}"


def _text(name: str) -> str:
    """A class name, which comes from a file."""
    return html.escape(" ".join(name.split()))
