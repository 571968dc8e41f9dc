"""Patches of sharp images, each blurred by a motion that is its class: data for a classifier of motion blur."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.degradations.blur import convolved
from datamodules.degradations.kernels import line_kernel
from datamodules.image_store import FileStore, PixelCache
from datamodules.patch_data import PatchData
from datamodules.patches import FileSamples, cut_with_surroundings, filled, place_patch, turned
from visionkit.augmentation import SampleAugment
from visionkit.data import Split
from visionkit.errors import UsageError
from visionkit.families.restoration.motions import Motion, candidate_motions
from visionkit.images import ImageSource
from visionkit.listing import Listing
from visionkit.loading import EVALUATION_SEED, rng_for
from visionkit.types import Sample

_TRIES = 8
"""Patches that are drawn until one is not flat."""


class MotionPatchData(PatchData):
    """Folders of sharp images, of which patches are blurred on the way; the class of a patch is its motion.

    A classifier that is trained on them finds the motion of every place of a blurred image, see `find_blur_field`
    (Sun et al., Learning a Convolutional Neural Network for Non-uniform Motion Blur Removal, 2015). Patches of
    validation and test are the same in every epoch.

    Args:
        root: Folder of the sharp training images, searched deeply.
        max_length: Longest motion in pixels, odd: motions have 1 (none), 3, 5 and so on.
        angle_step: Degrees between the angles of motions; a divisor of 180.
        noise: Deviation of Gaussian noise after the blur, in gray levels: from 0 to this, drawn for each patch.
        min_contrast: Standard deviation of the gray levels that a sharp patch should have; flatter ones, whose motion
            cannot be seen, are drawn again a few times.
        flips: Flip and rotate sharp patches by quarters, the eight ways alike, before they are blurred.
        **base: See `PatchData`. By default, `classes` are all motions, 73 as in the paper; `patch_size` is 30, as is
            the input of the network, and `eval_batch_size` 64.

    Example:
        >>> data = MotionPatchData("photos", input=InputSpec(size=(30, 30), resize_mode="stretch"))
        >>> data.samples("val")[0].target
        {'labels': 24}
    """

    partner = "blurred patches"

    def __init__(
        self,
        root: str = "",
        *,
        max_length: int = 25,
        angle_step: float = 30.0,
        noise: float = 2.0,
        min_contrast: float = 10.0,
        patch_size: int = 30,
        flips: bool = True,
        **base: Any,
    ) -> None:
        base["eval_batch_size"] = base.get("eval_batch_size") or 64
        super().__init__(root, patch_size=patch_size, **base)
        if self.augment is not None:
            raise UsageError("data.augment: MotionPatchData brings its own; set data.flips and data.noise")
        if noise < 0 or min_contrast < 0:
            raise UsageError(f"data: noise {noise:g} and min_contrast {min_contrast:g} must be at least 0 gray levels")
        self.classes = self.classes or tuple(self.discover_classes(max_length=max_length, angle_step=angle_step))
        motions = [Motion.of(name) for name in self.classes]
        self.augment = BlurredPatch(patch_size, motions, flips, noise, min_contrast)
        self._fixed = BlurredPatch(patch_size, motions, False, noise, min_contrast)

    @classmethod
    def discover_classes(cls, max_length: int = 25, angle_step: float = 30.0, **init_args: Any) -> list[str]:
        """The names of all motions."""
        return [motion.name for motion in candidate_motions(max_length, angle_step)]

    def dataset(self, split: Split) -> Sequence[Sample]:
        """Every image `patches_per_image` times: whole in training, where `augment` cuts it, else a blurred patch."""
        store, cache, _ = self.stores(split)
        if split == "train":
            return _Sharp(store, cache, None, self.patches_per_image)
        return _Blurred(store, cache, self.patches_per_image, self._fixed)

    def made(self) -> str:
        return f"made by {len(self.classes)} motions"

    def partners(self, images: Listing, root: str) -> list[tuple[Path, Path]]:
        """There are none: patches are blurred here."""
        raise NotImplementedError


class _Sharp(FileSamples):
    """Whole sharp images."""

    def sample(self, number: int) -> Sample:
        name = self.store.name(number)
        return Sample.of(ImageSource(self.image(number), name), {}, name)


class _Blurred(_Sharp):
    """Blurred patches, the same in every epoch."""

    def __init__(self, store: FileStore, cache: PixelCache | None, times: int, blurred: BlurredPatch) -> None:
        super().__init__(store, cache, None, times)
        self.blurred = blurred

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return super().__getitem__(index)
        return self.blurred(super().__getitem__(index), rng_for(EVALUATION_SEED, 0, range(len(self))[index]))


class BlurredPatch(SampleAugment):
    """Cuts a patch out of a sharp image and blurs it by a motion, the same class for all images alike.

    Args:
        patch_size: Side in pixels.
        motions: Motion of each class.
        flips: Flip and rotate by quarters before.
        noise: Largest deviation of the noise in gray levels.
        min_contrast: Standard deviation that a patch should have before the blur.
    """

    def __init__(
        self,
        patch_size: int,
        motions: Sequence[Motion],
        flips: bool = True,
        noise: float = 0.0,
        min_contrast: float = 0.0,
    ) -> None:
        self.patch_size, self.flips, self.noise, self.min_contrast = patch_size, flips, noise, min_contrast
        self.kernels = [line_kernel(motion.length, motion.angle) for motion in motions]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        p = self.patch_size
        image = filled(turned(sample.image.read(), int(rng.integers(8)) if self.flips else 0), p)
        label = int(rng.integers(len(self.kernels)))
        for _ in range(_TRIES):
            top, left = place_patch(image.shape, p, rng)
            if image[top : top + p, left : left + p].mean(axis=2).std() >= self.min_contrast:
                break
        kernel = self.kernels[label]
        tile, y, x = cut_with_surroundings(image, top, left, p, max(kernel.shape) // 2)
        blurred = convolved(tile.astype(np.float32), kernel, "reflect")[y : y + p, x : x + p]
        noisy = blurred + rng.uniform(0, self.noise) * rng.standard_normal(blurred.shape)
        pixels = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        target: Any = {"labels": np.int64(label)}
        return sample.with_image(ImageSource(pixels, sample.image.name), target=target)
