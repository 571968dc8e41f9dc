"""Metrics of a running server, written as Prometheus' text by its own client library.

Several processes that serve one port share them by files, which the library reads and adds up whichever process is
asked; what a process that ended had counted stays, see `ui.server.metrics_files`, so no counter falls. The environment
variable `SHARED` names the folder.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.multiprocess import MultiProcessCollector

from ui.server.metrics_files import SERIES, locked

__all__ = ["CONTENT_TYPE", "SHARED", "Metrics"]

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder; the library reads it when it is imported."""

EVERY = 0.5
"""Seconds after which a process writes its gauges for the others."""

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends in seconds; one without end follows."""

Figure = TypeVar("Figure", Counter, Histogram)

disable_created_metrics()  # otherwise each series has a second one, of when it began


class Metrics:
    """Counters, histograms and gauges of one server. Safe to call from several threads."""

    def __init__(self) -> None:
        self._registry, self._lock = CollectorRegistry(), threading.Lock()
        self._is_shared, self._gauges = bool(os.environ.get(SHARED)), list[tuple[Gauge, Callable[[], float]]]()
        self._figures: dict[str, Any] = {}
        self._series: dict[str, set[tuple[str, ...]]] = {}

    def count(self, name: str, message: str, **labels: str) -> None:
        """Adds one to a counter."""
        self._series_of(Counter, name, message, labels).inc()

    def observe(self, name: str, message: str, seconds: float, **labels: str) -> None:
        """Adds a time to a histogram."""
        self._series_of(Histogram, name, message, labels, buckets=BUCKETS).observe(seconds)

    def gauge(self, name: str, message: str, read: Callable[[], float], largest: bool = False) -> None:
        """Something that is read when the metrics are asked for; of other processes, as it was half a second ago.

        Args:
            name: Name of the metric.
            message: What it is.
            read: Gives the value.
            largest: Of several processes the largest value is given; otherwise their sum.
        """
        mode = "livemax" if largest else "livesum"
        gauge = Gauge(name, message, registry=self._registry, multiprocess_mode=mode)  # type: ignore[arg-type]
        if not self._is_shared:
            gauge.set_function(read)
            return
        if not self._gauges:
            threading.Thread(target=self._refresh_often, name="metrics", daemon=True).start()
        self._gauges.append((gauge, read))

    def text(self) -> str:
        """All metrics, those of the other processes with them where there are such."""
        if not self._is_shared:
            return generate_latest(self._registry).decode()
        self._refresh()
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        for _ in range(5):
            with contextlib.suppress(struct.error, RuntimeError):  # a file that another process begins just now
                return self._read(registry)
            time.sleep(0.01)
        return self._read(registry)

    def _read(self, registry: CollectorRegistry) -> str:
        with locked(Path(os.environ[SHARED])):
            return generate_latest(registry).decode()

    def _refresh(self) -> None:
        for gauge, read in list(self._gauges):
            gauge.set(read())

    def _refresh_often(self) -> None:
        while True:
            self._refresh()
            time.sleep(EVERY)

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
