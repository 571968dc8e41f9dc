"""Lengths of time, as they are given and stated."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from visionkit.arguments import check_arguments
from visionkit.durations import duration_text, seconds_of
from visionkit.errors import UsageError


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("2h", 7_200),
        ("1h30m", 5_400),
        ("1.5h", 5_400),
        ("1H 30M", 5_400),
        ("1d", 86_400),
        ("01:02:03:04", 86_400 + 7_200 + 180 + 4),
        (timedelta(minutes=3), 180),
        ({"hours": 1, "seconds": 5}, 3_605),
    ],
)
def test_a_time_is_read_in_every_form(given: Any, seconds: float) -> None:
    assert seconds_of(given, "max_time") == seconds
    assert seconds_of(duration_text(seconds, exact=True), "max_time") == seconds


@pytest.mark.parametrize("given", ["10", "ten minutes", "10:00", "1:00:00", "m", "10x", "0s", "-5m", "1.2.3s"])
def test_other_forms_are_refused_before_anything_is_imported(given: str) -> None:
    with pytest.raises(UsageError, match=r"--max_time .*: (give a time such as 90s, 10m|must be above 0)"):
        check_arguments("fit", ["--max_time", given])


def test_null_takes_a_time_of_a_configuration_back() -> None:
    from jsonargparse import ArgumentParser

    from visionkit.cli import VisionCLI

    parser = ArgumentParser(exit_on_error=False)
    VisionCLI.add_arguments_to_parser(SimpleNamespace(_verb="fit"), parser)  # type: ignore[arg-type]
    configured = parser.parse_object({"max_time": "75m"})
    assert parser.parse_args(["--max_time", "null"], namespace=configured).max_time is None
    assert parser.parse_args(["--max_time", "10m", "--run", "2024"]).run == "2024"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.04 s"), (0.42, "0.4 s"), (38.4, "38 s"), (130, "2 min"), (11_000, "3.1 h")]
)
def test_a_time_is_stated_in_two_digits(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
