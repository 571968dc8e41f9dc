"""Images for restoration: the degraded image is made on the way, or lies beside the clean one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from datamodules.degradations import DegradationChain, Degradations
from datamodules.degraded_samples import (
    CONDITIONS,
    Sources,
    TrainingImages,
    WholeImages,
    check_conditions,
    conditions_of,
    inner,
    inputs_of,
    pixels_of,
    planes,
)
from datamodules.image_store import FileStore, PixelCache
from datamodules.pairing import check_same_size, list_matching, pair_by_name, warn_of_turned
from datamodules.patch_data import PatchData
from datamodules.patches import cut_with_surroundings, filled, place_patch, turned
from datamodules.restoration_pairs import pair_degraded
from visionkit.augmentation import SampleAugment
from visionkit.data import Split
from visionkit.errors import UsageError, suggest
from visionkit.images import ImageSource
from visionkit.listing import Listing
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
        masks: Folder with a mask of each training image, of the same name but for an ending `_mask`: white where the
            image is missing, which is filled with gray. `MaskFolder` draws masks that belong to no image.
        val_masks: The same for `val_root`.
        test_masks: The same for `test_root`.
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
        masks: str | None = None,
        val_masks: str | None = None,
        test_masks: str | None = None,
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
        self._check_made(degradations is not None, eval_degradations is not None)
        self.mask_roots: dict[Split, str | None] = {"train": masks, "val": val_masks, "test": test_masks}
        self.degraded_pattern, self.flips, self._given_conditions = degraded_pattern, flips, conditions
        self.margin = train.margin
        self.augment = PatchAugment(self.patch_size, flips, train)

    def _check_made(self, train: bool, evaluated: bool) -> None:
        """Refuses degradations of images whose degraded form is read, which would do nothing.

        Args:
            train: `degradations` were given.
            evaluated: `eval_degradations` were given.
        """
        if train and (root := self.partner_roots["train"]) is not None:
            raise UsageError(
                f"data.degradations: the degraded training images are read from {root} (data.degraded), so nothing "
                "would be done to them; leave one of the two out, and state what is done to clean images of validation "
                "and test by data.eval_degradations"
            )
        read = {split: self._roots(split)[1] for split in ("val", "test") if self._roots(split)[0] is not None}
        if evaluated and read and None not in read.values():
            folders = " and ".join(dict.fromkeys(str(root) for root in read.values()))
            raise UsageError(
                f"data.eval_degradations: the degraded {' and '.join(read)} images are read from {folders}, so nothing "
                "would be done to them; leave it out"
            )

    def setup(self, stage: str) -> None:
        self._samples.clear()  # what was asked for before did not know the model's inputs
        super().setup(stage)

    def dataset(self, split: Split) -> Sequence[Sample]:
        """Training: every image `patches_per_image` times, to be cut. Validation and test: whole images."""
        chain, conditions = self.chain_of(split), self.conditions
        given = frozenset({"mask"} if self._mask_root(split) else ())
        check_conditions(conditions, chain.conditions | given, split, self._roots(split)[1])
        channels = 3 if self.input is None else self.input.channels
        white = None if self.input is None else self.input.white
        if split == "train":
            self._check_patches()
            self.margin = chain.margin
            self.augment = PatchAugment(self.patch_size, self.flips, chain, conditions, channels)
            return TrainingImages(self.sources(split, channels), channels, white, self.patches_per_image)
        return WholeImages(self.sources(split, channels), channels, white, chain, conditions)

    def _check_patches(self) -> None:
        """Refuses patches that the network would be shown padded, and flips that it does not allow."""
        divisor = 1 if self.input is None else self.input.divisor
        if self.patch_size % divisor:
            below, above = self.patch_size // divisor * divisor, -(-self.patch_size // divisor) * divisor
            raise UsageError(
                f"data.patch_size {self.patch_size}: the network takes sides that are multiples of {divisor}, so every "
                f"patch would be padded; give {f'{below} or ' if below else ''}{above}"
            )
        task: Any = None if self.trainer is None else self.trainer.lightning_module
        if self.flips and self.reads_degraded and not getattr(task, "allows_flips", True):
            raise UsageError(
                f"data.flips: {task.chosen} is made for one kernel of blur, which would be flipped and rotated with "
                "the images that have it; set --data.flips false"
            )

    @property
    def noise_levels(self) -> tuple[float, float] | None:
        """Smallest and largest deviation of the Gaussian noise of training, in gray levels; None without any."""
        return self.chains["train"].noise_levels

    @property
    def reads_degraded(self) -> bool:
        """Whether the degraded training images are read, so that flips of a patch are flips of its blur."""
        return self.partner_roots["train"] is not None

    def chain_of(self, split: Split) -> DegradationChain:
        """What is done to the images of a split: nothing where a folder has it done, no holes where masks lie.

        Raises:
            UsageError: Nothing is.
        """
        chain = self.chains[split]
        if self._roots(split)[1] is not None:
            return DegradationChain(None)
        if self._mask_root(split) is not None:
            return DegradationChain([part for part in chain.parts if part.condition != "mask"])
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
        kept = None
        if partners is not None:
            kept = PixelCache.for_images(partners, np.arange(len(partners)), channels, self.cache_mb)
        return Sources(store, cache, partners, kept, self._masks(split))

    def _mask_root(self, split: Split) -> str | None:
        return self.mask_roots["train" if split in self._split_off() else split]

    def _masks(self, split: Split) -> FileStore | None:
        """The masks of the images of a split, where they lie in a folder."""
        root, of_images = self._mask_root(split), self._roots(split)[0]
        if root is None or of_images is None:
            return None
        folder = Path(of_images) if Path(of_images).is_dir() else Path(of_images).parent
        images = Listing(folder, self.pairs(split)[0])
        without = re.compile(r"[-_]?mask$", re.IGNORECASE)
        pairs = pair_by_name(
            images, list_matching(root, "*", "masks"), "mask", partner_key=lambda stem: without.sub("", stem) or stem
        ).pairs
        for image, path in pairs:
            check_same_size(ImageSource(image), ImageSource(path).size, str(path), "mask")
        return FileStore(Path(), [str(path) for _, path in pairs])

    @property
    def conditions(self) -> tuple[str, ...]:
        """Further inputs of the samples: those given, those of the model, or a mask where there are holes."""
        if self._given_conditions is not None:
            return tuple(self._given_conditions)
        return conditions_of(
            self.trainer, self.chains["train"].conditions | ({"mask"} if any(self.mask_roots.values()) else set())
        )

    def made(self) -> str:
        names = " and ".join(type(part).__name__ for part in self.chains["train"].parts)
        return f"made by {names}" if names else "made"

    def partners(self, images: Listing, root: str) -> list[tuple[Path, Path]]:
        """Each clean image with its degraded one, of the same size by its header."""
        pairs = pair_degraded(images, list_matching(root, self.degraded_pattern, "degraded_pattern"))
        sources = [ImageSource(clean) for clean, _ in pairs]
        for clean, (_, path) in zip(sources, pairs, strict=True):
            check_same_size(clean, ImageSource(path).size, str(path), "degraded image")
        warn_of_turned(zip(sources, (str(path) for _, path in pairs), strict=True), root, "degraded image")
        return pairs


class PatchAugment(SampleAugment):
    """Cuts a patch out of a training sample, flips and rotates it, and degrades it.

    A sample without a target is the clean image itself. The patch is degraded with as much around it as the
    degradations process, so it is that of the whole image, flipped.

    Args:
        patch_size: Side in pixels.
        flips: Flip and rotate by quarters, the eight ways alike.
        chain: Degrades patches.
        conditions: Further inputs of the network.
        channels: Channels of the network, which the target has.
    """

    def __init__(
        self,
        patch_size: int,
        flips: bool = True,
        chain: DegradationChain | None = None,
        conditions: Sequence[str] = (),
        channels: int = 3,
    ) -> None:
        self.patch_size, self.flips, self.channels = patch_size, flips, channels
        self.chain, self.conditions = chain or DegradationChain([]), tuple(conditions)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        p, m, known = self.patch_size, self.chain.margin, cast(Any, sample.target)
        ways = int(rng.integers(8)) if self.flips else 0
        given = filled(turned(pixels_of(sample.image), ways), p + 2 * m)
        clean = given
        if "clean" in known:
            clean = filled(turned(np.asarray(known["clean"]).transpose(1, 2, 0), ways), p + 2 * m)
        top, left = (m + start for start in place_patch(given.shape, p + 2 * m, rng))
        around = (p, self.chain.reach, self.chain.grid, self.chain.wraps)
        tile, y, x = cut_with_surroundings(given, top, left, *around)
        mask = None
        if isinstance(holes := sample.inputs.get("mask"), ImageSource):
            whole_mask = filled(turned(pixels_of(holes), ways), p + 2 * m)
            mask = cut_with_surroundings(whole_mask, top, left, *around)[0][:, :, 0] > 0
        degraded = inner(self.chain(tile, rng, mask), y, x, p, p)
        whole = self.chain.leaves_levels(given.dtype == np.uint8)
        target: Any = {"clean": planes(clean[top : top + p, left : left + p], self.channels)}
        return sample.changed(inputs=inputs_of(degraded, whole, self.conditions, sample.image.name), target=target)
