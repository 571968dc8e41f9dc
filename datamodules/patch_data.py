"""The base of readers for image to image: folders of images, patches in training, whole images in evaluation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from datamodules.image_store import FileStore, PixelCache
from datamodules.pairing import list_matching
from datamodules.splits import SPLITS
from datamodules.splitting import SplittingData
from visionkit.data import Split
from visionkit.data_summary import SplitSummary
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.listing import Listing
from visionkit.refusals import refuse

Small = Literal["refuse", "reflect"]


class PatchData(SplittingData):
    """Folders of images that are restored: patches in training, whole images in validation and test.

    Args:
        root: Folder of the training images, searched deeply.
        val_root: Folder of the validation images; by default, `val_fraction` of the training images.
        test_root: Folder of the test images; by default, `test_fraction` of the training images.
        pattern: Pattern of the names of the image files.
        patch_size: Side of a training patch in pixels of the network's input.
        patches_per_image: Patches of each image in an epoch.
        small: What becomes of a training image that no patch fits into: `refuse` it, or `reflect` its right and bottom
            as far as a patch reaches.
        val_fraction: Fraction of the training images that is split off for validation without `val_root`.
        cache_mb: Decoded images are kept in memory where all of a split fit into this many MiB; 0 keeps none.
        **base: See `SplittingData`. `eval_batch_size` is 1 by default: images have sizes of their own.
    """

    scale: int = 1
    """Pixels of the image to one of the network's input."""
    margin: int = 0
    """Pixels of the image's borders, on every side, that no patch may have."""
    partner: ClassVar[str]
    """What lies beside an image where it is not made, for the summary: "low resolution"."""

    def __init__(
        self,
        root: str = "",
        *,
        val_root: str | None = None,
        test_root: str | None = None,
        pattern: str = "*",
        patch_size: int = 48,
        patches_per_image: int = 16,
        small: Small = "refuse",
        val_fraction: float = 0.05,
        cache_mb: int = 1024,
        **base: Any,
    ) -> None:
        base["eval_batch_size"] = base.get("eval_batch_size") or 1
        super().__init__(val_fraction=val_fraction, **base)
        if patch_size < 4 or patches_per_image < 1:
            raise UsageError(
                f"data: patches_per_image {patches_per_image} at least 1, patch_size {patch_size} at least 4"
            )
        if small not in get_args(Small):
            raise UsageError(f"data.small {small!r}: allowed are {', '.join(get_args(Small))}")
        self.patch_size, self.patches_per_image, self.small, self.cache_mb = (
            patch_size,
            patches_per_image,
            small,
            cache_mb,
        )
        self.pattern = pattern
        self.roots: dict[Split, str | None] = {"train": root or None, "val": val_root, "test": test_root}
        self.partner_roots: dict[Split, str | None] = dict.fromkeys(SPLITS)
        self._found: dict[Split, tuple[list[Path], list[Path] | None]] = {}
        self._passed_over: dict[str, dict[str, int]] = {}

    @abstractmethod
    def partners(self, images: Listing, root: str) -> list[tuple[Path, Path]]:
        """Each image with its partner from that folder, of the right size by its header."""

    @abstractmethod
    def made(self) -> str:
        """How a partner is made where there is no folder of them, for the summary."""

    # ------------------------------------------------------------------ files

    def files(self, split: Split) -> list[str]:
        """Paths of the images, each once."""
        return [str(path) for path in self.pairs(split)[0]]

    def pairs(self, split: Split) -> tuple[list[Path], list[Path] | None]:
        """Paths of the images of a split, and of their partners where they have some."""
        if split not in self._found:
            self._found[split] = self._find(split)
        return self._found[split]

    def stores(self, split: Split, channels: int = 3) -> tuple[FileStore, PixelCache | None, FileStore | None]:
        """The images of a split, what keeps them once they are decoded, and their partners.

        Args:
            split: `train`, `val` or `test`.
            channels: Channels that are decoded.

        Raises:
            DataError: A training image is smaller than a patch, and `small` refuses it.
        """
        images, partners = self.pairs(split)
        if split == "train" and self.small == "refuse":
            self.check_sizes((str(path), ImageSource(path).size) for path in images)
        store = FileStore(Path(), [str(path) for path in images])
        cache = PixelCache.for_images(store, np.arange(len(images)), channels, self.cache_mb)
        return store, cache, None if partners is None else FileStore(Path(), [str(path) for path in partners])

    def summary(self, split: Split) -> SplitSummary:
        """Number of images, where they come from, and where their partners do."""
        images, partners = self.pairs(split)
        root, partner_root = self._roots(split)
        notes = [f"{self.partner}: {partner_root if partners is not None else self.made()}"]
        if split == "train":
            notes.append(f"{self.patches_per_image} patches of {self.patch_size}x{self.patch_size} per image and epoch")
        over = self._passed_over.get(str(root), {})
        source = str(root) if self.roots[split] is not None else self.part_of(split, root)
        return SplitSummary(split, len(images), source, passed_over=over, notes=notes)

    def _roots(self, split: Split) -> tuple[str | None, str | None]:
        if split in self._split_off():
            split = "train"
        return self.roots[split], self.partner_roots[split]

    def _split_off(self) -> list[Split]:
        return self.absent([split for split in SPLITS if self.roots[split] is not None])

    def _find(self, split: Split) -> tuple[list[Path], list[Path] | None]:
        root, partner_root = self._roots(split)
        if root is None and split == "train":
            raise UsageError("data: there are no images to train on; give their folder with --data.root")
        if root is None:
            raise self.missing(split, f"data.{split}_root is not given")
        images = list_matching(root, self.pattern, "pattern")
        self._passed_over[root] = images.counts
        pairs = [(path, path) for path in images.files] if partner_root is None else self.partners(images, partner_root)
        absent = self._split_off()
        if split in ("train", *absent):
            rows = self.split_off([str(path) for path, _ in pairs], absent)[split]
            if not len(rows):
                raise self.missing(split, root)
            pairs = [pairs[int(row)] for row in rows]
        return [pair[0] for pair in pairs], None if partner_root is None else [pair[1] for pair in pairs]

    def check_sizes(self, sizes: Iterable[tuple[str, tuple[int, int]]]) -> None:
        """Refuses images that no patch fits into.

        Args:
            sizes: Name, and height and width, of each training image.

        Raises:
            DataError: One is smaller than a patch.
        """
        least = self.patch_size * self.scale + 2 * self.margin
        for name, (height, width) in sizes:
            if min(height, width) < least:
                fits = (min(height, width) - 2 * self.margin) // self.scale
                at = f" at x{self.scale}" if self.scale > 1 else ""
                beside = f" and {self.margin} pixels beside it" if self.margin else ""
                error = DataError(
                    f"{name}: {width}x{height} is smaller than a patch of {least}x{least} (data.patch_size "
                    f"{self.patch_size}{at}{beside}); lower data.patch_size to {fits}, leave the image out, or "
                    "set data.small reflect"
                )
                refuse("refused", error)
