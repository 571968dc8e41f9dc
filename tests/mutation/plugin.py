"""What pytest does in a child of the mutation run: notes which test reaches which line, or runs a choice of tests."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

import pytest


class Lines:
    """Notes the lines of one file that each test reaches, its fixtures included.

    Attributes:
        reached: Lines by test.
        seconds: Seconds by test.
        failed: Tests that fail without any change.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.reached: dict[str, set[int]] = {}
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        lines: set[int] = set()

        def inside(frame: FrameType, event: str, _: Any) -> Any:
            lines.add(frame.f_lineno)
            return inside

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            if frame.f_code.co_filename != self.path:
                return None
            lines.add(frame.f_lineno)
            return inside

        begin = time.monotonic()
        threading.settrace(trace)
        sys.settrace(trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            self.reached[item.nodeid] = lines
            self.seconds[item.nodeid] = time.monotonic() - begin

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


class Choice:
    """Runs some tests, in the given order, and notes what ended the run.

    Attributes:
        killer: The first test that failed.
    """

    def __init__(self, tests: Sequence[str] | None) -> None:
        self.tests = tests
        self.killer = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.tests is not None:
            place = {name: number for number, name in enumerate(self.tests)}
            items[:] = sorted((each for each in items if each.nodeid in place), key=lambda each: place[each.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.killer:
            self.killer = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.killer:
            self.killer = report.nodeid
