"""Where the xml files, images and lists of a VOC data set lie: in its own folders in any case, or beside each other."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from datamodules.class_names import first_duplicate, shorten
from datamodules.splits import find_split
from visionkit.data import Split
from visionkit.errors import DataError, suggest
from visionkit.listing import list_files, list_folders, list_images, resolve_listed
from visionkit.text_files import read_lines

_XML = frozenset({".xml"})
_ANNOTATIONS = ("annotations", "annotation", "xml", "xmls", "labels")
_IMAGES = ("jpegimages", "images", "image", "imgs", "img", "jpgimages", "pngimages")
_FLAG = re.compile(r"(.*\S)\s+-?[01]")  # a list of one class: an image, and whether it shows the class


class Annotated:
    """The xml files of a split, and the folder of their images.

    Args:
        source: The split's list or folder.
        folder: Folder of the xml files.
        xml: The xml files in the order of the list, or of their names.
        images: Folder of the images.
        whole: The split is all of the folder, so an image without an xml file is left out.
    """

    def __init__(self, source: Path, folder: Path, xml: Sequence[Path], images: Path, whole: bool) -> None:
        self.source, self.folder, self.xml, self.whole = source, folder, xml, whole
        self.listing = list_images(images)
        self._stems: dict[str, list[Path]] = {}
        for path in self.listing.files:
            inner = _key(path.relative_to(images).with_suffix("").as_posix())
            for key in {inner, inner.rpartition("/")[2]}:
                self._stems.setdefault(key, []).append(path)

    def image(self, xml: Path, filename: str) -> Path:
        """The image of an xml file: that of its name, else the one that it names.

        Raises:
            DataError: Several have its name, and it names none of them.
        """
        stem = _key(xml.relative_to(self.folder).with_suffix("").as_posix())
        named = resolve_listed(self.listing.root, filename) if filename else None
        found = self._stems.get(stem) or self._stems.get(stem.rpartition("/")[2]) or []
        if len(found) == 1:
            return found[0]
        if named is not None and named.is_file():
            return named
        if found:
            both = " and ".join(str(path.relative_to(self.listing.root)) for path in found[:2])
            raise DataError(f"{xml}: {both} have its name, and it does not state which is meant; remove one of them")
        return self.listing.root / f"{xml.stem}.jpg"

    def passed_over(self, used: Iterable[str]) -> dict[str, int]:
        """Number of files left out, by reason."""
        out = {reason: number for reason, number in self.listing.counts.items() if reason != "not an image (.xml)"}
        if self.whole:
            out["images without an xml file"] = len(set(map(str, self.listing.files)) - set(used))
        return out


class VocPlaces:
    """Finds the files of each split.

    Args:
        root: Root of the data set.
        lists: Name of the list of each split.
        annotations: Folder of the xml files below the root, which may have `{split}` in it, or None.
        images: Folder of the images in the same way, or None.
    """

    def __init__(self, root: Path, lists: Mapping[Split, str], annotations: str | None, images: str | None) -> None:
        self.root, self.lists, self.annotations, self.images = root, lists, annotations, images

    def annotated(self, split: Split) -> Annotated | None:
        """The files of one split; None where the data names no such split.

        Raises:
            DataError: No xml files at all, or a list that names what is not there.
        """
        if not str(self.root) or not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; give --data.root")
        if self.annotations is not None:
            return self._named(self.annotations, split)
        folder = _inner(self.root, _ANNOTATIONS)
        if folder is not None:
            inner = find_split(folder, "{split}", split)
            if inner is not None:
                return self._all(inner, find_split(self._image_folder(split), "{split}", split) or folder)
            if not any(find_split(folder, "{split}", other) for other in self.lists):
                return self._listed(folder, split)
            return None
        own = find_split(self.root, "{split}", split)
        if own is not None:
            inner = _inner(own, _ANNOTATIONS) or own
            return self._all(inner, _inner(own, _IMAGES) or own)
        if split == "train" and list_files(self.root, _XML, deep=False).files:
            return self._all(self.root, self._image_folder(split))
        if split == "train":
            raise DataError(
                f"{self.root}: no folder Annotations there, no folder train and no xml files; give --data.root the "
                "folder that holds them, or name theirs with --data.annotations"
            )
        return None

    def _named(self, pattern: str, split: Split) -> Annotated | None:
        if "{split}" in pattern:
            found = find_split(self.root, pattern, split)
            if found is None and split == "train":
                raise DataError(f"{self.root / pattern.format(split=split)}: no such folder; see --data.annotations")
            return None if found is None else self._all(found, self._image_folder(split))
        if not (self.root / pattern).is_dir():
            raise DataError(f"{self.root / pattern}: no such folder; see --data.annotations")
        return self._listed(self.root / pattern, split)

    def _image_folder(self, split: Split) -> Path:
        if self.images is not None:
            found = find_split(self.root, self.images, split)
            if found is None:
                raise DataError(f"{self.root / self.images.format(split=split)}: no such folder; see --data.images")
            return found
        return _inner(self.root, _IMAGES) or self.root

    def _all(self, folder: Path, images: Path) -> Annotated:
        files = list_files(folder, _XML).files
        if not files:
            raise DataError(f"{folder}: no xml files there")
        return Annotated(folder, folder, files, images, whole=True)

    def _listed(self, folder: Path, split: Split) -> Annotated | None:
        """By the lists of `ImageSets/Main`; without them all is for training."""
        name = self.lists[split]
        sets = _inner(self.root, ("imagesets",))
        main = (_inner(sets, ("main",)) or sets) if sets is not None else self.root / "ImageSets" / "Main"
        path = main / f"{name}.txt"
        if not path.is_file() and sets is not None:
            path = (find_split(main, "{split}.txt", split) if name == split else None) or path
        if path.is_file():
            return Annotated(path, folder, _xml_of(path, folder), self._image_folder(split), whole=False)
        if name != split:
            there = sorted(each.stem for each in main.glob("*.txt")) if main.is_dir() else []
            raise DataError(f"{path}: no such list; there are {', '.join(there)}{suggest(name, there)}")
        return self._all(folder, self._image_folder(split)) if split == "train" else None


def _xml_of(path: Path, folder: Path) -> list[Path]:
    """The xml files of a list; a line is a name, which may have blanks, or a name and a flag of one class."""
    names = []
    for _, line in read_lines(path):
        flagged = _FLAG.fullmatch(line)
        bare = flagged[1] if flagged and not resolve_listed(folder, f"{line}.xml").is_file() else line
        names.append(bare)
    twice = first_duplicate(names)
    if twice is not None:
        raise DataError(f"{path}: duplicate name {twice!r}")
    if not names:
        raise DataError(f"{path}: the list is empty")
    found = [resolve_listed(folder, f"{name}.xml") for name in names]
    missing = [str(each) for each in found if not each.is_file()]
    if missing:
        raise DataError(f"{shorten(missing, 3)}: no such annotation, which {path} lists")
    return found


def _inner(folder: Path, names: Sequence[str]) -> Path | None:
    """The folder in a folder with the first of some lower-case names, written in any case."""
    there = {path.name.lower(): path for path in list_folders(folder)}
    return next((there[name] for name in names if name in there), None)


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name)
