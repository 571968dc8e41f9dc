"""Class folders: the folder that an image lies in is its class. A zip archive of them needs no unpacking."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.class_names import index_classes, shorten
from datamodules.image_store import FileStore, ImageStore, LabeledImages, PixelCache
from datamodules.splits import SPLITS, by_split, split_of
from datamodules.splitting import SplittingData
from datamodules.zips import ZipStore, zip_index
from visionkit.augmentation import Augmentation
from visionkit.data import Split
from visionkit.data_summary import SplitSummary
from visionkit.errors import DataError, UsageError
from visionkit.listing import SUFFIXES, is_hidden, is_image_content, is_image_name, list_folders, list_names
from visionkit.names import normalized
from visionkit.refusals import refuse
from visionkit.types import Sample
from visionkit.wording import counted

_SIZED = 100_000
"""Images up to which the size of each is looked up, so that empty files are refused before training."""


class FolderData(SplittingData):
    """Class folders, `root/<class>/*` or `root/{train,val,test}/<class>/*`, in a folder or a zip archive.

    Split folders may be called `training`, `valid`, `validation`, `dev`, `test_set` and so on, see
    `datamodules.splits`; they count as splits where a training folder is among them.

    Args:
        root: The folder or the archive.
        class_pattern: Regular expression with a group `class`, which names the class in the path of an image below its
            split's folder, where the class is not a folder: `(?P<class>[a-z]+)_\\d+` for `cat_001.jpg`.
        cache_mb: Decoded images are kept in memory where all of a split fit into this many MiB; 0 keeps none.
        augment: Changes training samples.
        **base: See `SplittingData`, which splits images off class by class. By default, `classes` are the folder names
            in alphabetical order.

    Example:
        >>> data = FolderData("photos", val_fraction=0.2, input=InputSpec(size=(64, 64)))
        >>> data.classes, len(data.samples("train"))
    """

    def __init__(
        self,
        root: str,
        *,
        class_pattern: str | None = None,
        cache_mb: int = 512,
        augment: Augmentation | None = None,
        **base: Any,
    ) -> None:
        super().__init__(augment=augment, **base)
        self.root, self.cache_mb = Path(root), cache_mb
        self.class_pattern = class_pattern
        self.classes = self.classes or tuple(self.discover_classes(root, class_pattern))
        self._scanned: _Scanned | None = None
        self._rows: dict[Split, np.ndarray] = {}

    @classmethod
    def discover_classes(cls, root: str = "", class_pattern: str | None = None, **init_args: Any) -> list[str]:
        """The names of the class folders of the training split, in alphabetical order."""
        return class_folders(Path(root), class_pattern)

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The images of one split, sorted by class folder and path."""
        scanned, rows = self._scan(), self._rows[split]
        if len(rows) == 0:
            raise self.missing(split, str(self.root))
        channels = self.input.channels if self.input else 3
        cache = PixelCache.for_images(scanned.store, rows, channels, self.cache_mb)
        return LabeledImages(scanned.store, rows, scanned.labels[rows], cache)

    def summary(self, split: Split) -> SplitSummary:
        """Images per class, and the files of the split's folder that are passed over."""
        summary, scanned = super().summary(split), self._scan()
        sources = scanned.listed.sources
        source = sources.get(split) or self.part_of(split, sources.get("train", self.root))
        return replace(summary, source=source, passed_over=scanned.listed.passed_over.get(split, {}))

    def _scan(self) -> _Scanned:
        if self._scanned is None:
            self._scanned = scanned = _scan(self.root, self.classes, self.class_pattern)
            rows = {split: np.flatnonzero(scanned.splits == split) for split in SPLITS}
            train, absent = rows["train"], self.absent([split for split in SPLITS if len(rows[split])])
            # By name, not by number: a checkpoint's order of classes must not change who is in the validation split.
            order = np.argsort(np.array(self.classes))
            files = [scanned.store.name(int(row)) for row in train]
            parts = self.split_off(files, absent, scanned.labels[train], order)
            self._rows = rows | {split: train[parts[split]] for split in ("train", *absent)}
        return self._scanned


class _Scanned(NamedTuple):
    listed: ClassFolders
    store: ImageStore
    labels: np.ndarray  # (n,) int64
    splits: np.ndarray  # (n,) str


