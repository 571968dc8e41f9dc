"""Figures of a running server in Prometheus' text format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/ states how the text reads.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends in seconds; one without end follows."""

SERIES = 500
"""Series of one figure, at most: what is new above that is counted as "other"."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters, histograms and gauges. Safe to call from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, dict[Labels, float]] = {}
        self._times: dict[str, dict[Labels, _Histogram]] = {}
        self._gauges: dict[str, Callable[[], float]] = {}
        self._help: dict[str, str] = {}

    def count(self, name: str, message: str, **labels: str) -> None:
        """Adds one to a counter."""
        with self._lock:
            self._help[name] = message
            series = self._counts.setdefault(name, {})
            key = _key(series, labels)
            series[key] = series.get(key, 0) + 1

    def observe(self, name: str, message: str, seconds: float, **labels: str) -> None:
        """Adds a time to a histogram."""
        with self._lock:
            self._help[name] = message
            series = self._times.setdefault(name, {})
            key = _key(series, labels)
            series.setdefault(key, _Histogram()).add(seconds)

    def gauge(self, name: str, message: str, read: Callable[[], float]) -> None:
        """Something that is read when the figures are asked for."""
        with self._lock:
            self._help[name], self._gauges[name] = message, read

    def text(self) -> str:
        """All figures."""
        lines: list[str] = []

        def begin(name: str, kind: str) -> None:
            message = self._help[name].replace("\\", "\\\\").replace("\n", "\\n")
            lines.extend((f"# HELP {name} {message}", f"# TYPE {name} {kind}"))

        with self._lock:
            gauges = list(self._gauges.items())
            for name, counts in self._counts.items():
                begin(name, "counter")
                lines.extend(f"{name}{_braced(key)} {_number(value)}" for key, value in counts.items())
            for name, times in self._times.items():
                begin(name, "histogram")
                for key, histogram in times.items():
                    lines.extend(histogram.lines(name, key))
            for name, _ in gauges:
                begin(name, "gauge")
                lines.append(name)
        # Read outside the lock: what is read may itself wait for somebody who counts.
        values = {name: _number(read()) for name, read in gauges}
        return "\n".join(f"{line} {values[line]}" if line in values else line for line in lines) + "\n"


class _Histogram:
    def __init__(self) -> None:
        self._counts, self._sum = [0] * (len(BUCKETS) + 1), 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self._sum += seconds

    def lines(self, name: str, key: Labels) -> list[str]:
        message, total = [], 0
        for end, count in zip((*map(_number, BUCKETS), "+Inf"), self._counts, strict=True):
            total += count
            message.append(f"{name}_bucket{_braced((*key, ('le', end)))} {total}")
        return [*message, f"{name}_sum{_braced(key)} {self._sum!r}", f"{name}_count{_braced(key)} {total}"]


def _key(series: Mapping[Labels, object], labels: Mapping[str, str]) -> Labels:
    key = tuple(sorted(labels.items()))
    return key if key in series or len(series) < SERIES else tuple((name, "other") for name, _ in key)


def _braced(key: Labels) -> str:
    if not key:
        return ""
    escaped = (
        (name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", " "))
        for name, value in key
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
