"""High-resolution images for super-resolution: the low resolution is made on the way, or lies beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from datamodules.degradation import BICUBIC_REACH, Degradation, modulo_crop, shrink
from datamodules.image_store import FileStore, PixelCache
from datamodules.pairing import warn_of_turned
from datamodules.resolution_pairs import list_matching, pair_resolutions
from datamodules.splits import SPLITS
from datamodules.splitting import SplittingData
from visionkit.augmentation import SampleAugment
from visionkit.data import Split
from visionkit.data_summary import SplitSummary
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.listing import Listing
from visionkit.loading import rng_for
from visionkit.types import Sample

Small = Literal["refuse", "reflect"]


class SuperResolutionData(SplittingData):
    """Folders of high-resolution images; patches in training, whole images in validation and test.

    Images are cut at the right and bottom to a multiple of the scale and shrunk by antialiased bicubic, as the papers
    do, or their low resolution is read from a folder of its own.

    Args:
        root: Folder of the training images, searched deeply.
        scale: Factor; the command line takes the model's. 2 by default.
        val_root: Folder of the validation images; by default, `val_fraction` of the training images.
        test_root: Folder of the test images; by default, `test_fraction` of the training images.
        pattern: Pattern of the names of high-resolution files.
        low_res: Folder with the low resolution of the training images; made by default. A file belongs to the one
            of the same path below its folder, but for an ending such as `x2`, `_LR` or `_HR`.
        val_low_res: The same for `val_root`.
        test_low_res: The same for `test_root`.
        low_res_pattern: Pattern of the names of low-resolution files.
        patch_size: Side of a training patch in low-resolution pixels.
        patches_per_image: Patches of each image in an epoch.
        small: What becomes of a training image that no patch fits into: `refuse` it, or `reflect` its right and bottom
            as far as a patch reaches.
        flips: Flip patches and turn them by quarters.
        exact: Keep the made low resolution of validation and test between gray levels, as the early papers did, and do
            not round it as a file would.
        degradation: Blur, noise and JPEG beside shrinking.
        val_fraction: Fraction of the training images that is split off for validation without `val_root`.
        cache_mb: Decoded images are kept in memory where all of a split fit into this many MiB; 0 keeps none.
        **base: See `SplittingData`. `eval_batch_size` is 1 by default: images have sizes of their own.

    Example:
        >>> data = SuperResolutionData("photos", scale=3, input=task.input)
        >>> data.samples("val")[0].target["high_res"].shape
        (3, 264, 204)
    """

    def __init__(
        self,
        root: str = "",
        *,
        scale: int | None = None,
        val_root: str | None = None,
        test_root: str | None = None,
        pattern: str = "*",
        low_res: str | None = None,
        val_low_res: str | None = None,
        test_low_res: str | None = None,
        low_res_pattern: str = "*",
        patch_size: int = 48,
        patches_per_image: int = 16,
        small: Small = "refuse",
        flips: bool = True,
        exact: bool = False,
        degradation: Degradation | None = None,
        val_fraction: float = 0.05,
        cache_mb: int = 1024,
        **base: Any,
    ) -> None:
        base["eval_batch_size"] = base.get("eval_batch_size") or 1
        super().__init__(val_fraction=val_fraction, **base)
        scale = 2 if scale is None else scale
        if scale < 1 or patch_size < 4 or patches_per_image < 1:
            raise UsageError(
                f"data: scale {scale} and patches_per_image {patches_per_image} are at least 1, patch_size "
                f"{patch_size} at least 4"
            )
        if small not in get_args(Small):
            raise UsageError(f"data.small {small!r}: allowed are {', '.join(get_args(Small))}")
        self.scale, self.patch_size, self.patches_per_image, self.exact = scale, patch_size, patches_per_image, exact
        self.small = small
        self.degradation = degradation or Degradation()
        self.pattern, self.low_res_pattern = pattern, low_res_pattern
        self.roots: dict[Split, str | None] = {"train": root or None, "val": val_root, "test": test_root}
        self.low_res: dict[Split, str | None] = {"train": low_res, "val": val_low_res, "test": test_low_res}
        self.cache_mb = cache_mb
        self._found: dict[Split, tuple[list[Path], list[Path] | None]] = {}
        self._passed_over: dict[str, dict[str, int]] = {}
        given = self.augment
        if given is not None:
            raise UsageError("data.augment: SuperResolutionData brings its own; set data.flips and data.degradation")
        self.augment = PatchAugment(scale, patch_size, flips, self.degradation)

    def dataset(self, split: Split) -> Sequence[Sample]:
        """Training: every image `patches_per_image` times, to be cut. Validation and test: pairs of whole images."""
        high, low = self._files(split)
        if split == "train" and self.small == "refuse":
            self._check_sizes(high)
        store = FileStore(Path(), [str(path) for path in high])
        cache = PixelCache.for_images(store, np.arange(len(high)), 3, self.cache_mb)
        lows = None if low is None else FileStore(Path(), [str(path) for path in low])
        if split == "train":
            return _Training(store, cache, lows, self.scale, self.patches_per_image)
        return _Pairs(store, cache, lows, self.scale, self.exact, self.degradation, self.seed)

    # ------------------------------------------------------------------ files

    def files(self, split: Split) -> Sequence[str]:
        """Paths of the high-resolution images, each once."""
        return [str(path) for path in self._files(split)[0]]

    def summary(self, split: Split) -> SplitSummary:
        """Number of images, where they come from, and where their low resolution does."""
        high, low = self._files(split)
        root, low_root = self._roots(split)
        notes = [f"low resolution: {low_root if low is not None else f'made by bicubic, x{self.scale}'}"]
        if split == "train":
            notes.append(f"{self.patches_per_image} patches of {self.patch_size}x{self.patch_size} per image and epoch")
        over = self._passed_over.get(str(root), {})
        source = str(root) if self.roots[split] is not None else self.part_of(split, root)
        return SplitSummary(split, len(high), source, passed_over=over, notes=notes)

    def _roots(self, split: Split) -> tuple[str | None, str | None]:
        if split in self._split_off():
            split = "train"
        return self.roots[split], self.low_res[split]

    def _split_off(self) -> list[Split]:
        return self.absent([split for split in SPLITS if self.roots[split] is not None])

    def _files(self, split: Split) -> tuple[list[Path], list[Path] | None]:
        if split not in self._found:
            self._found[split] = self._find(split)
        return self._found[split]

    def _find(self, split: Split) -> tuple[list[Path], list[Path] | None]:
        root, low_root = self._roots(split)
        if root is None and split == "train":
            raise UsageError("data: there are no images to train on; give their folder with --data.root")
        if root is None:
            raise self.missing(split, f"data.{split}_root is not given")
        high = list_matching(root, self.pattern, "pattern")
        self._passed_over[root] = high.counts
        pairs = [(path, path) for path in high.files] if low_root is None else self._partners(high, low_root)
        absent = self._split_off()
        if split in ("train", *absent):
            rows = self.split_off([str(path) for path, _ in pairs], absent)[split]
            if not len(rows):
                raise self.missing(split, root)
            pairs = [pairs[int(row)] for row in rows]
        return [pair[0] for pair in pairs], None if low_root is None else [pair[1] for pair in pairs]

    def _partners(self, high: Listing, low_root: str) -> list[tuple[Path, Path]]:
        """Each image with its low resolution, of the right size by its header."""
        pairs = pair_resolutions(high, list_matching(low_root, self.low_res_pattern, "low_res_pattern"), self.scale)
        images = [ImageSource(large) for large, _ in pairs]
        for image, (large, small) in zip(images, pairs, strict=True):
            low = ImageSource(small)
            (height, width), (h, w) = image.size, low.size
            wanted = (height // self.scale, width // self.scale)
            if (h, w) != wanted:
                turned = (w, h) == wanted and image.orientation != low.orientation
                advice = "EXIF turns one of the two alone" if turned else "give the folder of that scale"
                raise DataError(
                    f"{small}: {w}x{h} is not {large.name}'s {width}x{height} divided by {self.scale}, which is "
                    f"{wanted[1]}x{wanted[0]}; {advice}"
                )
        partners = (str(small) for _, small in pairs)
        warn_of_turned(zip(images, partners, strict=True), low_root, "low resolution")
        return pairs

    def _check_sizes(self, high: Sequence[Path]) -> None:
        """Refuses images that no patch fits into."""
        least = self.patch_size * self.scale
        for path in high:
            height, width = ImageSource(path).size
            if min(height, width) < least:
                fits = min(height, width) // self.scale
                raise DataError(
                    f"{path}: {width}x{height} is smaller than a patch of {least}x{least} (data.patch_size "
                    f"{self.patch_size} at x{self.scale}); lower data.patch_size to {fits}, leave the image out, or "
                    "set data.small reflect"
                )


# ---------------------------------------------------------------------- samples


class _Files:
    """High-resolution images, decoded once where they fit into the cache, and their low resolution where it lies."""

    def __init__(self, store: FileStore, cache: PixelCache | None, lows: FileStore | None, scale: int) -> None:
        self.store, self.cache, self.lows, self.scale = store, cache, lows, scale

    def high(self, number: int) -> np.ndarray:
        source = self.store.source(number)
        if self.cache is not None:
            source = self.cache.source(self.store, number, number)
        return source.read()

    def low(self, number: int) -> np.ndarray | None:
        return None if self.lows is None else self.lows.source(number).read()


class _Training(_Files, Sequence[Sample]):
    """Each image `patches_per_image` times; the patch is cut by `PatchAugment`."""

    def __init__(
        self, store: FileStore, cache: PixelCache | None, lows: FileStore | None, scale: int, patches_per_image: int
    ) -> None:
        super().__init__(store, cache, lows, scale)
        self.patches_per_image = patches_per_image

    def __len__(self) -> int:
        return len(self.store) * self.patches_per_image

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        number = range(len(self))[index] // self.patches_per_image
        name = self.store.name(number)
        high, low = self.high(number), self.low(number)
        if low is None:
            return Sample.of(ImageSource(high, name), {}, name)
        return _pair(low, modulo_crop(high, self.scale), name)


class _Pairs(_Files, Sequence[Sample]):
    """Whole images with their high resolution; degradations are the same ones in every epoch."""

    def __init__(
        self,
        store: FileStore,
        cache: PixelCache | None,
        lows: FileStore | None,
        scale: int,
        exact: bool,
        degradation: Degradation,
        seed: int,
    ) -> None:
        super().__init__(store, cache, lows, scale)
        self.exact, self.degradation, self.seed = exact, degradation, seed

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        high = modulo_crop(self.high(number), self.scale)
        low = self.low(number)
        if low is None and self.degradation.is_off:
            low = shrink(high, self.scale, self.exact)
        elif low is None:
            rng = rng_for(self.seed, 0, number)
            low = self.degradation.after(shrink(self.degradation.before(high, rng), self.scale), rng)
        pair = _pair(low, high, self.store.name(number))
        return replace(pair, target={**pair.target, "gray": np.bool_(self.store.source(number).is_gray)})


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
            low, high = _turned(low, ways), _turned(high, ways)
        target: Any = {"high_res": np.array(high, order="C").transpose(2, 0, 1)}
        return sample.with_image(ImageSource(np.array(low, order="C"), sample.image.name), target=target)

    def _paired(self, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        s, p = self.scale, self.patch_size
        low = _filled(sample.image.read(), p)
        high = _filled(np.asarray(sample.target["high_res"]).transpose(1, 2, 0), p * s)
        top, left = self._place(low.shape[:2], rng)
        return low[top : top + p, left : left + p], high[top * s : (top + p) * s, left * s : (left + p) * s]

    def _made(self, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        s, p = self.scale, self.patch_size
        image = _filled(modulo_crop(sample.image.read(), s), p * s)
        height, width = image.shape[0] // s, image.shape[1] // s
        top, left = self._place((height, width), rng)
        around = BICUBIC_REACH + 1 + -(-self.degradation.reach // s)
        y1, x1, y2, x2 = max(top - around, 0), max(left - around, 0), top + p + around, left + p + around
        tile = image[y1 * s : min(y2, height) * s, x1 * s : min(x2, width) * s]
        low = shrink(self.degradation.before(tile, rng), s)[top - y1 : top - y1 + p, left - x1 : left - x1 + p]
        low = self.degradation.after(np.ascontiguousarray(low), rng)
        return low, image[top * s : (top + p) * s, left * s : (left + p) * s]

    def _place(self, size: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int]:
        return int(rng.integers(size[0] - self.patch_size + 1)), int(rng.integers(size[1] - self.patch_size + 1))


def _filled(image: np.ndarray, least: int) -> np.ndarray:
    """Flips the right and bottom of (h, w, C) until both sides have `least` pixels."""
    height, width = image.shape[:2]
    if min(height, width) >= least:
        return image
    return np.pad(image, ((0, max(0, least - height)), (0, max(0, least - width)), (0, 0)), mode="symmetric")


def _turned(image: np.ndarray, ways: int) -> np.ndarray:
    """One of the eight flipped and rotated forms of a square."""
    turned = np.rot90(image, ways % 4)
    return turned[:, ::-1] if ways >= 4 else turned
