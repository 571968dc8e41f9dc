"""ImageNet VID's layout: snippets of frames, one xml file per frame with the boxes and track ids of objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from datamodules.class_names import index_classes
from datamodules.frames import Frames, check_whole
from datamodules.object_entries import AnnotatedImage
from datamodules.objects import ObjectData, ObjectImages
from datamodules.vid_classes import CLASSES, Flag
from datamodules.voc import parse_voc, parse_xml
from visionkit.data import Split
from visionkit.errors import DataError, UsageError, suggest
from visionkit.families.detection.motion_speed import motion_ious
from visionkit.listing import list_images
from visionkit.text_files import flag, read_lines, whole_number
from visionkit.types import Sample


class VidData(ObjectData):
    """Videos in ImageNet VID's layout: `Data/VID/<split>/<snippet>/000000.JPEG`, xml in `Annotations/VID`, lists.

    Frames are evaluated in order, each snippet whole on one process; validation and test also measure AP50 by motion
    speed. Classes of the benchmark are named by words (`airplane`), not by their WordNet numbers.

    Args:
        root: Folder that holds `Data/VID` and `Annotations/VID`.
        train: Name of the list of training snippets in `ImageSets/VID`, without its ending, and of their folder; the
            lists `train_1`, `train_2` and so on are read as one. Without a list all snippets of the folder are taken.
        val: Name of the list of validation frames, and of their folder.
        test: Name of the list of test frames, and of their folder.
        frames_per_snippet: Training frames of a snippet, evenly spread; 0 takes all. Snippets have hundreds of frames
            that are alike.
        ignore: Objects that metrics count neither way and training leaves out: `generated` (boxes that were
            interpolated, which the benchmark's rules leave out and most publications count) and `occluded`.
        **base: See `datamodules.objects.ObjectData`; VID has boxes alone.

    Example:
        >>> data = VidData("ILSVRC2015", frames_per_snippet=15)
        >>> data.classes[:2]
        ('airplane', 'antelope')
    """

    def __init__(
        self,
        root: str,
        *,
        train: str = "train",
        val: str = "val",
        test: str = "test",
        frames_per_snippet: int = 0,
        ignore: Sequence[str] = (),
        val_fraction: float = 0.0,
        **base: Any,
    ) -> None:
        super().__init__(val_fraction=val_fraction, **base)
        if self.target != "boxes":
            raise UsageError("data.target masks: VID's xml has boxes alone")
        check_whole(self.fractions, "list whole ones in ImageSets/VID/{split}.txt")
        for each in ignore:
            if each not in get_args(Flag):
                allowed = get_args(Flag)
                raise UsageError(f"data.ignore {each!r}: allowed are {', '.join(allowed)}{suggest(each, allowed)}")
        if frames_per_snippet < 0:
            raise UsageError(f"data.frames_per_snippet {frames_per_snippet}: give a number from 0 on")
        self.root, self.ignore, self.frames_per_snippet = Path(root), tuple(ignore), frames_per_snippet
        self.lists: dict[Split, str] = {"train": train, "val": val, "test": test}
        self.classes = self.classes or tuple(self.discover_classes(root, train=train, val=val, test=test))

    @classmethod
    def discover_classes(
        cls, root: str = "", train: str = "train", val: str = "val", test: str = "test", **init_args: Any
    ) -> list[str]:
        """The benchmark's 30 where the first labeled frame has one of them, otherwise all names in alphabetical order.

        They are those of the training snippets, or of another split where there are none.
        """
        for name in (train, val, test):
            found: set[str] = set()
            for snippet in _snippets(Path(root), name) or ():
                for path in snippet.annotations.values():
                    found.update(_word(each) for each in parse_voc(path).names)
                    if found & set(CLASSES.values()):
                        return list(CLASSES.values())
            if found:
                return sorted(found)
        return []

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        snippets = _snippets(self.root, self.lists[split])
        if snippets is None:
            return None
        self.note(split, self.root / "Data/VID" / self.lists[split])
        return [entry for snippet in snippets for entry in self._entries(snippet, split)]

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The frames of one split, those of a snippet in order."""
        images = super().dataset(split)
        assert isinstance(images, ObjectImages)
        return Frames([self._frame_places[entry.file] for entry in images.entries], images)

    def _entries(self, snippet: Snippet, split: Split) -> list[AnnotatedImage]:
        numbers = sorted(snippet.chosen or snippet.images)
        if not numbers:
            raise DataError(f"{snippet.name}: a snippet without a frame in {self.root}")
        if split == "train" and 0 < self.frames_per_snippet < len(numbers):
            rows = (np.arange(self.frames_per_snippet) + 0.5) * len(numbers) / self.frames_per_snippet
            numbers = [numbers[int(row)] for row in rows]
        # How fast an object moves is a matter of all frames around, also of those that are not measured.
        around = numbers if split == "train" else sorted(snippet.annotations)
        frames = {number: self._frame(snippet, number) for number in dict.fromkeys([*around, *numbers])}
        motion: dict[int, np.ndarray] = {}
        if split != "train":
            counts = [len(frames[number]) for number in around]
            ids, boxes = (np.concatenate([_values(frames[k], what) for k in around]) for what in ("track_ids", "boxes"))
            parts = motion_ious(np.repeat(around, counts), ids, boxes)
            motion = dict(zip(around, np.split(parts, np.cumsum(counts)[:-1]), strict=True))
        entries = []
        for number in numbers:
            entry = frames[number]
            self._frame_places[entry.file] = (snippet.name, number)
            more = {"file_motion": motion[number]} if number in motion else {}
            entries.append(replace(entry, more={**entry.more, **more}))
        return entries

    def _frame(self, snippet: Snippet, number: int) -> AnnotatedImage:
        path = snippet.annotations.get(number)
        if path is None:
            raise DataError(f"{snippet.folder}: no annotation of frame {number}; is {snippet.labels} complete?")
        if number not in snippet.images:
            raise DataError(f"{path}: no image of frame {number} in {snippet.folder}; is the folder complete?")
        top = parse_xml(path)
        parsed = parse_voc(path, top)
        names = [_word(each) for each in parsed.names]
        numbers = index_classes({name: f"{path} object {k}" for k, name in enumerate(names, 1)}, self.classes)
        ids, flags = _tracks(top, path, self.ignore)
        # Unlike VOC's, its pixels count from 0; the last one is included in both, and one alone is an object.
        low, high = parsed.boxes[:, :2], parsed.boxes[:, 2:]
        boxes = np.concatenate([low + (high > low), high + 1], axis=1)
        return AnnotatedImage(
            str(snippet.images[number]),
            str(path),
            boxes,
            np.array([numbers[name] for name in names], np.int64),
            size=parsed.size,
            crowd=flags,
            more={"track_ids": ids},
        )


@dataclass(frozen=True)
class Snippet:
    """One video.

    Attributes:
        name: What it is called: its path below the folder of the split.
        folder: Folder of its images.
        labels: Folder of its annotations.
        images: Image files by frame.
        annotations: Annotation files by frame.
        chosen: Frames that the list names; empty takes all.
    """

    name: str
    folder: Path
    labels: Path
    images: dict[int, Path]
    annotations: dict[int, Path]
    chosen: frozenset[int] = frozenset()


def _snippets(root: Path, name: str) -> list[Snippet] | None:
    """The snippets of a list, or of a folder where there is no list; None where there is neither."""
    lists = root / "ImageSets/VID"
    files = [lists / f"{name}.txt"] if (lists / f"{name}.txt").is_file() else sorted(lists.glob(f"{name}_*.txt"))
    images, labels = root / "Data/VID", root / "Annotations/VID"
    if not labels.is_dir():
        raise DataError(f"{root}: no folder Annotations/VID, as ImageNet VID has")
    chosen: dict[str, set[int]] = {}
    for path in files:
        for place, snippet, frame in _listed(path):
            within = snippet if (labels / name / snippet).is_dir() else snippet.removeprefix(f"{name}/")
            if not (labels / name / within).is_dir():
                raise DataError(f"{place}: no snippet {snippet} in {labels / name}")
            chosen.setdefault(within, set()).update(() if frame is None else (frame,))
    if not files:
        home = labels / name
        if not home.is_dir():
            return None
        folders = {path.parent for path in home.rglob("*.xml")}
        chosen = {str(each.relative_to(home)): set() for each in sorted(folders)}
    return [
        Snippet(
            each,
            images / name / each,
            labels / name / each,
            _by_frame(list_images(images / name / each).files),
            _by_frame(sorted((labels / name / each).glob("*.xml"))),
            frozenset(frames),
        )
        for each, frames in sorted(chosen.items())
    ]


def _listed(path: Path) -> Iterator[tuple[str, str, int | None]]:
    """Place in the file, snippet and frame of each line: `snippet`, `snippet 1` or `snippet/000000 17`.

    A label other than 1 states that the snippet does not show the class that the list is of.
    """
    for number, line in read_lines(path, "list of snippets"):
        place, cells = f"{path} line {number}", line.split()
        snippet, _, last = cells[0].rpartition("/")
        if len(cells) == 4:  # snippet, 1, frame, frames of the snippet
            yield place, cells[0], whole_number(cells[2], place, "frame")
        elif snippet and last.isdecimal() and len(last) == 6:
            yield place, snippet, int(last)
        elif len(cells) == 1 or cells[1] == "1":
            yield place, cells[0], None


def _by_frame(paths: Sequence[Path]) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for path in paths:
        if not path.stem.isdecimal():
            raise DataError(
                f"{path}: its name states no frame; names are numbers from 0 on, such as 000000{path.suffix}"
            )
        found[int(path.stem)] = path
    return found


def _tracks(top: Any, path: Path, ignore: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(N,) int64 track ids and (N,) bool, which objects are ignored."""
    ids, flags = [], []
    for number, each in enumerate(top.findall("object"), start=1):
        place = f"{path} object {number}"
        given = each.findtext("trackid")
        if given is None:
            raise DataError(f"{place}: no trackid, as objects of ImageNet VID have; images alone are read by VocData")
        ids.append(whole_number(given.strip(), place, "trackid"))
        flags.append(any(flag((each.findtext(name) or "0").strip(), place, name) for name in ignore))
    if len(set(ids)) != len(ids):
        raise DataError(f"{path}: duplicate trackid; an id is one object")
    return np.array(ids, np.int64), np.array(flags, bool)


def _values(entry: AnnotatedImage, what: str) -> np.ndarray:
    return entry.boxes if what == "boxes" else entry.more[what]


def _word(name: str) -> str:
    """The benchmark's class in words; other names as they are."""
    return CLASSES.get(name, name)
