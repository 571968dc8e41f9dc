"""Class folders: the folder that a picture lies in is its class. A zip archive of them needs no unpacking."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.augment import SampleAugment
from datamodules.class_names import index_classes, shorten
from datamodules.pictures import FileStore, LabelledPictures, PictureStore, PixelCache, split_rows
from datamodules.zips import ZipStore, zip_index
from visionkit.data import Split, VisionDataModule
from visionkit.errors import DataError, UsageError
from visionkit.listing import SUFFIXES
from visionkit.types import Sample

SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Folder names that mean a split where a training folder is among them."""


class FolderData(VisionDataModule):
    """Class folders, `root/<class>/*` or `root/{train,val,test}/<class>/*`, in a folder or a zip archive.

    Args:
        root: The folder or the archive.
        val_fraction: Share of the training pictures that is split off for validation where there is no val folder,
            class by class. Pictures of the test folder are never taken.
        test_fraction: The same for testing where there is no test folder.
        split_seed: Chooses which pictures are split off; the run's seed does not.
        cache_mb: Decoded pictures are kept in memory where all of a split fit into this many MiB; 0 keeps none.
        augment: Changes training samples.
        **base: See `VisionDataModule`. `classes` left out are the folder names in alphabetical order.

    Example:
        >>> data = FolderData("photos", val_fraction=0.2, input=InputSpec(size=(64, 64)))
        >>> data.classes, len(data.samples("train"))
    """

    def __init__(
        self,
        root: str,
        *,
        val_fraction: float = 0.1,
        test_fraction: float = 0.0,
        split_seed: int = 0,
        cache_mb: int = 512,
        augment: SampleAugment | None = None,
        **base: Any,
    ) -> None:
        super().__init__(augment=augment, **base)
        self.root, self.split_seed, self.cache_mb = Path(root), split_seed, cache_mb
        self.fractions: dict[Split, float] = {"val": val_fraction, "test": test_fraction}
        self.classes = self.classes or tuple(self.discover_classes(root))
        self._scanned: _Found | None = None
        self._rows: dict[Split, np.ndarray] = {}

    @classmethod
    def discover_classes(cls, root: str = "", **init_args: Any) -> list[str]:
        """The names of the class folders of the training split, in alphabetical order."""
        return class_folders(_existing(root))

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The pictures of one split, sorted by class folder and path."""
        found, rows = self._found(), self._rows[split]
        if len(rows) == 0:
            raise UsageError(self._advice(split))
        channels = self.input.channels if self.input else 3
        cache = PixelCache.for_pictures(found.store, rows, channels, self.cache_mb)
        return LabelledPictures(found.store, rows, found.labels[rows], cache)

    def _found(self) -> _Found:
        if self._scanned is None:
            self._scanned = found = _scan(self.root, self.classes)
            rows = {split: np.flatnonzero(found.splits == split) for split in ("train", "val", "test")}
            wanted = {split: part for split, part in self.fractions.items() if len(rows[split]) == 0}
            train = rows["train"]
            # By name, not by number: a checkpoint's order of classes must not change who is in the validation split.
            order = np.argsort(np.array(self.classes))
            parts = split_rows(found.labels[train], wanted, self.split_seed, order)
            self._rows = {split: train[parts[split]] for split in ("train", *wanted)} | {
                split: rows[split] for split in ("val", "test") if split not in wanted
            }
        return self._scanned

    def _advice(self, split: Split) -> str:
        return (
            f"{self.root}: there is no {split} folder and data.{split}_fraction is 0; "
            f"add the folder or set e.g. --data.{split}_fraction 0.1"
        )


class _Found(NamedTuple):
    store: PictureStore
    labels: np.ndarray  # (n,) int64
    splits: np.ndarray  # (n,) str


def _existing(root: str | Path) -> Path:
    path = Path(root)
    if not str(root) or not path.exists():
        raise DataError(f"{root or 'data.root'}: no such folder or zip archive; give --data.root")
    return path


def class_folders(root: Path) -> list[str]:
    """Names of the class folders below a root, of its training folder where splits are folders; no picture is read.

    Raises:
        DataError: None there.
    """
    if root.is_dir():
        top = _descend(root)
        folders = _folders(top)
        training = [name for name in folders if SPLIT_FOLDERS.get(name.lower()) == "train"]
        names = [name for part in training for name in _folders(top / part)] if training else folders
    else:
        names = [label for _, label, split in _zip_pictures(root) if split == "train"]
    if not names:
        raise DataError(f"{root}: no class folders; the layout is <class>/picture.jpg or train/<class>/picture.jpg")
    return sorted(set(names))


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith((".", "__MACOSX")))


def _descend(root: Path) -> Path:
    """An unpacked archive often holds one folder that holds everything."""
    folders = _folders(root)
    if len(folders) == 1 and folders[0].lower() not in SPLIT_FOLDERS and len(_folders(root / folders[0])) > 1:
        return root / folders[0]
    return root


_ENDINGS = tuple(SUFFIXES)


def _is_picture(name: str) -> bool:
    return name.lower().endswith(_ENDINGS) and not name.startswith(".")


def _zip_pictures(root: Path) -> list[tuple[int, str, Split]]:
    """Member number, class and split of every picture in an archive."""
    paths = [name.split("/") for name in zip_index(root).names]
    kept = [(k, parts) for k, parts in enumerate(paths) if _is_picture(parts[-1]) and parts[0] != "__MACOSX"]
    tops = {parts[0] for _, parts in kept if len(parts) > 1}
    if len(tops) == 1 and not tops & SPLIT_FOLDERS.keys() and len({p[1] for _, p in kept if len(p) > 2}) > 1:
        kept = [(k, parts[1:]) for k, parts in kept]
        tops = {parts[0] for _, parts in kept if len(parts) > 1}
    if not any(SPLIT_FOLDERS.get(top.lower()) == "train" for top in tops):
        return [(number, parts[0], "train") for number, parts in kept if len(parts) > 1]
    splits = {top: SPLIT_FOLDERS[top.lower()] for top in tops if top.lower() in SPLIT_FOLDERS}
    return [(k, parts[1], splits[parts[0]]) for k, parts in kept if len(parts) > 2 and parts[0] in splits]


def list_pictures(root: Path) -> list[Entry]:
    """Every picture in the class folders of a folder or a zip archive, by path.

    Raises:
        DataError: There is no such place, nothing in it, or a picture without a byte.
    """
    _existing(root)
    listed = sorted(_list_folder(root) if root.is_dir() else _list_zip(root), key=lambda each: each.path)
    if not listed:
        raise DataError(f"{root}: no pictures in class folders (endings looked for: {' '.join(sorted(SUFFIXES))})")
    empty = [each.path for each in listed if each.size == 0]
    if empty:
        raise DataError(f"{root}: {len(empty)} of {len(listed)} pictures are empty (0 bytes): {shorten(empty, 3)}")
    return listed


def picture_store(root: Path, listed: Sequence[Entry]) -> PictureStore:
    """The pictures themselves, numbered as they are listed."""
    if root.is_dir():
        return FileStore(root, [each.path for each in listed])
    return ZipStore(root, np.array([each.member for each in listed]))


def _scan(root: Path, classes: Sequence[str]) -> _Found:
    listed = list_pictures(root)
    places: dict[str, str] = {}
    for each in listed:
        if each.label not in places:
            places[each.label] = f"{root / each.path.rpartition('/')[0]}"
    numbers = index_classes(places, classes)
    labels = np.array([numbers[each.label] for each in listed], dtype=np.int64)
    splits = np.array([each.split for each in listed])
    return _Found(picture_store(root, listed), labels, splits)


class Entry(NamedTuple):
    """One picture of a listing.

    Attributes:
        path: Relative to the root, with slashes.
        label: Its class folder.
        split: The split whose folder it is in; `train` where splits are no folders.
        size: In bytes.
        member: Its number in an archive.
    """

    path: str
    label: str
    split: Split
    size: int
    member: int = -1


def _list_folder(root: Path) -> Iterator[Entry]:
    top = _descend(root)
    folders = _folders(top)
    by_split = [name for name in folders if name.lower() in SPLIT_FOLDERS]
    if any(SPLIT_FOLDERS[name.lower()] == "train" for name in by_split):
        groups = [(SPLIT_FOLDERS[name.lower()], top / name) for name in by_split]
    else:
        groups = [("train", top)]
    for split, base in groups:
        for label in _folders(base):
            entries = list(_walk(base / label))
            if not entries:
                raise DataError(f"{base / label}: no pictures in this class folder; add some or remove it")
            for path, size in entries:
                yield Entry(path.relative_to(root).as_posix(), label, split, size)


def _walk(folder: Path) -> Iterator[tuple[Path, int]]:
    for where, folders, _ in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        with os.scandir(where) as entries:
            for entry in entries:
                if _is_picture(entry.name) and entry.is_file():
                    yield Path(entry.path), entry.stat().st_size


def _list_zip(root: Path) -> Iterator[Entry]:
    index = zip_index(root)
    sizes = index.entries[:, 2].tolist()
    for number, label, split in _zip_pictures(root):
        yield Entry(index.names[number], label, split, sizes[number], number)
