"""KITTI's depth: street images with a laser scanner's sparse depth, as its depth benchmark lays them out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.class_names import shorten
from datamodules.depth_data import DepthData, DepthFiles, Pairs
from visionkit.data import Split
from visionkit.errors import DataError
from visionkit.listing import list_files, list_folders

UNITS = 256.0
"""Of KITTI's 16-bit png files for a meter; 0 is not measured."""

_DRIVE = re.compile(r"^(\d{4}_\d{2}_\d{2})_drive_\d{4}_sync$")


class KittiDepthData(DepthData):
    """KITTI's depth prediction set (Uhrig et al., 2017).

    The annotated depth `<root>/[data_depth_annotated/]{train,val}/<drive>/proj_depth/groundtruth/image_0{2,3}/N.png`
    with the images of the raw set, `<raw>/<date>/<drive>/image_0{2,3}/data/N.png` (or `<raw>/<drive>/...`); and the
    benchmark's own selection, `<root>/[depth_selection/]val_selection_cropped/{image,groundtruth_depth}/`, for testing.

    Args:
        root: Folder of the annotated depth and the selection.
        raw: Folder of the raw images; `root` by default.
        cameras: Which of the two color cameras: 2 left, 3 right.
        val_every: Where there is no val folder, each n-th training image is for validation; 0 none.
        **base: See `DepthData`.
    """

    def __init__(
        self,
        root: str,
        *,
        raw: str | None = None,
        cameras: tuple[int, ...] = (2, 3),
        val_every: int = 0,
        **base: Any,
    ) -> None:
        super().__init__(val_every=val_every, **base)
        self.root, self.cameras = Path(root), tuple(cameras)
        self.raw = Path(raw) if raw else self.root

    def find(self) -> Pairs:
        """Lists the depth and looks for the image of each."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; give --data.root")
        found = [*self._annotated(), *self._selected()]
        if not found:
            raise DataError(
                f"{self.root}: no depth of KITTI; the layout is train/<drive>/proj_depth/groundtruth/image_02/*.png or "
                "val_selection_cropped/groundtruth_depth/*.png"
            )
        missing = [str(each.image) for each in found if not each.image.is_file()]
        if missing:
            raise DataError(
                f"{self.raw}: {len(missing)} of {len(found)} images are missing: {shorten(missing, 2)}; the raw set "
                "is looked for there (--data.raw)"
            )
        store = DepthFiles([str(each.image) for each in found], [str(each.depth) for each in found], UNITS)
        return Pairs(store, self.hold_out(store.name, np.array([each.split for each in found])), str(self.root))

    def _annotated(self) -> Iterator[_Pair]:
        top = self.root / "data_depth_annotated"
        top = top if top.is_dir() else self.root
        splits: tuple[Split, ...] = ("train", "val")
        for split in splits:
            for drive in list_folders(top / split) if (top / split).is_dir() else ():
                for number in sorted(self.cameras):
                    camera = drive / f"proj_depth/groundtruth/image_0{number}"
                    for depth in _pngs(camera):
                        yield _Pair(self._image(drive.name, camera.name, depth.name), depth, split)

    def _image(self, drive: str, camera: str, name: str) -> Path:
        match = _DRIVE.match(drive)
        places = [self.raw / drive / camera / "data" / name]
        if match:
            places.insert(0, self.raw / match.group(1) / drive / camera / "data" / name)
        images = [place.with_suffix(ending) for place in places for ending in (".png", ".jpg")]
        return next((place for place in images if place.is_file()), places[0])

    def _selected(self) -> Iterator[_Pair]:
        top = next(
            (p for p in (self.root / "depth_selection", self.root) if (p / "val_selection_cropped").is_dir()), None
        )
        if top is None:
            return
        folder = top / "val_selection_cropped"
        for depth in _pngs(folder / "groundtruth_depth"):
            camera = re.search(r"_image_0([23])\.png$", depth.name)
            if camera and int(camera.group(1)) not in self.cameras:
                continue
            yield _Pair(folder / "image" / depth.name.replace("_groundtruth_depth_", "_image_"), depth, "test")


def _pngs(folder: Path) -> list[Path]:
    return list_files(folder, (".png",), deep=False).files if folder.is_dir() else []


class _Pair(NamedTuple):
    image: Path
    depth: Path
    split: Split