class Labeled(NamedTuple):
    """One image of a listing.

    Attributes:
        path: Relative to the root, with slashes.
        label: Its class, in NFC.
        split: The split whose folder it is in; `train` where splits are no folders.
        size: Size in bytes.
        member: Its number in an archive.
    """

    path: str
    label: str
    split: Split
    size: int
    member: int = -1


@dataclass
class ClassFolders:
    """The images in the class folders of a folder or an archive.

    Attributes:
        root: The folder or the archive.
        images: Images by path.
        sources: Where each split that has a folder lies.
        passed_over: Number of files that are left out, by split and reason; those in no split's folder are counted for
            training.
    """

    root: Path
    images: list[Labeled] = field(default_factory=list)
    sources: dict[Split, str] = field(default_factory=dict)
    passed_over: dict[Split, Counter[str]] = field(default_factory=dict)

    def pass_over(self, reason: str, split: Split = "train") -> None:
        """Counts a file that is left out."""
        self.passed_over.setdefault(split, Counter())[reason] += 1

    def store(self) -> ImageStore:
        """The images themselves, numbered as they are listed."""
        if self.root.is_dir():
            return FileStore(self.root, [each.path for each in self.images])
        return ZipStore(self.root, np.array([each.member for each in self.images]))


class _File(NamedTuple):
    path: str  # below the root
    size: int
    member: int


def class_folders(root: Path, class_pattern: str | None = None) -> list[str]:
    """Names of the classes below a root, of its training folder where splits are folders; no image is read.

    Raises:
        DataError: None there.
    """
    _check_exists(root)
    if root.is_dir() and class_pattern is None:
        top = _descend(root)
        folders = list_folders(top)
        training = [folder for folder in folders if split_of(folder.name) == "train"]
        found = [each for folder in training for each in list_folders(folder)] if training else folders
        names = {normalized(folder.name) for folder in found}
    else:
        names = {each.label for each in list_labeled(root, class_pattern).images if each.split == "train"}
    if not names:
        raise DataError(f"{root}: no class folders; the layout is <class>/image.jpg or train/<class>/image.jpg")
    return sorted(names)


def list_labeled(root: Path, class_pattern: str | None = None) -> ClassFolders:
    """Every image in the class folders of a folder or a zip archive, by path.

    Args:
        root: The folder or the archive.
        class_pattern: See `FolderData`.

    Raises:
        DataError: There is no such place, no image in it, a class folder without an image, or an empty image.
    """
    _check_exists(root)
    listed = ClassFolders(root)
    files, others = _folder_files(root) if root.is_dir() else _zip_files(root)
    top = _top(files)
    start = sum(len(part) + 1 for part in top)
    folders = {each.path[start:].partition("/")[0] for each in files if "/" in each.path[start:]}
    splits: dict[str, Split] = {}
    if any(split_of(name) == "train" for name in folders):
        found = by_split([Path(name) for name in sorted(folders)], root)
        splits = {path.name: split for split, path in found.items()}
        listed.sources = {split: str(root.joinpath(*top, path)) for split, path in found.items()}
    else:
        listed.sources = {"train": str(root)}
    for reason, path in others:
        place = path[len(top)] if path[: len(top)] == top and len(path) > len(top) else ""
        listed.pass_over(reason, splits.get(place, "train"))
    pattern = _compiled(class_pattern)
    for file in files:
        split: Split = "train"
        parts = tuple(file.path[start:].split("/"))
        if splits:
            if parts[0] not in splits or len(parts) == 1:
                listed.pass_over("in no split's folder")
                continue
            split, parts = splits[parts[0]], parts[1:]
        label = _label(parts, pattern)
        if label is None:
            reason = "in no class folder" if pattern is None else "of a name that data.class_pattern does not fit"
            listed.pass_over(reason, split)
            continue
        listed.images.append(Labeled(file.path, label, split, file.size, file.member))
    if root.is_dir() and pattern is None:
        _check_folders(root.joinpath(*top), splits, listed)
    if not listed.images:
        raise DataError(f"{root}: no images in class folders (endings looked for: {' '.join(sorted(SUFFIXES))})")
    listed.images.sort(key=lambda each: each.path)
    empty = [each.path for each in listed.images if each.size == 0]
    if empty:
        error = f"{len(empty)} of {counted(len(listed.images), 'image')} are empty (0 bytes): {shorten(empty, 3)}"
        refuse("refused", DataError(f"{root}: {error}"))
    return listed


