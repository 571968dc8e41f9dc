"""What each image adds to the metrics of a task, so that they can be computed of any selection of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from visionkit.types import Batch
from visionkit.uncertainty.resampling import LEVEL, Interval, Intervals, Units, interval_of

_AGREE = 1e-4
"""A metric computed of all images once must equal the one that was measured; otherwise it gets no interval."""


class Resampler(Protocol):
    """Computes metrics of images with weights."""

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(r, N) weights to (r,) values of each metric, NaN where there is nothing to measure."""
        ...


@runtime_checkable
class JoinableResampler(Resampler, Protocol):
    """A resampler of one model that can be joined with that of another, where predictions of two models mix."""

    def joined(self, other: Any) -> Resampler:
        """One for the images of both, the other's behind these."""
        ...


class SummedMetric(Metric):
    """A metric whose states are sums over images, of which it can be computed with weights.

    A subclass whose `compute` needs other states than such sums overrides both methods.

    Attributes:
        biased: Metrics that resampling moves to one side, such as errors that noise alone makes larger. They get no
            interval: it would seldom hold the true value.
    """

    biased: ClassVar[tuple[str, ...]] = ()

    def image_sums(self) -> dict[str, Tensor]:
        """What adds up over images; all states by default."""
        return {name: state for name, state in self.metric_state.items() if isinstance(state, Tensor)}

    def of_image_sums(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The scalar metrics of weighted sums, float64 each."""
        before = self.metric_state
        try:
            for name, value in sums.items():
                setattr(self, name, value)
            found = type(self).compute(self)  # without what torchmetrics wraps around it
            return {name: value for name, value in found.items() if value.numel() == 1}
        finally:
            for name, state in before.items():
                setattr(self, name, state)


class ImageSums:
    """The sums of each image, as a sparse matrix: `take` after each image, `close` after the last."""

    def __init__(self, metric: SummedMetric) -> None:
        self.metric = metric
        self.shapes = {name: value.shape for name, value in metric.image_sums().items()}
        self._before = self._vector()
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []
        self.matrix: Any = None

    def _vector(self) -> np.ndarray:
        flat = [value.detach().double().flatten() for value in self.metric.image_sums().values()]
        return np.asarray(torch.cat(flat).cpu().numpy())

    def take(self) -> None:
        """Takes what was added since the last call, for one image."""
        now = self._vector()
        added, self._before = now - self._before, now
        at = np.flatnonzero(added)
        self._parts.append((at, added[at]))

    def close(self) -> None:
        from scipy.sparse import csr_array

        ends = np.cumsum([0, *(len(at) for at, _ in self._parts)])
        at = np.concatenate([np.zeros(0, np.int64), *(at for at, _ in self._parts)])
        values = np.concatenate([np.zeros(0), *(value for _, value in self._parts)])
        self.matrix = csr_array((values, at, ends), shape=(len(self._parts), len(self._before)))
        self._parts = []

    def joined(self, other: ImageSums) -> ImageSums:
        from scipy.sparse import vstack

        both = object.__new__(ImageSums)
        both.metric, both.shapes, both.matrix = self.metric, self.shapes, vstack([self.matrix, other.matrix]).tocsr()
        return both

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        sizes = [shape.numel() for shape in self.shapes.values()]
        rows: list[dict[str, float]] = []
        step = max(1, (1 << 24) // max(sum(sizes), 1))
        for start in range(0, len(weights), step):
            whole = torch.from_numpy(np.ascontiguousarray((self.matrix.T @ weights[start : start + step].T).T))
            for row in whole:
                parts = zip(self.shapes.items(), row.split(sizes), strict=True)
                found = self.metric.of_image_sums({name: part.view(shape) for (name, shape), part in parts})
                left = (each for each in found.items() if each[0] not in self.metric.biased)
                rows.append({name: float(value) for name, value in left})
        return by_name(rows)


def by_name(rows: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """(r,) values by name of one mapping per replicate, NaN where a replicate has none of that name."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}


class ImageRecord:
    """Takes what each image adds to the metrics of a task while a split is measured.

    Metrics that add up (`SummedMetric`), and those that keep their images and have a method `resampler`, can be
    computed of other selections of images afterwards; all others are left alone.

    Args:
        task: Task that is measured; `measure` is called in place of its own.
    """

    def __init__(self, task: Any) -> None:
        self._measure = task.measure
        self._metrics = _metrics_of(task)
        self._sums = [ImageSums(metric) for metric in self._metrics if isinstance(metric, SummedMetric)]
        self._groups: list[tuple[str, str]] = []
        self._labels: list[int | None] = []
        self.ids: list[str] = []
        self.resamplers: list[Resampler] = []

    @property
    def is_empty(self) -> bool:
        """Whether no metric of the task can be taken apart."""
        return not self._sums and not any(hasattr(metric, "resampler") for metric in self._metrics)

    def measure(self, decoded: Any, batch: Batch) -> None:
        """Measures the images of a batch one by one."""
        if self.is_empty:
            self._measure(decoded, batch)
            return
        count = len(batch["id"])
        for row in range(count):
            one: Any = picked(batch, row, count)
            self._measure(picked(decoded, row, count), one)
            for part in self._sums:
                part.take()
            self.ids.append(str(batch["id"][row]))
            self._groups.append(group_of(one))
            self._labels.append(_label(one["target"]))

    def close(self) -> None:
        """Called before the metrics are reset."""
        for part in self._sums:
            part.close()
        kept = [metric.resampler() for metric in self._metrics if hasattr(metric, "resampler")]
        self.resamplers = [*self._sums, *kept]
        self.units = units_of(self._groups, self._labels)

    def joined(self, other: ImageRecord) -> list[Resampler]:
        """Resamplers of the images of both, without those whose predictions do not mix."""
        return all_joined(self.resamplers, other.resamplers)

    def values(self, weights: Iterator[np.ndarray]) -> dict[str, np.ndarray]:
        """The replicates of each metric for weights in chunks."""
        return computed(self.resamplers, weights)

    def intervals(self, results: Mapping[str, float], split: str, replicates: int, seed: int) -> Intervals:
        """Bootstrap intervals of what was measured.

        Args:
            results: What was measured, by full name.
            split: What stands before the slash.
            replicates: Number of replicates.
            seed: Random seed.
        """
        named = {name: name.partition("/")[2] for name in results if name.startswith(f"{split}/")}
        named = {name: key for name, key in named.items() if not key.startswith("loss")}
        if self.is_empty or not self.ids:
            return Intervals({}, "", tuple(named))
        return intervals_of(self.resamplers, self.units, named, results, replicates, seed)


def intervals_of(
    resamplers: Sequence[Resampler],
    units: Units,
    named: Mapping[str, str],
    results: Mapping[str, float],
    replicates: int,
    seed: int,
) -> Intervals:
    """Bootstrap intervals of metrics.

    Args:
        resamplers: Compute them of images with weights.
        units: What is drawn.
        named: For each metric its name among what the resamplers compute.
        results: What was measured.
        replicates: Number of replicates.
        seed: Random seed.
    """
    whole = computed(resamplers, iter([np.ones((1, len(units.of_image)))]))
    drawn = computed(resamplers, units.draws(replicates, seed))
    left_out = computed(resamplers, iter([units.left_out(seed)]))
    bounds: dict[str, Interval] = {}
    for name, key in named.items():
        if key in drawn and abs(whole[key][0] - results[name]) <= _AGREE * max(1.0, abs(results[name])):
            parts = left_out.get(key, np.zeros(0))  # none where there is one unit alone
            found = interval_of(float(whole[key][0]), drawn[key], parts, units)
            if found is not None:
                bounds[name] = found
    missing = tuple(name for name in named if name not in bounds and np.isfinite(results[name]) and results[name] != -1)
    if not bounds:
        return Intervals({}, "", missing)
    stratified = f", stratified by {units.strata_kind}" if units.is_stratified else ""
    method = (
        f"{100 * LEVEL:g} % intervals (BCa, expanded) of {replicates:,} bootstrap replicates by {units.kind}"
        f"{stratified}, seed {seed}"
    )
    return Intervals(bounds, method, missing)


def all_joined(first: Sequence[Resampler], second: Sequence[Resampler]) -> list[Resampler]:
    """The resamplers of two models joined one by one, without those whose predictions do not mix."""
    pairs = zip(first, second, strict=True)
    return [ours.joined(theirs) for ours, theirs in pairs if isinstance(ours, JoinableResampler)]


def computed(resamplers: Sequence[Resampler], weights: Iterator[np.ndarray]) -> dict[str, np.ndarray]:
    """The replicates of all metrics for weights in chunks."""
    chunks = [{name: value for part in resamplers for name, value in part(each).items()} for each in weights]
    names = dict.fromkeys(name for chunk in chunks for name in chunk)
    sizes = [len(next(iter(chunk.values()))) if chunk else 0 for chunk in chunks]
    return {
        name: np.concatenate([c.get(name, np.full(n, np.nan)) for c, n in zip(chunks, sizes, strict=True)])
        for name in names
    }


def picked(value: Any, row: int, count: int) -> Any:
    """One image of what belongs to a batch: a batch of one.

    Args:
        value: Tensors and lists by image, in mappings and named tuples.
        row: Number of the image.
        count: Images of the batch.

    Raises:
        TypeError: Something that belongs to no images.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {key: picked(each, row, count) for key, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(picked(each, row, count) for each in value))
    if isinstance(value, (Tensor, np.ndarray, list, tuple)) and len(value) == count:
        return value[row : row + 1]
    raise TypeError(f"a {type(value).__name__} of the batch does not belong to its {count} images")


def _metrics_of(task: Any) -> list[Any]:
    metrics = task.metrics
    if isinstance(metrics, MetricCollection):
        return list(metrics.values())
    return [metrics] if isinstance(metrics, Metric) else []


def group_of(one: Any) -> tuple[str, str]:
    """What a batch of one image is drawn together with: the type of group, and its name.

    Frames of a video depend on each other; so do all pairs of images that one person is in, and all crops of an image.
    """
    target = one["target"]
    if one.get("sequence") and one["sequence"][0]:
        return "sequence", str(one["sequence"][0])
    if isinstance(target, Mapping) and "identity" in target:
        return "identity", str(int(target["identity"][0]))
    if isinstance(target, Mapping) and "match" in target:
        return "pair", ""  # the same pair may be listed twice
    return "image", str(one["id"][0]) if _label(target) is None else ""


def units_of(groups: Sequence[tuple[str, str]], labels: Sequence[int | None]) -> Units:
    """Units of images in their order.

    Args:
        groups: What `group_of` gave for each.
        labels: Class of each, or None.
    """
    kinds = {kind for kind, _ in groups}
    kind = next((each for each in ("sequence", "identity", "pair") if each in kinds), "image")
    return Units.of([name for _, name in groups], labels, kind)


def _label(target: Any) -> int | None:
    labels = target.get("labels", target.get("match")) if isinstance(target, Mapping) else None
    single = isinstance(labels, Tensor) and labels.ndim == 1 and not labels.is_floating_point()
    return int(labels[0]) if single and labels is not None else None
