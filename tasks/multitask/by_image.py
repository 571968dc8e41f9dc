"""What each image adds to the metrics of every head, for intervals and comparisons of all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.multitask.metrics import JointMetrics
from tasks.multitask.postprocess import batch_of
from visionkit.types import Batch
from visionkit.uncertainty.by_image import ImageRecord, Resampler, all_joined, computed, group_of, picked, units_of

if TYPE_CHECKING:
    from tasks.multitask.task import MultiTask


class HeadsRecord(ImageRecord):
    """The records of all heads as one.

    An image is drawn for all heads that it has labels for. As many images of each combination of labels are drawn as
    there are, since data sets of different heads are sets of their own. A head that draws something else than images,
    such as people, has no intervals.

    Args:
        task: Task that is measured.
    """

    def __init__(self, task: MultiTask) -> None:
        self._task = task
        self.parts = {name: each.image_record() for name, each in task.tasks.items()}
        self._rows: dict[str, list[int]] = {name: [] for name in self.parts}
        self._groups: list[tuple[str, str]] = []
        self._labels: list[int | None] = []
        self._combinations: dict[tuple[str, ...], int] = {}
        self.ids: list[str] = []
        self.resamplers: list[Resampler] = []

    @property
    def is_empty(self) -> bool:
        return all(part.is_empty for part in self.parts.values())

    def measure(self, decoded: Mapping[str, Any], batch: Batch) -> None:
        labeled: list[list[str]] = [[] for _ in batch["id"]]
        for name, found in decoded.items():
            if name in batch["target"]["heads"]:
                self.parts[name].measure(found, batch_of(batch, name))
                self._task.metrics.seen(name)  # type: ignore[operator]
                for row in batch["target"]["heads"][name]["rows"].tolist():
                    labeled[row].append(name)
                    self._rows[name].append(len(self.ids) + row)
        facts: dict[str, Any] = {"id": batch["id"], "sequence": batch.get("sequence"), "target": None}
        for row, heads in enumerate(labeled):
            self._groups.append(group_of(picked(facts, row, len(labeled))))
            self._labels.append(self._combinations.setdefault(tuple(heads), len(self._combinations)))
        self.ids += [str(each) for each in batch["id"]]

    def close(self) -> None:
        for part in self.parts.values():
            part.close()
        self.units = replace(units_of(self._groups, self._labels), strata_kind="the heads that have labels")
        kept = [name for name, part in self.parts.items() if part.ids and part.units.kind in ("image", "sequence")]
        heads = {name: (self.parts[name].resamplers, np.array(self._rows[name], np.int64)) for name in kept}
        monitors = {name: self._task.tasks[name].monitor for name, part in self.parts.items() if self._rows[name]}
        self.resamplers = [WeightedHeads(heads, monitors, len(self.ids))]


class WeightedHeads:
    """The metrics of every head, and their score, of images with weights.

    Args:
        heads: For each head what computes its metrics, and the numbers of its images among all.
        monitors: For each head that was measured the metric that it is chosen by, and whether more is better.
        images: Number of images N.
    """

    def __init__(
        self,
        heads: Mapping[str, tuple[list[Resampler], np.ndarray]],
        monitors: Mapping[str, tuple[str, str]],
        images: int,
    ) -> None:
        self.heads, self.monitors, self.images = heads, monitors, images

    def joined(self, other: WeightedHeads) -> WeightedHeads:
        """One for the images of both."""
        heads = {}
        for name, (parts, rows) in self.heads.items():
            theirs, other_rows = other.heads[name]
            heads[name] = all_joined(parts, theirs), np.concatenate([rows, other_rows + self.images])
        return WeightedHeads(heads, self.monitors, self.images + other.images)

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(r, N) weights to (r,) values by name, NaN where there is nothing to measure."""
        out: dict[str, np.ndarray] = {}
        for name, (parts, rows) in self.heads.items():
            found = computed(parts, iter([weights[:, rows]]))
            out |= {f"{name}/{key}": value for key, value in found.items()}
        chosen = {f"{name}/{key.partition('/')[2]}": direction for name, (key, direction) in self.monitors.items()}
        if chosen.keys() <= out.keys():
            out["score"] = np.mean([JointMetrics.score(out[key], way) for key, way in chosen.items()], axis=0)
        return out
