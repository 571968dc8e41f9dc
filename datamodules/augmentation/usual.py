"""The preset that suits a kind of labels, for whoever has chosen no augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from datamodules.augmentation.pairs import PairAugment
from datamodules.augmentation.presets import (
    ClassificationAugment,
    DenseAugment,
    FaceAugment,
    ObjectAugment,
    PoseAugment,
)
from visionkit.augmentation import SampleAugment, composed
from visionkit.skeleton import Skeleton

_PRESETS: tuple[tuple[str, Callable[[], SampleAugment]], ...] = (
    ("keypoints", PoseAugment),
    ("boxes", ObjectAugment),
    ("flow", PairAugment),
    ("disparity", PairAugment),
    ("label_map", DenseAugment),
    ("depth", DenseAugment),
    ("identity", FaceAugment),
    ("labels", ClassificationAugment),
)


def usual_augment(target: Mapping[str, Any], skeleton: Skeleton | None = None) -> SampleAugment | None:
    """The preset for labels of a kind, with its default options.

    Args:
        target: Target of a sample, see `visionkit.types.Target`.
        skeleton: Skeleton of its keypoints, whose flip pairs exchange their names in flipped images.

    Returns:
        None where no preset is for such labels: degraded and reduced images are cut by their data module.
    """
    heads: Iterable[Mapping[str, Any]] = target.get("heads", {}).values()
    keys = set(target).union(*heads)
    preset = next((preset for key, preset in _PRESETS if key in keys), None)
    made: SampleAugment | None = None if preset is None else composed(preset(), skeleton)
    return made
