"""Folders of pictures and depth files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.augment import SampleAugment
from datamodules.class_names import shorten
from datamodules.depth_files import DEPTH_SUFFIXES, DepthData, DepthFiles, Pairs, check_every, check_unit, held_out
from datamodules.splits import split_of
from visionkit.data import Split
from visionkit.errors import DataError
from visionkit.listing import SUFFIXES

PICTURE_FOLDERS = ("images", "image", "rgb", "color")
DEPTH_FOLDERS = ("depth", "depths", "depth_maps")
"""Folders that lie side by side, with the same paths below."""

FRAME_ENDINGS = (".color", "_color", "-color", ".rgb", "_rgb")
"""How the picture of a frame is called where its depth lies beside it: `frame-000150.color.png` and `.depth.png`."""


class DepthFolderData(DepthData):
    """Pictures and depth, in one of two layouts that are told apart by what is there.

    `images/[train|val|test/]name.jpg` with `depth/[train|val|test/]name.png` (or .npy), as `visionkit scenes` writes;
    or frames of a depth camera side by side, `name.color.png` with `name.depth.png`, as 7-Scenes has them.

    Args:
        root: The folder.
        units_per_metre: What stands for a metre; by default 1000 for whole numbers (millimetres) and 1 for floats.
            TUM's files have 5000, KITTI's 256.
        test_every: Where there is no test folder, each n-th picture in order is held out for testing; 0 none.
        val_every: Where there is no val folder, each n-th of the others is for validation; 0 none.
        cache_mb: See `DepthData`.
        augment: Changes training samples.
        **base: See `VisionDataModule`.

    Example:
        >>> data = DepthFolderData("kitchen", test_every=5, input=InputSpec(size=(192, 256), fit="stretch"))
        >>> data.samples("train")[0].target["depth"].shape
        (480, 640)
    """

    def __init__(
        self,
        root: str,
        *,
        units_per_metre: float | None = None,
        test_every: int = 0,
        val_every: int = 8,
        cache_mb: int = 512,
        augment: SampleAugment | None = None,
        **base: Any,
    ) -> None:
        super().__init__(cache_mb=cache_mb, augment=augment, **base)
        check_unit(units_per_metre)
        self.root, self.units_per_metre = Path(root), units_per_metre
        self.every: dict[Split, int] = {"test": test_every, "val": val_every}
        check_every(self.every)

    def find(self) -> Pairs:
        """Lists the folder."""
        found = list(_pairs(self.root))
        store = DepthFiles(
            [str(each.picture) for each in found], [str(each.depth) for each in found], self.units_per_metre
        )
        return Pairs(store, held_out(np.array([each.split for each in found]), self.every))

    def advice(self, split: Split) -> str:
        """What to do where a split is empty."""
        if split == "train":
            return f"{self.root}: no pictures are left to train on; lower data.test_every or data.val_every"
        return f"{self.root}: there is no {split} folder and nothing is held out; set e.g. --data.{split}_every 5"


class _Pair(NamedTuple):
    picture: Path
    depth: Path
    split: Split


def _pairs(root: Path) -> Iterator[_Pair]:
    if not str(root) or not root.is_dir():
        raise DataError(f"{root}: no such folder; give --data.root")
    pictures = next((root / name for name in PICTURE_FOLDERS if (root / name).is_dir()), None)
    depths = next((root / name for name in DEPTH_FOLDERS if (root / name).is_dir()), None)
    found = list(_side_by_side(root) if pictures is None or depths is None else _mirrored(pictures, depths))
    if not found:
        raise DataError(
            f"{root}: no pairs of picture and depth; the layouts are images/name.jpg with depth/name.png, and "
            "name.color.png with name.depth.png"
        )
    yield from found


def _mirrored(pictures: Path, depths: Path) -> Iterator[_Pair]:
    known = {path.relative_to(depths).with_suffix(""): path for path in _files(depths, DEPTH_SUFFIXES)}
    missing = []
    for picture in _files(pictures, tuple(SUFFIXES)):
        place = picture.relative_to(pictures)
        depth = known.get(place.with_suffix(""))
        if depth is None:
            missing.append(str(place))
        else:
            yield _Pair(picture, depth, _split_of(place))
    if missing:
        raise DataError(f"{depths}: no depth for {len(missing)} pictures: {shorten(missing, 3)}")


def _side_by_side(root: Path) -> Iterator[_Pair]:
    for picture in _files(root, tuple(SUFFIXES)):
        ending = next((each for each in FRAME_ENDINGS if picture.stem.lower().endswith(each)), None)
        if ending is None:
            continue
        stem = picture.stem[: -len(ending)] + ending[0] + "depth"
        depth = next((p for p in (picture.with_name(stem + s) for s in DEPTH_SUFFIXES) if p.is_file()), None)
        if depth is None:
            raise DataError(f"{picture}: no depth beside it; looked for {stem}.png and {stem}.npy")
        yield _Pair(picture, depth, _split_of(picture.relative_to(root)))


def _split_of(place: Path) -> Split:
    return (split_of(place.parts[0]) if len(place.parts) > 1 else None) or "train"


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in endings and not p.name.startswith("."))
