"""MOTChallenge's layout: sequences of frames with the boxes and ids of everything that is followed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.frames import Frames, check_whole
from datamodules.object_entries import AnnotatedImage
from datamodules.objects import ObjectData, ObjectImages
from visionkit.data import Split
from visionkit.errors import DataError, suggest
from visionkit.listing import list_images
from visionkit.tracking.mot_files import has_classes, read_mot
from visionkit.tracking.protocols import PROTOCOLS, TrackProtocol
from visionkit.tracking.rows import TrackRows
from visionkit.tracking.seqinfo import SequenceInfo, read_info
from visionkit.tracking.track_evaluation import measure_tracks
from visionkit.types import Sample

CLASSES = {
    1: ("pedestrian", "person", "people"),
    3: ("car",),
    4: ("bicycle",),
    5: ("motorbike", "motorcycle"),
}
"""Names that the benchmark's classes go by, its own first; of its further classes none is evaluated."""

_GT = Path("gt", "gt.txt")


class MotData(ObjectData):
    """Sequences in MOTChallenge's layout: `<sequence>/img1/000001.jpg`, `gt/gt.txt`, `seqinfo.ini`.

    Frames are evaluated in order, each sequence whole on one process. `visionkit validate` and `visionkit test` follow
    what the model detects with a tracker, and measure the tracks by the benchmark's protocol beside the detections.

    Args:
        root: Folder of the sequences, or of `train/` and `test/` with them.
        val_sequences: Names of the sequences that validation takes; they are left out of training.
        test_sequences: Names of the sequences that testing takes; by default those of `test/` that have ground truth.
            With `test_fraction` 1 testing takes all, for a model that was trained on other data.
        tracker: Tracker that follows the detections in evaluation; empty measures detections alone.
        **base: See `datamodules.objects.ObjectData`. `classes` are by default `pedestrian`; `person`, `car`, `bicycle`
            and `motorbike` are known too, and other classes have no objects here.
    """

    def __init__(
        self,
        root: str,
        *,
        val_sequences: Sequence[str] = (),
        test_sequences: Sequence[str] = (),
        tracker: str = "bytetrack",
        val_fraction: float = 0.0,
        **base: Any,
    ) -> None:
        super().__init__(val_fraction=val_fraction, **base)
        check_whole(self.fractions, "name whole ones with data.{split}_sequences")
        self.root, self.tracker = Path(root), tracker
        self.chosen: dict[Split, tuple[str, ...]] = {"val": tuple(val_sequences), "test": tuple(test_sequences)}
        self.classes = self.classes or (CLASSES[1][0],)
        self._truth: dict[str, Path] = {}

    @classmethod
    def discover_classes(cls, root: str = "", **init_args: Any) -> list[str]:
        """The one class that the benchmark follows."""
        return [CLASSES[1][0]]

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        folders = self._folders(split)
        if folders is None:
            return None
        self.note(split, ", ".join(folder.name for folder in folders))
        return [entry for folder in folders for entry in self._sequence(folder)]

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The frames of one split, those of a sequence in order."""
        images = super().dataset(split)
        assert isinstance(images, ObjectImages)
        places = [self._frame_places[entry.file] for entry in images.entries]
        return Frames(places, images)

    def setup(self, stage: str) -> None:
        """Also adds the evaluation of tracks to the trainer."""
        super().setup(stage)
        if not self.tracker or stage not in ("validate", "test"):
            return
        self.samples("val" if stage == "validate" else "test")  # other processes have read nothing yet
        measure_tracks(self.trainer, self.tracker, self.truth, self.protocol, self._number)

    def truth(self, sequence: str) -> TrackRows:
        """The ground truth of a sequence, distractors included."""
        return read_mot(self._truth[sequence])

    @property
    def protocol(self) -> TrackProtocol:
        """The benchmark's: MOT16's where the ground truth has classes."""
        return PROTOCOLS["mot16" if all(map(has_classes, self._truth.values())) else "mot15"]

    def _number(self, name: str) -> int:
        """The benchmark's number of a class; 0 where it has none."""
        return next((number for number, names in CLASSES.items() if name.lower() in names), 0)

    # ------------------------------------------------------------------ sequences

    def _folders(self, split: Split) -> list[Path] | None:
        inside = self.root / split
        home = inside if inside.is_dir() else self.root if split == "train" else None
        if split == "train" and not inside.is_dir() and (self.root / _GT).is_file():
            return [self.root]
        if self.chosen.get(split):
            return [self._named(name, split) for name in self.chosen[split]]
        if home is None:
            return None
        taken = {name for names in self.chosen.values() for name in names} if split == "train" else set()
        found = [each for each in sorted(home.iterdir()) if (each / _GT).is_file() and each.name not in taken]
        if not found and split == "train":
            raise DataError(f"{home}: no sequence here (<sequence>/gt/gt.txt) that is not of another split")
        return found or None

    def _named(self, name: str, split: Split) -> Path:
        homes = [home for home in (self.root / split, self.root / "train", self.root) if home.is_dir()]
        known = [each.name for home in homes for each in sorted(home.iterdir()) if (each / _GT).is_file()]
        place = next((home / name for home in homes if (home / name / _GT).is_file()), None)
        if place is None:
            raise DataError(f"data.{split}_sequences: no sequence {name!r} in {self.root}{suggest(name, known)}")
        return place

    def _sequence(self, folder: Path) -> list[AnnotatedImage]:
        info, path = read_info(folder), folder / _GT
        rows = read_mot(path)
        rows.check_ids()
        images = self._images(folder, info)
        if self._truth.setdefault(info.name, path) != path:
            raise DataError(f"{path}: its sequence has the name {info.name}, and so has {self._truth[info.name]}")
        classes = has_classes(path)
        numbers = {label: number for number, name in enumerate(self.classes) if (label := self._number(name))}
        kept = np.isin(rows.classes, list(numbers)) if classes else np.full(len(rows), 1 in numbers)
        ignored = np.zeros(len(rows), bool)
        if classes and 1 in numbers:
            ignored = np.isin(rows.classes, PROTOCOLS["mot16"].distractors)  # people that nobody has to find
        labels = np.array([numbers.get(int(label), numbers.get(1, 0)) for label in rows.classes], np.int64)
        entries = []
        last = max(max(images), int(rows.frames.max(initial=0)))
        for number, frame_rows in enumerate(rows.each_frame(last), start=1):
            if number not in images:
                where = folder / info.folder
                raise DataError(f"{path}: frame {number} of {last} has no image in {where}; is the folder complete?")
            image, some = images[number], frame_rows[kept[frame_rows] | ignored[frame_rows]]
            self._frame_places[str(image)] = (info.name, number - 1)
            entries.append(
                AnnotatedImage(
                    str(image),
                    f"{path} frame {number}",
                    rows.boxes[some],
                    labels[some],
                    crowd=ignored[some] | (rows.scores[some] == 0),
                    more={"track_ids": rows.ids[some]},
                )
            )
        return entries

    def _images(self, folder: Path, info: SequenceInfo) -> dict[int, Path]:
        """Images by number of their frame."""
        images: dict[int, Path] = {}
        for each in list_images(folder / info.folder).files:
            digits = "".join(filter(str.isdigit, each.stem))
            if not digits or int(digits) < 1:
                raise DataError(f"{each}: its name states no frame; names are numbers from 1 on, such as 000001.jpg")
            if int(digits) in images:
                raise DataError(f"{each}: a duplicate of frame {int(digits)}, {images[int(digits)].name}")
            images[int(digits)] = each
        if not images:
            raise DataError(f"{folder / info.folder}: no images of sequence {info.name}")
        return images
