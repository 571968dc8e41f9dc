"""The metrics of all heads as one, and the number that stands for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from visionkit.task import VisionTask


class JointMetrics:
    """The metrics of every head under `<head>/<metric>`, and their `score`.

    The metrics themselves belong to the heads' tasks, which feed them; this reads and resets them together.

    Args:
        tasks: The task of each head by name.
    """

    PROTOCOL = (
        "mean over the heads of the metric that each is chosen by, m where more is better and 1 / (1 + m) where less is"
    )

    def __init__(self, tasks: Mapping[str, VisionTask]) -> None:
        self._tasks = dict(tasks)
        self._seen: set[str] = set()

    def seen(self, name: str) -> None:
        """States that a head was measured since the last reset."""
        self._seen.add(name)

    def compute(self) -> dict[str, Tensor]:
        """All that was measured, by all processes together."""
        out: dict[str, Tensor] = {}
        scores = []
        for name in self._measured():
            task = self._tasks[name]
            computed: dict[str, Any] = task.metrics.compute()
            out |= {f"{name}/{key}": value for key, value in computed.items()}
            key, direction = task.monitor
            value = computed[key.partition("/")[2]].float().cpu()
            scores.append(self.score(value, direction))
        if scores:
            out["score"] = torch.stack(scores).mean()
        return out

    @staticmethod
    def score(value: Any, direction: str) -> Any:
        """What a head adds to the score, see `PROTOCOL`."""
        return value if direction == "max" else 1 / (1 + value)

    def _measured(self) -> list[str]:
        """Heads that any process has measured, in one order."""
        seen = [name for name in self._tasks if name in self._seen]
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return seen
        gathered: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(gathered, seen)
        return [name for name in self._tasks if any(name in each for each in gathered)]

    def reset(self) -> None:
        """Begins again."""
        self._seen.clear()
        for task in self._tasks.values():
            task.metrics.reset()
