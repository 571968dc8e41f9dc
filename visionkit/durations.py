"""Lengths of time as people write and read them: `10m`, `1h30m`, `about 38 s`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

from visionkit.errors import UsageError

_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}


def seconds_of(given: str | timedelta | Mapping[str, float], option: str) -> float:
    """The seconds of a length of time.

    Args:
        given: `90s`, `10m`, `2h`, `1h30m`, Lightning's `DD:HH:MM:SS`, a timedelta, or a mapping of its arguments.
        option: Name of the option, for the message.

    Raises:
        UsageError: It is none of these, or not above 0.
    """
    if isinstance(given, Mapping):
        given = timedelta(**given)
    if isinstance(given, timedelta):
        seconds = given.total_seconds()
    else:
        text = str(given).replace(" ", "")
        if found := re.fullmatch(r"(\d+):(\d\d):(\d\d):(\d\d)", text):
            seconds = sum(int(part) * unit for part, unit in zip(found.groups(), _UNITS.values(), strict=True))
        elif re.fullmatch(r"(?:\d+(?:\.\d+)?[dhms])+", text, re.IGNORECASE):
            parts = re.findall(r"([\d.]+)([a-z])", text.lower())
            seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        else:
            raise UsageError(f"{option} {given}: give a time such as 90s, 10m, 2h, 1h30m or 00:01:30:00 (DD:HH:MM:SS)")
    if seconds <= 0:
        raise UsageError(f"{option} {given}: must be above 0")
    return seconds


def duration_text(seconds: float, exact: bool = False) -> str:
    """A length of time in two digits or so, as `0.4 s`, `38 s`, `12 min`, `3.1 h`; or as it is given, `90s`, `1h30m`.

    Args:
        seconds: Its seconds.
        exact: In the form that `seconds_of` reads.
    """
    if exact:
        parts = []
        for name, unit in _UNITS.items():
            number = seconds // unit if unit > 1 else round(seconds, 3)
            seconds -= number * unit
            parts += [f"{number:g}{name}"] if number else []
        return "".join(parts)
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"
