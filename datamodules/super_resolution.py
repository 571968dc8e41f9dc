"""High-resolution images for super-resolution: the low resolution is made on the way, or lies beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.degradation import BICUBIC_REACH, Degradation, modulo_crop, shrink
from datamodules.image_store import FileStore, PixelCache
from datamodules.pairing import list_matching, warn_of_turned
from datamodules.patch_data import PatchData
from datamodules.patches import FileSamples, cut_with_surroundings, filled, place_patch, turned
from datamodules.resolution_pairs import pair_resolutions
from visionkit.augmentation import SampleAugment
from visionkit.data import Split
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.listing import Listing
from visionkit.loading import EVALUATION_SEED, rng_for
from visionkit.refusals import refuse
from visionkit.types import Sample


class SuperResolutionData(PatchData):
    """Folders of high-resolution images; patches in training, whole images in validation and test.

    Images are cut at the right and bottom to a multiple of the scale and shrunk by antialiased bicubic, as the papers
    do, or their low resolution is read from a folder of its own.

    Args:
        root: Folder of the training images, searched deeply.
        scale: Factor; the command line takes the model's. 2 by default.
        low_res: Folder with the low resolution of the training images; made by default. A file belongs to the one
            of the same path below its folder, but for an ending such as `x2`, `_LR` or `_HR`.
        val_low_res: The same for `val_root`.
        test_low_res: The same for `test_root`.
        low_res_pattern: Pattern of the names of low-resolution files.
        flips: Flip patches and turn them by quarters.
        exact: Keep the made low resolution of validation and test between gray levels, as the early papers did, and do
            not round it as a file would.
        degradation: Blur, noise and JPEG beside shrinking.
        **base: See `PatchData`; `patch_size` is in low-resolution pixels.

    Example:
        >>> data = SuperResolutionData("photos", scale=3, input=task.input)
        >>> data.samples("val")[0].target["high_res"].shape
        (3, 264, 204)
    """

    partner = "low resolution"

    def __init__(
        self,
        root: str = "",
        *,
        scale: int | None = None,
        low_res: str | None = None,
        val_low_res: str | None = None,
        test_low_res: str | None = None,
        low_res_pattern: str = "*",
        flips: bool = True,
        exact: bool = False,
        degradation: Degradation | None = None,
        **base: Any,
    ) -> None:
        super().__init__(root, **base)
        self.scale = 2 if scale is None else scale
        if self.scale < 1:
            raise UsageError(f"data.scale {self.scale}: at least 1")
        self.exact, self.degradation, self.low_res_pattern = exact, degradation or Degradation(), low_res_pattern
        self.partner_roots = {"train": low_res, "val": val_low_res, "test": test_low_res}
        if self.augment is not None:
            raise UsageError("data.augment: SuperResolutionData brings its own; set data.flips and data.degradation")
        if low_res is not None and not self.degradation.is_off:
            raise UsageError(
                f"data.degradation: the low resolution of the training images lies in {low_res} (data.low_res), so "
                "nothing would be done to it; leave one of the two out"
            )
        self.augment = PatchAugment(self.scale, self.patch_size, flips, self.degradation)

    def dataset(self, split: Split) -> Sequence[Sample]:
        """Training: every image `patches_per_image` times, to be cut. Validation and test: pairs of whole images."""
        stores = self.stores(split)
        if split == "train":
            return _Training(*stores, self.scale, self.patches_per_image)
        return _Pairs(*stores, self.scale, self.exact, self.degradation)

    def made(self) -> str:
        return f"made by bicubic, x{self.scale}"

    def partners(self, images: Listing, root: str) -> list[tuple[Path, Path]]:
        """Each image with its low resolution, of the right size by its header."""
        pairs = pair_resolutions(images, list_matching(root, self.low_res_pattern, "low_res_pattern"), self.scale)
        sources = [ImageSource(large) for large, _ in pairs]
        for image, (large, small) in zip(sources, pairs, strict=True):
            low = ImageSource(small)
            (height, width), (h, w) = image.size, low.size
            wanted = (height // self.scale, width // self.scale)
            if (h, w) != wanted:
                sideways = (w, h) == wanted and image.orientation != low.orientation
                advice = "EXIF turns one of the two alone" if sideways else "give the folder of that scale"
                error = DataError(
                    f"{small}: {w}x{h} is not {large.name}'s {width}x{height} divided by {self.scale}, which is "
                    f"{wanted[1]}x{wanted[0]}; {advice}"
                )
                refuse("size-mismatch", error)
        warn_of_turned(zip(sources, (str(small) for _, small in pairs), strict=True), root, "low resolution")
        return pairs


# ---------------------------------------------------------------------- samples


class _Training(FileSamples):
    """Each image `patches_per_image` times; the patch is cut by `PatchAugment`."""

    def __init__(
        self, store: FileStore, cache: PixelCache | None, lows: FileStore | None, scale: int, patches_per_image: int
    ) -> None:
        super().__init__(store, cache, lows, patches_per_image)
        self.scale = scale

    def sample(self, number: int) -> Sample:
        name = self.store.name(number)
        high, low = self.image(number), self.partner(number)
        if low is None:
            return Sample.of(ImageSource(high, name), {}, name)
        return _pair(low, modulo_crop(high, self.scale), name)


class _Pairs(FileSamples):
    """Whole images with their high resolution; degradations are the same ones in every epoch."""

    def __init__(
        self,
        store: FileStore,
        cache: PixelCache | None,
        lows: FileStore | None,
        scale: int,
        exact: bool,
        degradation: Degradation,
    ) -> None:
        super().__init__(store, cache, lows)
        self.scale, self.exact, self.degradation = scale, exact, degradation

    def sample(self, number: int) -> Sample:
        high = modulo_crop(self.image(number), self.scale)
        low, is_gray = self.partner(number), self.store.source(number).is_gray
        if low is None and self.degradation.is_off:
            low = shrink(high, self.scale, self.exact)
        elif low is None:
            rng = rng_for(EVALUATION_SEED, 0, number)
            shown = high[:, :, :1] if is_gray else high  # whose noise is gray too
            low = self.degradation.after(shrink(self.degradation.before(shown, rng), self.scale), rng)
        pair = _pair(low, high, self.store.name(number))
        return replace(pair, target={**pair.target, "gray": np.bool_(is_gray)})


def _pair(low: np.ndarray, high: np.ndarray, name: str) -> Sample:
    # A copy: what the cache holds is not to be written to, and a tensor can be.
    return Sample.of(ImageSource(low, name), {"high_res": np.array(high, order="C").transpose(2, 0, 1)}, name)


class PatchAugment(SampleAugment):
    """Cuts a patch and its low resolution out of a training sample, and flips and rotates them.

    A sample without a target is a high-resolution image: the low resolution is made of the patch with as much around
    it as shrinking processes, so it is that of the whole image. Blur processes what is there.

    Args:
        scale: Factor.
        patch_size: Side in low-resolution pixels.
        flips: Flip and rotate by quarters, the eight ways alike.
        degradation: Beside shrinking.
    """

    def __init__(self, scale: int, patch_size: int, flips: bool = True, degradation: Degradation | None = None) -> None:
        self.scale, self.patch_size, self.flips = scale, patch_size, flips
        self.degradation = degradation or Degradation()

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        # Images that are too small were refused before, or are to be padded.
        low, high = self._paired(sample, rng) if "high_res" in sample.target else self._made(sample, rng)
        if self.flips:
            ways = int(rng.integers(8))
            low, high = turned(low, ways), turned(high, ways)
        target: Any = {"high_res": np.array(high, order="C").transpose(2, 0, 1)}
        return sample.with_image(ImageSource(np.array(low, order="C"), sample.image.name), target=target)

    def _paired(self, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        s, p = self.scale, self.patch_size
        low = filled(sample.image.read(), p)
        high = filled(np.asarray(sample.target["high_res"]).transpose(1, 2, 0), p * s)
        top, left = place_patch(low.shape, p, rng)
        return low[top : top + p, left : left + p], high[top * s : (top + p) * s, left * s : (left + p) * s]

    def _made(self, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        s, p = self.scale, self.patch_size
        image = filled(modulo_crop(sample.image.read(), s), p * s)
        top, left = place_patch((image.shape[0] // s, image.shape[1] // s), p, rng)
        around = BICUBIC_REACH + 1 + -(-self.degradation.reach // s)
        tile, y, x = cut_with_surroundings(image, top * s, left * s, p * s, around * s)
        low = shrink(self.degradation.before(tile, rng), s)[y // s : y // s + p, x // s : x // s + p]
        low = self.degradation.after(np.ascontiguousarray(low), rng)
        return low, image[top * s : (top + p) * s, left * s : (left + p) * s]
