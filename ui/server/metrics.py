"""Metrics of a running server, written as Prometheus' text by its own client library."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE

__all__ = ["CONTENT_TYPE", "Metrics"]

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends in seconds; one without end follows."""

SERIES = 500
"""Series of one metric, at most: what is new above that is counted as "other"."""

Figure = TypeVar("Figure", Counter, Histogram)

disable_created_metrics()  # otherwise each series has a second one, of when it began


class Metrics:
    """Counters, histograms and gauges of one server. Safe to call from several threads."""

    def __init__(self) -> None:
        self._registry, self._lock = CollectorRegistry(), threading.Lock()
        self._figures: dict[str, Any] = {}
        self._series: dict[str, set[tuple[str, ...]]] = {}

    def count(self, name: str, message: str, **labels: str) -> None:
        """Adds one to a counter."""
        self._series_of(Counter, name, message, labels).inc()

    def observe(self, name: str, message: str, seconds: float, **labels: str) -> None:
        """Adds a time to a histogram."""
        self._series_of(Histogram, name, message, labels, buckets=BUCKETS).observe(seconds)

    def gauge(self, name: str, message: str, read: Callable[[], float]) -> None:
        """Something that is read when the metrics are asked for."""
        Gauge(name, message, registry=self._registry).set_function(read)

    def text(self) -> str:
        """All metrics."""
        return generate_latest(self._registry).decode()

    def _series_of(self, kind: type[Figure], name: str, message: str, labels: dict[str, str], **options: Any) -> Figure:
        with self._lock:
            if name not in self._figures:
                self._figures[name] = kind(name, message, sorted(labels), registry=self._registry, **options)
            known, values = self._series.setdefault(name, set()), tuple(labels[key] for key in sorted(labels))
            if values not in known and len(known) >= SERIES:
                values = ("other",) * len(values)
            known.add(values)
            figure: Figure = self._figures[name].labels(*values)
            return figure
