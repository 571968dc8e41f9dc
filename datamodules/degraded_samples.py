"""What a sample of restoration holds: the degraded image, what else the network takes, and the clean one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from datamodules.degradations import DegradationChain, Degraded
from datamodules.image_store import ImageStore, PixelCache
from datamodules.patches import FileSamples
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.loading import EVALUATION_SEED, rng_for
from visionkit.mask_files import read_mask
from visionkit.preprocess import to_scale
from visionkit.types import Sample

CONDITIONS = ("mask", "noise_level")
"""The further inputs that a network may take."""

_PARTS = {"mask": "a part that makes holes, such as FreeFormHoles,", "noise_level": "a part that adds noise"}


def conditions_of(trainer: Any, made: Collection[str]) -> tuple[str, ...]:
    """Further inputs of the samples: those that the model takes, or without a model a mask where there are holes.

    Args:
        trainer: The data module's trainer, or None.
        made: Those that the degradations make.
    """
    task = None if trainer is None else trainer.lightning_module
    if task is None:
        return tuple(name for name in ("mask",) if name in made)
    return tuple(name for name in task.inputs if name in CONDITIONS)


def check_conditions(conditions: Sequence[str], made: frozenset[str], split: str, degraded: str | None = None) -> None:
    """Refuses inputs that nothing makes.

    Args:
        conditions: Further inputs of the network.
        made: Those that the degradations make.
        split: Names the images.
        degraded: Folder that the degraded images are read from, or None where they are made.

    Raises:
        UsageError: With what to add.
    """
    for name in conditions:
        if name not in made:
            advice = f"add {_PARTS[name]} to data.degradations"
            if degraded is not None:
                masks = "data.masks" if split == "train" else f"data.{split}_masks"
                of_files = {"mask": f"give their folder with --{masks}", "noise_level": "train a network without it"}
                advice = f"{of_files[name]}, or leave {degraded} out and {advice}"
            raise UsageError(
                f"data: the network takes the input {name}, and the {split} images come without one; {advice}"
            )


def inner(degraded: Degraded, top: int, left: int, height: int, width: int) -> Degraded:
    """A part of a degraded image."""
    if degraded.image.shape[:2] == (height, width):
        return degraded
    rows, columns = slice(top, top + height), slice(left, left + width)
    mask, level = (None if each is None else each[rows, columns] for each in degraded[1:])
    return Degraded(degraded.image[rows, columns], mask, level)


def without_margin(clean: np.ndarray, degraded: Degraded, margin: int, name: str) -> tuple[np.ndarray, Degraded]:
    """An image and its degraded form without the border that is not valid.

    Args:
        clean: (h, w, C).
        degraded: As large as it.
        margin: Pixels that are left out on every side, see `DegradationPart.margin`.
        name: Names the image.

    Raises:
        DataError: Nothing is left.
    """
    height, width = clean.shape[:2]
    if min(height, width) <= 2 * margin:
        raise DataError(
            f"{name}: {width}x{height} pixels, of which {margin} on every side are left out by the blur; nothing is "
            "left"
        )
    kept = inner(degraded, margin, margin, height - 2 * margin, width - 2 * margin)
    return clean[margin : height - margin, margin : width - margin], kept


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


def planes(image: np.ndarray, channels: int) -> np.ndarray:
    """(h, w, 1 or `channels`) as (channels, h, w), copied: a cache is not to be written to, and a tensor can be."""
    return np.array(np.broadcast_to(image, (*image.shape[:2], channels)), order="C").transpose(2, 0, 1)


def levels_of(source: ImageSource, channels: int) -> np.ndarray:
    """Decodes an image to (h, w, channels): uint8, or float32 on a scale of 0 to 255 where the file has more depth."""
    pixels = source.read(channels, bits=32)
    return to_scale(pixels) if pixels.dtype == np.uint16 else pixels


# ---------------------------------------------------------------------- samples


class Sources(NamedTuple):
    """Where the images of a split come from.

    Attributes:
        images: The clean images.
        cache: Decoded clean images, or None.
        partners: Degraded images, in the same order, or None where they are made of the clean ones.
        partner_cache: Decoded degraded images, or None.
        masks: Masks of what is missing, in the same order, or None.
    """

    images: ImageStore
    cache: PixelCache | None = None
    partners: ImageStore | None = None
    partner_cache: PixelCache | None = None
    masks: ImageStore | None = None


class DegradedImages(FileSamples):
    """Clean images, decoded to the channels that are needed, and degraded ones where they lie beside them.

    An image of one channel stays gray for a network of three, so its noise is gray too, as in a file that is served.
    """

    def __init__(self, sources: Sources, channels: int, white: float | None, times: int = 1) -> None:
        super().__init__(sources.images, sources.cache, sources.partners, times)
        self.partner_cache, self.channels, self.white = sources.partner_cache, channels, white
        self.masks = sources.masks
        self._gray: dict[int, bool] = {}

    def is_gray(self, number: int) -> bool:
        """Whether the file of that number, and that of its degraded form, have one channel."""
        if number not in self._gray:
            stores = (each for each in (self.store, self.partners) if each is not None)
            self._gray[number] = all(store.source(number).is_gray for store in stores)
        return self._gray[number]

    def image(self, number: int) -> np.ndarray:
        return self._decoded(self.store, self.cache, number)

    def partner(self, number: int) -> np.ndarray | None:
        return None if self.partners is None else self._decoded(self.partners, self.partner_cache, number)

    def mask(self, number: int) -> np.ndarray | None:
        """The mask of that number, (h, w) bool, true where the image is missing."""
        return None if self.masks is None else read_mask(self.masks.source(number))

    def _decoded(self, store: ImageStore, cache: PixelCache | None, number: int) -> np.ndarray:
        channels = 1 if self.is_gray(number) else self.channels
        if cache is not None:
            return cache.source(store, number, number).read(self.channels)[:, :, :channels]
        return levels_of(ImageSource(store.source(number), white=self.white), channels)


class TrainingImages(DegradedImages):
    """Each image as often as patches are cut out of it; `PatchAugment` cuts and degrades them."""

    def sample(self, number: int) -> Sample:
        name = self.store.name(number)
        clean, degraded, mask = self.image(number), self.partner(number), self.mask(number)
        target: Any = {} if degraded is None else {"clean": clean.transpose(2, 0, 1)}
        inputs = {"image": source_of(clean if degraded is None else degraded, name)}
        if mask is not None:
            inputs["mask"] = source_of(mask.astype(np.uint8)[:, :, None] * 255, name)
        return Sample(inputs, target, name)


class WholeImages(DegradedImages):
    """Whole images; what degrades them is the same in every epoch."""

    def __init__(
        self,
        sources: Sources,
        channels: int,
        white: float | None,
        chain: DegradationChain,
        conditions: tuple[str, ...],
    ) -> None:
        super().__init__(sources, channels, white)
        self.chain, self.conditions = chain, conditions

    def sample(self, number: int) -> Sample:
        name = self.store.name(number)
        clean, partner = self.image(number), self.partner(number)
        given = clean if partner is None else partner
        degraded = self.chain(given, rng_for(EVALUATION_SEED, 0, number), self.mask(number))
        clean, degraded = without_margin(clean, degraded, self.chain.margin, name)
        inputs = inputs_of(degraded, self.chain.leaves_levels(given.dtype == np.uint8), self.conditions, name)
        target: Any = {"clean": planes(clean, self.channels), "gray": np.bool_(self.is_gray(number))}
        return Sample(inputs, target, name)