def _scan(root: Path, classes: Sequence[str], class_pattern: str | None) -> _Scanned:
    listed = list_labeled(root, class_pattern)
    places: dict[str, str] = {}
    for each in listed.images:
        if each.label not in places:
            places[each.label] = f"{root / each.path.rpartition('/')[0]}"
    numbers = index_classes(places, [normalized(name) for name in classes])
    labels = np.array([numbers[each.label] for each in listed.images], dtype=np.int64)
    splits = np.array([each.split for each in listed.images])
    return _Scanned(listed, listed.store(), labels, splits)


def _check_exists(root: Path) -> None:
    if root == Path() or not root.exists():
        raise DataError(f"{root}: no such folder or zip archive; give --data.root")


_Others = list[tuple[str, tuple[str, ...]]]  # reason and path of each file that is passed over


def _folder_files(root: Path) -> tuple[list[_File], _Others]:
    names, passed_over = list_names(root, sniff=is_image_content)
    # A size costs a request where the disk is a network's, which of a million images takes minutes.
    sized = len(names) <= _SIZED
    files = [_File(name, os.stat(f"{root}/{name}").st_size if sized else 1, -1) for name in names]  # noqa: PTH116
    return files, [(why, tuple(name.split("/"))) for why, some in passed_over.items() for name in some]


def _zip_files(root: Path) -> tuple[list[_File], _Others]:
    index = zip_index(root)
    files: list[_File] = []
    others: _Others = []
    for number, (name, size) in enumerate(zip(index.names, index.entries[:, 2].tolist(), strict=True)):
        parts = tuple(name.split("/"))
        if any(is_hidden(part) for part in parts):
            others.append(("hidden", parts))
        elif not is_image_name(parts[-1]):
            others.append((f"not an image ({Path(name).suffix.lower() or 'no ending'})", parts))
        else:
            files.append(_File(name, size, number))
    return files, others


def _top(files: Sequence[_File]) -> tuple[str, ...]:
    """The one folder that holds everything, as an unpacked archive often has; empty where there is none."""
    tops = {each.path.partition("/")[0] for each in files}
    if len(tops) > 1:
        return ()
    seconds = {each.path.split("/", 2)[1] for each in files if each.path.count("/") > 1}
    single = len(tops) == 1 and len(seconds) > 1 and split_of(next(iter(tops))) is None
    return (next(iter(tops)),) if single else ()


def _descend(root: Path) -> Path:
    """The same for a folder, without listing its files."""
    folders = list_folders(root)
    single = len(folders) == 1 and split_of(folders[0].name) is None and len(list_folders(folders[0])) > 1
    return folders[0] if single else root


def _compiled(class_pattern: str | None) -> re.Pattern[str] | None:
    if class_pattern is None:
        return None
    try:
        pattern = re.compile(class_pattern)
    except re.error as error:
        raise UsageError(f"data.class_pattern {class_pattern!r}: not a regular expression ({error})") from None
    if "class" not in pattern.groupindex:
        raise UsageError(
            f"data.class_pattern {class_pattern!r}: it needs a group named class, such as (?P<class>[a-z]+)"
        )
    return pattern


_class_of = functools.lru_cache(maxsize=4096)(normalized)
"""The class of a folder's name: one string for all of its images."""


def _label(parts: tuple[str, ...], pattern: re.Pattern[str] | None) -> str | None:
    if pattern is None:
        return _class_of(parts[0]) if len(parts) > 1 else None
    match = pattern.search("/".join(parts))
    return normalized(match["class"] or "") or None if match else None


def _check_folders(top: Path, splits: dict[str, Split], listed: ClassFolders) -> None:
    """Refuses class folders without an image, which are mostly a download that failed."""
    known = {(each.split, each.label) for each in listed.images}
    bases = [(split, top / name) for name, split in splits.items()] or [("train", top)]
    for split, base in bases:
        for folder in list_folders(base):
            if (split, normalized(folder.name)) not in known:
                refuse("refused", DataError(f"{folder}: no images in this class folder; add some or remove it"))
