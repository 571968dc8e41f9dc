"""DAVIS's layout: videos as folders of frames, a mask of every frame, and lists of the sequences of each split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.class_names import shorten
from datamodules.frames import OfSequences
from datamodules.label_maps import LabeledMaps, LabelReader
from datamodules.segmentation import LabeledFiles, PairedData
from visionkit.data import Split
from visionkit.errors import DataError, UsageError, suggest
from visionkit.listing import list_images
from visionkit.text_files import read_lines
from visionkit.types import IGNORE, Sample

CLASSES = ("background", "object")

_IMAGES, _MASKS, _LISTS = "JPEGImages", "Annotations", "ImageSets"


@dataclass(frozen=True)
class DavisSequence:
    """One video.

    Attributes:
        name: Name of its folder.
        images: Its frames in order.
        masks: Mask of each frame: 0 and 255, or a number per object.
    """

    name: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]


def davis_sequences(root: Path, names: Sequence[str] = (), resolution: str = "480p") -> list[DavisSequence]:
    """The sequences of a folder in DAVIS's layout, in the order of their names.

    Args:
        root: The folder with `JPEGImages` and `Annotations`.
        names: Those that are read; all that have masks by default.
        resolution: Name of the folder below both: `480p` or `Full-Resolution`.

    Raises:
        DataError: No such folder or sequence, or frames without a mask.
    """
    images, masks = root / _IMAGES / resolution, root / _MASKS / resolution
    for folder in (images, masks):
        if not folder.is_dir():
            near = sorted(each.name for each in folder.parent.iterdir()) if folder.parent.is_dir() else []
            there = f"; there are {shorten(near, 4)}" if near else ""
            raise DataError(f"{folder}: no such folder; the root holds {_IMAGES} and {_MASKS}{there}")
    known = [each.name for each in sorted(masks.iterdir()) if each.is_dir() and (images / each.name).is_dir()]
    for name in names:
        if name not in known:
            raise DataError(f"{masks}: no sequence {name!r} with frames and masks{suggest(name, known)}")
    found = []
    for name in names or known:
        frames = list_images(images / name).files
        own = [masks / name / f"{path.stem}.png" for path in frames]
        missing = [image.name for image, path in zip(frames, own, strict=True) if not path.is_file()]
        if missing or not frames:
            what = f"{len(missing)} frames have no mask: {shorten(missing, 3)}" if frames else "no frames"
            raise DataError(f"{masks / name}: {what}")
        found.append(DavisSequence(name, tuple(frames), tuple(own)))
    if not found:
        raise DataError(f"{masks}: no sequences with frames and masks")
    return found


class ObjectReader(LabelReader):
    """Masks of DAVIS to background and object: any number is an object; 255 is one where nothing else is there."""

    def __init__(self) -> None:
        super().__init__(CLASSES, values={CLASSES[0]: 0, CLASSES[1]: list(range(1, IGNORE))}, ignore=(IGNORE,))

    def read(self, path: str | Path) -> np.ndarray:
        """(h, w) uint8: 0 background, 1 object, 255 not known."""
        labels = super().read(path)
        if not (labels == 1).any():
            labels = np.where(labels == IGNORE, 1, labels).astype(np.uint8)
        return labels


class DavisData(PairedData):
    """Frames of DAVIS 2016 and 2017 with what is object in them, whichever object it is.

    With it a semantic segmentation model becomes the parent that `visionkit propagate --method osvos` fine-tunes.

    Args:
        root: The folder with `JPEGImages`, `Annotations` and `ImageSets`.
        resolution: Name of the folder below the first two.
        year: Whose lists name the sequences of a split: `ImageSets/2017/train.txt`; `480p` or `2016` for those of 2016.
        train_sequences: Names of the sequences that are trained on, in place of a list.
        val_sequences: The same of validation.
        test_sequences: The same of test; the sequences of validation where there is neither.
        **base: See `LabelMapData`. The classes are `background` and `object`.
    """

    def __init__(
        self,
        root: str,
        *,
        resolution: str = "480p",
        year: str = "2017",
        train_sequences: Sequence[str] = (),
        val_sequences: Sequence[str] = (),
        test_sequences: Sequence[str] = (),
        **base: Any,
    ) -> None:
        super().__init__(root, background=0, **base)
        self.resolution, self.year = resolution, year
        self.chosen: dict[Split, tuple[str, ...]] = {
            "train": tuple(train_sequences),
            "val": tuple(val_sequences),
            "test": tuple(test_sequences),
        }
        if self.classes and tuple(self.classes) != CLASSES:
            raise UsageError(f"data.classes: those of DAVIS are {', '.join(CLASSES)}; leave them out")
        self.classes = CLASSES
        self._sequences: dict[Split, list[DavisSequence]] = {}

    @classmethod
    def discover_classes(cls, **init_args: Any) -> list[str]:
        """Background and object."""
        return list(CLASSES)

    def make_reader(self, split: Split) -> LabelReader:
        return ObjectReader()

    def find(self, split: Split) -> LabeledFiles:
        """The frames of the split's sequences, those of a sequence in order."""
        found = self.sequences(split)
        pairs = [pair for each in found for pair in zip(each.images, each.masks, strict=True)]
        return LabeledFiles(pairs, ", ".join(each.name for each in found[:5]) + ", ..." * (len(found) > 5), {})

    def sequences(self, split: Split) -> list[DavisSequence]:
        """The sequences of a split.

        Raises:
            DataError: Nothing names them, or one is missing.
        """
        if split not in self._sequences:
            names = self.chosen[split] or self._listed_names(split)
            self._sequences[split] = davis_sequences(self.root, names, self.resolution)
        return self._sequences[split]

    def _listed_names(self, split: Split) -> tuple[str, ...]:
        if split == "test" and (self.chosen["val"] or not self._list("test").is_file()):
            return self.chosen["val"] or self._listed_names("val")
        path = self._list(split)
        if not path.is_file():
            years = path.parent.parent
            there = sorted(each.name for each in years.iterdir() if each.is_dir()) if years.is_dir() else []
            found = f"; data.year may be {shorten(there, 4)}" if there else ""
            raise DataError(f"{path}: no such list; name the sequences with data.{split}_sequences{found}")
        # Lists of 2016 have a line per frame, "/JPEGImages/480p/bear/00000.jpg /Annotations/...", those of 2017 names.
        names = [Path(line.split()[0]) for _, line in read_lines(path)]
        taken = [each.parent.name if each.suffix else each.name for each in names]
        return tuple(dict.fromkeys(taken))

    def _list(self, split: Split) -> Path:
        return self.root / _LISTS / self.year / f"{split}.txt"

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The frames of one split, which state their sequence and their position in it."""
        maps = super().dataset(split)
        if not isinstance(maps, LabeledMaps):
            return maps
        places = [(each.name, frame) for each in self.sequences(split) for frame in range(len(each.images))]
        return SequencedMaps(maps, places)


class SequencedMaps(OfSequences, LabeledMaps):
    """Frames with label maps.

    Args:
        maps: The samples.
        places: Sequence and position of each.
    """

    def __init__(self, maps: LabeledMaps, places: Sequence[tuple[str, int]]) -> None:
        super().__init__(maps.store, maps.labels, maps.rows, maps.cache, maps.label_cache, maps.weigh)
        self.places = places
