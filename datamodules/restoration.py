"""Images for restoration: the degraded image is made on the way, or lies beside the clean one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from datamodules.degradations import DegradationChain, Degradations
from datamodules.degraded_samples import (
    CONDITIONS,
    check_conditions,
    conditions_of,
    inner,
    inputs_of,
    pixels_of,
    planes,
    source_of,
)
from datamodules.image_store import ImageStore, PixelCache
from datamodules.pairing import list_matching, warn_of_turned
from datamodules.patch_data import PatchData
from datamodules.patches import FileSamples, cut_with_surroundings, filled, place_patch, turned
from datamodules.restoration_pairs import pair_degraded
from visionkit.augmentation import SampleAugment
from visionkit.data import Split
from visionkit.errors import DataError, UsageError, suggest
from visionkit.images import ImageSource
from visionkit.listing import Listing
from visionkit.loading import rng_for
from visionkit.preprocess import to_scale
from visionkit.types import Sample


class RestorationData(PatchData):
    """Folders of clean images; patches in training, whole images in validation and test.

    Images are degraded on the way by `degradations`, or their degraded form is read from a folder of its own. What is
    drawn depends on (seed, epoch, index) alone, and in validation and test not on the epoch. Images become gray where
    the network is, before anything else is done to them. The target is `clean`; the image is on the same scale of 0 to
    255, in floating point where it is not of whole gray levels.

    Args:
        root: Folder of the clean training images, searched deeply.
        degradations: What is done to clean images, in order: a part such as `GaussianNoise`, or a list of them.
        eval_degradations: The same for validation and test; by default as in training.
        degraded: Folder with the degraded training images; made by `degradations` by default. A file belongs to the
            clean one of the same path, but for what states which of the two it is, see `pair_degraded`.
        val_degraded: The same for `val_root`.
        test_degraded: The same for `test_root`.
        degraded_pattern: Pattern of the names of degraded files.
        conditions: Further inputs of the network, `mask` or `noise_level`; by default those that the model takes.
        flips: Flip and rotate clean patches by quarters, the eight ways alike, before they are degraded.
        **base: See `PatchData`.

    Example:
        >>> data = RestorationData("photos", degradations=[GaussianNoise(25)], input=task.input)
        >>> data.samples("val")[0].target["clean"].shape
        (3, 321, 481)
    """

    partner = "degraded images"

    def __init__(
        self,
        root: str = "",
        *,
        degradations: Degradations | None = None,
        eval_degradations: Degradations | None = None,
        degraded: str | None = None,
        val_degraded: str | None = None,
        test_degraded: str | None = None,
        degraded_pattern: str = "*",
        conditions: list[str] | None = None,
        flips: bool = True,
        **base: Any,
    ) -> None:
        super().__init__(root, **base)
        if self.augment is not None:
            raise UsageError("data.augment: RestorationData brings its own; set data.flips and data.degradations")
        if unknown := [name for name in conditions or () if name not in CONDITIONS]:
            raise UsageError(
                f"data.conditions {unknown[0]!r}: allowed are {', '.join(CONDITIONS)}{suggest(unknown[0], CONDITIONS)}"
            )
        train = DegradationChain(degradations)
        evaluated = (
            train if eval_degradations is None else DegradationChain(eval_degradations, "data.eval_degradations")
        )
        self.chains: dict[Split, DegradationChain] = {"train": train, "val": evaluated, "test": evaluated}
        self.partner_roots = {"train": degraded, "val": val_degraded, "test": test_degraded}
        self.degraded_pattern, self.flips, self._given_conditions = degraded_pattern, flips, conditions
        self.margin = train.margin
        self.augment = PatchAugment(self.patch_size, flips, train)

    def setup(self, stage: str) -> None:
        self._samples.clear()  # what was asked for before did not know the model's inputs
        super().setup(stage)

    def dataset(self, split: Split) -> Sequence[Sample]:
        """Training: every image `patches_per_image` times, to be cut. Validation and test: whole images."""
        chain, conditions = self.chain_of(split), self.conditions
        check_conditions(conditions, chain.conditions, split)
        channels = 3 if self.input is None else self.input.channels
        white = None if self.input is None else self.input.white
        if split == "train":
            self.margin = chain.margin
            self.augment = PatchAugment(self.patch_size, self.flips, chain, conditions)
            return _Training(self.sources(split, channels), channels, white, self.patches_per_image)
        return _Whole(self.sources(split, channels), channels, white, chain, conditions, self.seed)

    def chain_of(self, split: Split) -> DegradationChain:
        """What is done to the images of a split; nothing where their degraded form lies in a folder.

        Raises:
            UsageError: Nothing is.
        """
        chain = self.chains[split]
        if self._roots(split)[1] is not None:
            return DegradationChain(None)
        if not chain:
            option = "eval_degradations" if split != "train" and self.chains["train"] else "degradations"
            folder = "degraded" if split == "train" else f"{split}_degraded"
            raise UsageError(
                f"data: nothing degrades the {split} images; give --data.{option} GaussianNoise or another, or a "
                f"folder of degraded images with --data.{folder}"
            )
        return chain

    def sources(self, split: Split, channels: int) -> Sources:
        """Where the images of a split come from."""
        store, cache, partners = self.stores(split, channels)
        if partners is None:
            return Sources(store, cache)
        return Sources(
            store, cache, partners, PixelCache.for_images(partners, np.arange(len(partners)), channels, self.cache_mb)
        )

    @property
    def conditions(self) -> tuple[str, ...]:
        """Further inputs of the samples: those given, those of the model, or a mask where there are holes."""
        if self._given_conditions is not None:
            return tuple(self._given_conditions)
        return conditions_of(self.trainer, self.chains["train"])

    def made(self) -> str:
        names = " and ".join(type(part).__name__ for part in self.chains["train"].parts)
        return f"made by {names}" if names else "made"

    def partners(self, images: Listing, root: str) -> list[tuple[Path, Path]]:
        """Each clean image with its degraded one, of the same size by its header."""
        pairs = pair_degraded(images, list_matching(root, self.degraded_pattern, "degraded_pattern"))
        sources = [ImageSource(clean) for clean, _ in pairs]
        for clean, (_, path) in zip(sources, pairs, strict=True):
            (height, width), (h, w) = clean.size, ImageSource(path).size
            if (height, width) != (h, w):
                raise DataError(
                    f"{path}: {w}x{h} pixels, and the clean image {clean.name} has {width}x{height}; a pair needs "
                    "one size"
                )
        warn_of_turned(zip(sources, (str(path) for _, path in pairs), strict=True), root, "degraded image")
        return pairs


# ---------------------------------------------------------------------- samples


class Sources(NamedTuple):
    """Where the images of a split come from.

    Attributes:
        images: The clean images.
        cache: Decoded clean images, or None.
        partners: Degraded images, in the same order, or None where they are made of the clean ones.
        partner_cache: Decoded degraded images, or None.
    """

    images: ImageStore
    cache: PixelCache | None = None
    partners: ImageStore | None = None
    partner_cache: PixelCache | None = None


class _Images(FileSamples):
    """Clean images, decoded to the channels that are needed, and degraded ones where they lie beside them."""

    def __init__(self, sources: Sources, channels: int, white: float | None, times: int = 1) -> None:
        super().__init__(sources.images, sources.cache, sources.partners, times)
        self.partner_cache, self.channels, self.white = sources.partner_cache, channels, white

    def image(self, number: int) -> np.ndarray:
        return self._decoded(self.store, self.cache, number)

    def partner(self, number: int) -> np.ndarray | None:
        return None if self.partners is None else self._decoded(self.partners, self.partner_cache, number)

    def _decoded(self, store: ImageStore, cache: PixelCache | None, number: int) -> np.ndarray:
        if cache is not None:
            return cache.source(store, number, number).read(self.channels)
        return levels_of(ImageSource(store.source(number), white=self.white), self.channels)


class _Training(_Images):
    """Each image as often as patches are cut out of it; `PatchAugment` cuts and degrades them."""

    def sample(self, number: int) -> Sample:
        name = self.store.name(number)
        clean, degraded = self.image(number), self.partner(number)
        if degraded is None:
            return Sample.of(source_of(clean, name), {}, name)
        target: Any = {"clean": clean.transpose(2, 0, 1)}
        return Sample.of(source_of(degraded, name), target, name)


class _Whole(_Images):
    """Whole images; what degrades them is the same in every epoch."""

    def __init__(
        self,
        sources: Sources,
        channels: int,
        white: float | None,
        chain: DegradationChain,
        conditions: tuple[str, ...],
        seed: int,
    ) -> None:
        super().__init__(sources, channels, white)
        self.chain, self.conditions, self.seed = chain, conditions, seed

    def sample(self, number: int) -> Sample:
        name = self.store.name(number)
        clean, partner = self.image(number), self.partner(number)
        given = clean if partner is None else partner
        degraded, m = self.chain(given, rng_for(self.seed, 0, number)), self.chain.margin
        if m:
            height, width = clean.shape[:2]
            if min(height, width) <= 2 * m:
                raise DataError(
                    f"{name}: {width}x{height} pixels, of which {m} on every side are left out by the blur; nothing "
                    "is left"
                )
            clean = clean[m : height - m, m : width - m]
            degraded = inner(degraded, m, m, height - 2 * m, width - 2 * m)
        inputs = inputs_of(degraded, self.chain.leaves_levels(given.dtype == np.uint8), self.conditions, name)
        target: Any = {"clean": planes(clean), "gray": np.bool_(self.store.source(number).is_gray)}
        return Sample(inputs, target, name)


class PatchAugment(SampleAugment):
    """Cuts a patch out of a training sample, flips and rotates it, and degrades it.

    A sample without a target is the clean image itself. The patch is degraded with as much around it as the
    degradations process, so it is that of the whole image, flipped.

    Args:
        patch_size: Side in pixels.
        flips: Flip and rotate by quarters, the eight ways alike.
        chain: Degrades patches.
        conditions: Further inputs of the network.
    """

    def __init__(
        self,
        patch_size: int,
        flips: bool = True,
        chain: DegradationChain | None = None,
        conditions: Sequence[str] = (),
    ) -> None:
        self.patch_size, self.flips = patch_size, flips
        self.chain, self.conditions = chain or DegradationChain([]), tuple(conditions)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        p, m, known = self.patch_size, self.chain.margin, cast(Any, sample.target)
        ways = int(rng.integers(8)) if self.flips else 0
        given = filled(turned(pixels_of(sample.image), ways), p + 2 * m)
        clean = given
        if "clean" in known:
            clean = filled(turned(np.asarray(known["clean"]).transpose(1, 2, 0), ways), p + 2 * m)
        top, left = (m + start for start in place_patch(given.shape, p + 2 * m, rng))
        tile, y, x = cut_with_surroundings(given, top, left, p, self.chain.reach, self.chain.grid, self.chain.wraps)
        degraded = inner(self.chain(tile, rng), y, x, p, p)
        whole = self.chain.leaves_levels(given.dtype == np.uint8)
        target: Any = {"clean": planes(clean[top : top + p, left : left + p])}
        return sample.changed(inputs=inputs_of(degraded, whole, self.conditions, sample.image.name), target=target)


def levels_of(source: ImageSource, channels: int) -> np.ndarray:
    """Decodes an image to (h, w, channels): uint8, or float32 on a scale of 0 to 255 where the file has more depth."""
    pixels = source.read(channels, bits=32)
    return to_scale(pixels) if pixels.dtype == np.uint16 else pixels
