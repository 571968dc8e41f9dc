"""What a sample of restoration holds: the degraded image, what else the network takes, and the clean one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from datamodules.degradations import DegradationChain, Degraded
from visionkit.errors import UsageError
from visionkit.images import ImageSource

CONDITIONS = ("mask", "noise_level")
"""The further inputs that a network may take."""

_PARTS = {"mask": "a part that makes holes, such as FreeFormHoles,", "noise_level": "a part that adds noise"}


def conditions_of(trainer: Any, chain: DegradationChain) -> tuple[str, ...]:
    """Further inputs of the samples: those that the model takes, or without a model a mask where there are holes.

    Args:
        trainer: The data module's trainer, or None.
        chain: What degrades the images.
    """
    task = None if trainer is None else trainer.lightning_module
    if task is None:
        return tuple(name for name in ("mask",) if name in chain.conditions)
    return tuple(name for name in task.inputs if name in CONDITIONS)


def check_conditions(conditions: Sequence[str], made: frozenset[str], split: str) -> None:
    """Refuses inputs that nothing makes.

    Args:
        conditions: Further inputs of the network.
        made: Those that the degradations make.
        split: Names the images.

    Raises:
        UsageError: With what to add.
    """
    for name in conditions:
        if name not in made:
            raise UsageError(
                f"data: the network takes the input {name}, and the {split} images come without one; add "
                f"{_PARTS[name]} to data.degradations"
            )


def inner(degraded: Degraded, top: int, left: int, height: int, width: int) -> Degraded:
    """A part of a degraded image."""
    if degraded.image.shape[:2] == (height, width):
        return degraded
    rows, columns = slice(top, top + height), slice(left, left + width)
    mask, level = (None if each is None else each[rows, columns] for each in degraded[1:])
    return Degraded(degraded.image[rows, columns], mask, level)


def inputs_of(degraded: Degraded, whole: bool, conditions: Sequence[str], name: str) -> Mapping[str, ImageSource]:
    """The inputs of a sample.

    Args:
        degraded: The degraded image.
        whole: It is of whole gray levels, so it is given as uint8.
        conditions: Further inputs of the network.
        name: Names the image.

    Returns:
        `image`, a `mask` that is 255 where the image is missing and 0 elsewhere, a `noise_level` in gray levels.
    """
    pixels = np.ascontiguousarray(degraded.image)
    inputs = {"image": source_of(pixels.astype(np.uint8) if whole else pixels, name)}
    for condition in conditions:
        known = getattr(degraded, condition)
        assert known is not None
        values = known.astype(np.uint8) * 255 if condition == "mask" else known
        inputs[condition] = source_of(np.ascontiguousarray(values[:, :, None]), name)
    return inputs


def source_of(pixels: np.ndarray, name: str) -> ImageSource:
    """An image in memory, (h, w, C) uint8, or float32 on a scale of 0 to 255."""
    return ImageSource(pixels, name, white=None if pixels.dtype == np.uint8 else 255.0)


def pixels_of(source: ImageSource) -> np.ndarray:
    """The array of an image that `source_of` made."""
    values = source.undecoded_values()
    return source.read_as_is() if values is None else values


def planes(image: np.ndarray) -> np.ndarray:
    """(h, w, C) as (C, h, w), copied: what a cache holds is not to be written to, and a tensor can be."""
    return np.array(image, order="C").transpose(2, 0, 1)
