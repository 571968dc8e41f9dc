"""Folders of images and depth files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.depth_data import DepthData, DepthFiles, Pairs, check_unit
from datamodules.depth_files import DEPTH_SUFFIXES
from datamodules.pairing import NamePattern, pair_by_name
from datamodules.splits import SPLITS, find_split, split_of
from visionkit.data import Split
from visionkit.errors import DataError, UsageError
from visionkit.listing import Listing, list_files, list_folders, list_images

IMAGE_FOLDERS = ("images", "image", "rgb", "color")
DEPTH_FOLDERS = ("depth", "depths", "depth_maps")
"""Folders that lie side by side, with the same paths below."""

FRAMES = ("*.color", "*_color", "*-color", "*.rgb", "*_rgb")
"""How the image of a frame is called where its depth lies beside it: `frame-000150.color.png` and `.depth.png`."""


class DepthFolderData(DepthData):
    """Images and depth, in one of these layouts, which are distinguished by what is there.

    `images/[train|val|test/]name.jpg` with `depth/[train|val|test/]name.png` (or .npy, .exr, ...), as `visionkit
    scenes` writes; the same with `train/images/` and `train/depth/`; or frames of a depth camera side by side,
    `name.color.png` with `name.depth.png`, as 7-Scenes has them. Options name any other.

    Args:
        root: The folder.
        images: Folder of the images below it, with `{split}` where there is one per split; `.` is the root itself.
        depths: Folder of the depth files, in the same way.
        image_names: How the images are called, `*` for what an image and its depth share: `rgb_*.png`.
        depth_names: How the depth files are called: `*_depth`, `*_depth.png`, `*.npy` where each has a png beside it.
        units_per_meter: What stands for a meter; by default 1000 for whole numbers (millimeters) and 1 for floats.
            TUM's files have 5000, KITTI's 256.
        **base: See `DepthData`.

    Example:
        >>> data = DepthFolderData("kitchen", test_every=5, input=InputSpec(size=(192, 256), resize_mode="stretch"))
        >>> data.samples("train")[0].target["depth"].shape
        (480, 640)
    """

    def __init__(
        self,
        root: str,
        *,
        images: str | None = None,
        depths: str | None = None,
        image_names: str = "*",
        depth_names: str = "*",
        units_per_meter: float | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        check_unit(units_per_meter)
        if (images is None) != (depths is None):
            raise UsageError("data: give both images and depths, or neither; '.' is the root itself")
        self.root, self.units_per_meter = Path(root), units_per_meter
        self.folders = (images, depths)
        self.image_names = NamePattern(image_names, "data.image_names")
        self.depth_names = NamePattern(depth_names, "data.depth_names")
        self._keys = self.image_names, self.depth_names

    def find(self) -> Pairs:
        """Lists the folder."""
        if not str(self.root) or not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; give --data.root")
        if (self.root / "rgb.txt").is_file() and (self.root / "depth.txt").is_file():
            raise DataError(f"{self.root}: a sequence of TUM RGB-D, which --data TumDepthData reads")
        pairs, splits, over = list[tuple[Path, Path]](), list[str](), dict[str, int]()
        for split, images, depths in self._listings():
            found = pair_by_name(
                *(images, depths, "depth", self._keys[0].key, self._keys[1].key), ("image_names", "depth_names")
            )
            pairs += found.pairs
            splits += [split or _split_below(image, images.root) for image, _ in found.pairs]
            for reason, number in images.counts.items():
                over[reason] = over.get(reason, 0) + number
            if found.alone:
                over["depth files without an image"] = len(found.alone)
        if not pairs:
            raise DataError(f"{self.root}: no pairs of image and depth{self._advice()}")
        store = DepthFiles([str(image) for image, _ in pairs], [str(depth) for _, depth in pairs], self.units_per_meter)
        return Pairs(store, self.hold_out(store.name, np.array(splits)), str(self.root), over)

    def _listings(self) -> Iterator[tuple[Split | None, Listing, Listing]]:
        """The split, where the layout states it, and the images and depth files that are to be paired."""
        places = list(self._places())
        for split, images, depths in places:
            listed = list_images(images), list_files(depths, DEPTH_SUFFIXES, kind="a depth file")
            chosen = self.image_names.select(listed[0])
            if images == depths and not self.depth_names.is_any:
                chosen = self.depth_names.select(chosen, others=True)
            yield split, chosen, self.depth_names.select(listed[1])
        if not places:
            yield from self._frames()

    def _places(self) -> Iterator[tuple[Split | None, Path, Path]]:
        images, depths = self.folders
        if images is None or depths is None:
            yield from self._usual_places()
        elif "{split}" in images:
            for split in SPLITS:
                first, second = find_split(self.root, images, split), find_split(self.root, depths, split)
                if first is not None and second is not None:
                    yield split, first, second
        else:
            yield None, self.root / images, self.root / depths

    def _usual_places(self) -> Iterator[tuple[Split | None, Path, Path]]:
        for split in (None, *SPLITS):
            folder = self.root if split is None else find_split(self.root, "{split}", split)
            if folder is None:
                continue
            images = next((folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()), None)
            depths = next((folder / name for name in DEPTH_FOLDERS if (folder / name).is_dir()), None)
            if images is not None and depths is not None:
                yield split, images, depths
                if split is None:
                    return

    def _frames(self) -> Iterator[tuple[Split | None, Listing, Listing]]:
        """Frames side by side; each way to call them is tried."""
        if not self.image_names.is_any or not self.depth_names.is_any:
            return
        every, depths = list_images(self.root), list_files(self.root, DEPTH_SUFFIXES, kind="a depth file")
        for pattern in FRAMES:
            image_names = NamePattern(pattern, "data.image_names")
            images = image_names.select(every)
            if images.files:
                self._keys = image_names, NamePattern(f"*{pattern[1]}depth", "data.depth_names")
                yield None, Listing(self.root, images.files, every.passed_over), self._keys[1].select(depths)

    def _advice(self) -> str:
        if any((folder / "rgb.txt").is_file() for folder in (self.root, *list_folders(self.root))):
            return "; sequences of TUM RGB-D are read by --data TumDepthData"
        stems = [path.stem for path in list_files(self.root, DEPTH_SUFFIXES).files]
        ending = next((end for end in ("_depth", "-depth", ".depth") if any(s.endswith(end) for s in stems)), None)
        if ending is not None:
            return (
                f"; for 1.png with 1{ending}.png in one folder set --data.images . --data.depths . --data.depth_names "
                f"'*{ending}'"
            )
        return (
            "; the layouts are images/name.jpg with depth/name.png, and name.color.png with name.depth.png; "
            "--data.images, --data.depths and --data.depth_names state another"
        )


def _split_below(image: Path, root: Path) -> Split:
    place = image.relative_to(root)
    return (split_of(place.parts[0]) if len(place.parts) > 1 else None) or "train"
