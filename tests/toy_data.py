"""A data module of a few tiny images, for tests of what does not depend on a label format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from visionkit.data import Split, VisionDataModule
from visionkit.images import ImageSource
from visionkit.types import Sample


class ToyData(VisionDataModule):
    """Dark and light noise images, distinguished by their brightness.

    Args:
        count: Images in each split; an odd number does not divide by two processes.
        **kwargs: Kwargs of `VisionDataModule`.
    """

    def __init__(self, count: int = 21, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count = count

    @classmethod
    def discover_classes(cls, **init_args: Any) -> list[str]:
        return ["dark", "light"]

    def dataset(self, split: Split) -> Sequence[Sample]:
        start = {"train": 0, "val": 1000, "test": 2000}[split]
        return [_sample(start + k) for k in range(self.count)]


def _sample(number: int) -> Sample:
    rng = np.random.default_rng(number)
    light = number % 2
    pixels = rng.integers(0, 120, (24, 30, 3)) + 120 * light
    return Sample.of(
        ImageSource(pixels.astype(np.uint8), name=f"toy-{number}"), {"labels": np.int64(light)}, f"toy-{number}"
    )
