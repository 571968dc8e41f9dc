"""Means of named losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class TermLog:
    """Sums named losses on the device, so that a training step never waits for it."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._sums: Tensor | None = None
        self._weight = 0.0
        self._flushed: dict[str, float] = {}
        self._flushed_weight = 0.0

    def add(self, terms: Mapping[str, Tensor], values: Tensor, weight: float = 1.0) -> None:
        """Adds one step's terms; `values` are the same numbers stacked, detached."""
        if self._sums is None or len(self._names) != len(terms):
            self._names = list(terms)
            self._sums = torch.zeros(len(terms), dtype=torch.float64 if values.device.type == "cpu" else torch.float32)
            self._sums = self._sums.to(values.device)
            self._weight = 0.0
        self._sums.add_(values, alpha=weight)
        self._weight += weight

    def flush(self, reduce: bool = False) -> dict[str, Tensor]:
        """Means since the last flush: `loss` and, where there are several, `loss_<term>`.

        Args:
            reduce: Add up over all processes first, in one message.
        """
        if self._sums is None or not self._weight:
            return {}
        packed = torch.cat([self._sums, self._sums.new_tensor([self._weight])])
        if reduce and torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(packed)
        packed = packed.cpu()
        out = self._named((packed[:-1] / packed[-1]).float())
        for name, value in out.items():
            self._flushed[name] = self._flushed.get(name, 0.0) + float(value) * float(packed[-1])
        self._flushed_weight += float(packed[-1])
        self._sums, self._weight = None, 0.0
        return out

    def begin_epoch(self) -> None:
        """Starts the running means again."""
        self._flushed, self._flushed_weight = {}, 0.0

    def running(self) -> dict[str, float]:
        """Means since the epoch began, under the names of `flush`; waits for the device."""
        sums, weight = dict(self._flushed), self._flushed_weight
        if self._sums is not None and self._weight:
            weight += self._weight
            for name, value in self._named(self._sums.cpu()).items():
                sums[name] = sums.get(name, 0.0) + float(value)
        return {name: value / weight for name, value in sums.items()} if weight else {}

    def _named(self, terms: Tensor) -> dict[str, Tensor]:
        out = {"loss": terms.sum()}
        if len(self._names) > 1:
            out |= {f"loss_{name}": value for name, value in zip(self._names, terms, strict=True)}
        return out
