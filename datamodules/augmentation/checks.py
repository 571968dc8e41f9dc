"""Checks of options that several parts share."""

from __future__ import annotations

from typing import Any

from visionkit.errors import UsageError


def check(low: float, high: float, **values: float) -> None:
    """Refuses numbers outside of a range.

    Args:
        low: Smallest allowed value.
        high: Largest allowed value.
        **values: Options by name.
    """
    for name, value in values.items():
        if not low <= value <= high:
            raise UsageError(f"augment.{name} {value:g}: allowed is {low:g} to {high:g}")


def check_p(part: Any) -> None:
    """Refuses a probability `p` of a part that is none."""
    check(0, 1, **{f"{type(part).__name__}.p": part.p})


def check_range(high: float | None = None, **values: tuple[float, float]) -> None:
    """Refuses pairs that are no range of positive numbers.

    Args:
        high: Largest allowed value; any by default.
        **values: Smallest and largest by the option's name.
    """
    for name, pair in values.items():
        if len(pair) != 2 or not 0 < pair[0] <= pair[1] or (high is not None and pair[1] > high):
            most = "" if high is None else f" and at most {high:g}"
            raise UsageError(f"augment.{name} {tuple(pair)}: give smallest and largest, both above 0{most}")
