"""The curves of a run: loss, metrics of the validation split and learning rate over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from visionkit.run_report.plots import Line, Panel, beside, draw_panel, number_text

_MOST = 6
_DOTS = 40

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def draw_curves(series: Series, monitor: str, mode: str) -> Image.Image | None:
    """The sheet `curves.png`; None where nothing was measured yet.

    Args:
        series: Steps and values by name, see `History.series`.
        monitor: The metric that chooses the best checkpoint.
        mode: "min" or "max".
    """
    panels = [
        _losses(series),
        _terms(series),
        *_metrics(series, monitor, mode),
        _rates(series),
    ]
    drawn = [draw_panel(panel) for panel in panels if panel is not None and panel.lines]
    return beside(drawn) if drawn else None


def _line(name: str, points: tuple[Sequence[float], Sequence[float]]) -> Line:
    return Line(name, *points, marks=not name.startswith(("train/", "lr/")) and len(points[0]) <= _DOTS)


def _losses(series: Series) -> Panel:
    lines = [_line(name, series[name]) for name in ("train/loss", "val/loss") if name in series]
    return _over_steps("Loss", "loss", lines)


def _terms(series: Series) -> Panel | None:
    """The terms of a loss that has several."""
    lines = [
        Line(name.removeprefix("train/"), *points) for name, points in series.items() if name.startswith("train/loss_")
    ]
    return _over_steps("Terms of the training loss", "loss", lines[:8]) if len(lines) > 1 else None


def _metrics(series: Series, monitor: str, mode: str) -> list[Panel]:
    """One chart of the metrics between 0 and 1, and one for each of two others, that which chooses the best first."""
    names = [name for name in series if name.startswith("val/") and not name.startswith("val/loss")]
    names.sort(key=lambda name: name != monitor)
    fractions = [name for name in names if all(-1.0 <= value <= 1.0 for value in series[name][1])]
    others = [name for name in names if name not in fractions]
    groups = [fractions[:_MOST], *([name] for name in others[:2])]
    groups.sort(key=lambda group: monitor not in group)
    panels = []
    for group in groups:
        measured = {name: _measured(series[name]) for name in group}
        lines = [_line(name, points) for name, points in measured.items() if points[0]]
        if not lines:
            continue
        title, ring = "Metrics of the validation split", None
        if monitor in measured and measured[monitor][0]:
            steps, values = measured[monitor]
            at = values.index(min(values) if mode == "min" else max(values))
            title = f"{title}: best {values[at]:.4g} at step {number_text(steps[at])}"
            ring = (steps[at], values[at])
        limits = (0.0, 1.0) if group == fractions[:_MOST] and all(min(line.y) >= 0 for line in lines) else None
        panels.append(_over_steps(title, "metric", lines, y_limits=limits, marks=(ring,) if ring else ()))
    return panels


def _measured(points: tuple[Sequence[float], Sequence[float]]) -> tuple[list[float], list[float]]:
    """Without the -1 of what had nothing to measure."""
    kept = [(step, value) for step, value in zip(*points, strict=True) if value != -1.0]
    return [step for step, _ in kept], [value for _, value in kept]


def _rates(series: Series) -> Panel:
    """The learning rates of the groups of parameters; those that run alike are one line."""
    alike: dict[tuple[float, ...], list[str]] = {}
    for name, (_, values) in series.items():
        if name.startswith("lr/"):
            alike.setdefault(tuple(values), []).append(name.removeprefix("lr/"))
    lines = []
    for values, names in alike.items():
        label = "all parameters" if len(alike) == 1 else ", ".join(names)
        lines.append(Line(label, series[f"lr/{names[0]}"][0], values))
    positive = [value for line in lines for value in line.y if value > 0]
    log = bool(positive) and max(positive) > 1000 * min(positive) and len(positive) == sum(len(x.y) for x in lines)
    limits = None if log or not positive else (0.0, max(positive) * 1.05)
    return _over_steps("Learning rate", "learning rate", lines[:8], y_limits=limits, log_y=log)


def _over_steps(title: str, label: str, lines: Sequence[Line], **options: Any) -> Panel:
    return Panel(title, "step", label, lines, whole_x=True, **options)
