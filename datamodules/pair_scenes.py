"""Drawn pairs of images as ready data: stereo and optical flow with exact truth, no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np

from visionkit.augmentation import Augmentation
from visionkit.data import Split, VisionDataModule
from visionkit.errors import UsageError, suggest
from visionkit.images import ImageSource
from visionkit.synthetic import ClipSettings
from visionkit.synthetic.pairs import FlowPair, StereoPair, draw_flow_pair, draw_stereo_pair
from visionkit.types import Sample

PairTarget = Literal["disparity", "flow"]

_FIRST: dict[Split, int] = {"train": 0, "val": 1_000_000_000, "test": 2_000_000_000}

_KEPT_BYTES = 1 << 29
"""Bytes of pairs that a process keeps."""


class PairSceneData(VisionDataModule):
    """Pairs drawn on the way, the same ones for the same seed.

    Args:
        target: `disparity`, of rectified pairs `left` and `right`; or `flow`, of frames `first` and `second`.
        count: Training pairs.
        eval_count: Pairs of validation and of test, each.
        clip: How they are drawn: size, objects, speed, noise and others; the number of frames follows from `gap`.
        gap: For flow, smallest and largest number of frames from the first to the second, drawn for each pair; motion
            grows with it.
        baseline: Smallest and largest distance of the two cameras in meters; of each pair another one. What is near is
            3 meters away.
        pair_seed: Another one gives other pairs; the run's seed does not change them.
        augment: Changes training samples, see `PairAugment`.
        **base: See `VisionDataModule`.

    Example:
        >>> data = PairSceneData("flow", count=8)
        >>> data.samples("train")[0].target["flow"].shape
        (2, 128, 160)
    """

    def __init__(
        self,
        target: PairTarget = "flow",
        *,
        count: int = 500,
        eval_count: int = 50,
        clip: ClipSettings | None = None,
        gap: tuple[int, int] = (1, 8),
        baseline: tuple[float, float] = (0.1, 0.3),
        pair_seed: int = 0,
        augment: Augmentation | None = None,
        **base: Any,
    ) -> None:
        super().__init__(augment=augment, **base)
        if target not in (allowed := get_args(PairTarget)):
            raise UsageError(f"data.target {target!r}: allowed are {', '.join(allowed)}{suggest(target, allowed)}")
        if min(count, eval_count) < 1:
            raise UsageError(f"PairSceneData: count {count} and eval_count {eval_count} must be at least 1")
        if not 0 < baseline[0] <= baseline[1] <= 1:
            raise UsageError(f"data.baseline {list(baseline)}: give the smallest and the largest, above 0 to 1 meter")
        self.target, self.counts = target, {"train": count, "val": eval_count, "test": eval_count}
        if not 1 <= gap[0] <= gap[1] <= 100:
            raise UsageError(f"data.gap {list(gap)}: give the smallest and the largest number of frames, 1 to 100")
        self.gap = (int(gap[0]), int(gap[1]))
        self.clip = replace(
            clip or ClipSettings(size=(128, 160), speed=0.03, camera_speed=0.15), length=self.gap[1] + 1
        )
        self.baseline, self.pair_seed = (float(baseline[0]), float(baseline[1])), pair_seed

    @classmethod
    def discover_classes(cls, **init_args: Any) -> list[str]:
        """None: pairs have no classes."""
        return []

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The pairs of one split; each is drawn when it is first asked for, and kept."""
        return _Pairs(self, _FIRST[split], self.counts[split])


class _Pairs(Sequence[Sample]):
    def __init__(self, data: PairSceneData, first: int, pairs: int) -> None:
        self.data, self.first, self.pairs = data, first, pairs
        self.kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return self.pairs

    @property
    def ids(self) -> list[str]:
        """What the samples will be called; none is drawn for it."""
        return [self._name(number) for number in range(self.pairs)]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        number = range(self.pairs)[index]
        if number not in self.kept:
            sample = self._draw(number)
            if len(self.kept) >= max(1, _KEPT_BYTES // _bytes(sample)):
                self.kept.pop(next(iter(self.kept)))
            self.kept[number] = sample
        return self.kept[number]

    def _name(self, number: int) -> str:
        return f"pair-{self.first + number}"

    def _draw(self, number: int) -> Sample:
        data, name = self.data, self._name(number)
        pair: StereoPair | FlowPair
        if data.target == "flow":
            pair = draw_flow_pair(data.pair_seed, self.first + number, data.clip, data.gap)
            images = {"first": pair.first, "second": pair.second}
        else:
            pair = draw_stereo_pair(data.pair_seed, self.first + number, data.clip, data.baseline)
            images = {"left": pair.left, "right": pair.right}
        inputs = {key: ImageSource(image, f"{name}/{key}") for key, image in images.items()}
        return Sample(inputs, pair.target(), name)


def _bytes(sample: Sample) -> int:
    known: Any = sample.target
    return sum(np.asarray(each).nbytes for each in known.values()) + 6 * sample.image.size[0] * sample.image.size[1]
