"""OTB's layout: sequences of frames, each with the box of one object that is followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.frames import Frames, check_whole
from datamodules.object_entries import AnnotatedImage
from datamodules.objects import ObjectData, ObjectImages
from visionkit.data import Split
from visionkit.errors import DataError, UsageError, suggest
from visionkit.following.one_pass import OnePass, follow, measure
from visionkit.following.otb_files import OtbSequence, frame_number, read_sequence, truth_files
from visionkit.following.visual_tracker import VisualTracker
from visionkit.types import Sample

CLASS = "object"


class OtbData(ObjectData):
    """Sequences in OTB's layout: `<sequence>/img/0001.jpg`, `groundtruth_rect.txt`, of one class, `object`.

    The benchmark is for visual trackers, which are not trained on it: `one_pass` follows each object from its first
    true box on, as `visionkit follow` does with the folder. As frames of videos the data also serves detectors, whose
    AP `visionkit test` measures; a sequence with several objects has all their boxes in a frame then.

    Args:
        root: Folder of the sequences, or of `train/` and `test/` with them, or of a single one.
        val_sequences: Names of the sequences that validation takes; they are left out of training.
        test_sequences: Names of the sequences that testing takes. With `test_fraction` 1 testing takes all.
        starts: Number of the image that the first true box belongs to, by sequence, where it is not the first image;
            those of the benchmark (David, BlurCar1, BlurCar3, BlurCar4) are known.
        **base: See `datamodules.objects.ObjectData`.
    """

    def __init__(
        self,
        root: str,
        *,
        val_sequences: Sequence[str] = (),
        test_sequences: Sequence[str] = (),
        starts: Mapping[str, int] | None = None,
        val_fraction: float = 0.0,
        **base: Any,
    ) -> None:
        super().__init__(val_fraction=val_fraction, **base)
        if self.target != "boxes":
            raise UsageError("data.target masks: OTB has boxes alone")
        check_whole(self.fractions, "name whole ones with data.{split}_sequences")
        self.root, self.starts = Path(root), dict(starts or {})
        self.chosen: dict[Split, tuple[str, ...]] = {"val": tuple(val_sequences), "test": tuple(test_sequences)}
        self.classes = self.classes or (CLASS,)
        if len(self.classes) != 1:
            raise UsageError(f"data.classes {', '.join(self.classes)}: OTB names no classes; give one, such as {CLASS}")

    @classmethod
    def discover_classes(cls, root: str = "", **init_args: Any) -> list[str]:
        """The one class of all objects."""
        return [CLASS]

    def sequences(self, split: Split = "train") -> list[OtbSequence]:
        """The objects of a split with their images and boxes; all of a folder without splits are of `train`.

        Raises:
            DataError: No sequence, or an image is missing.
        """
        folders = self._folders(split)
        if folders is None:
            raise self.missing(split, self.source)
        return [each for folder in folders for each in self._read_sequence(folder)]

    def one_pass(self, tracker: VisualTracker, split: Split = "train") -> dict[str, OnePass]:
        """Follows the object of each sequence and measures it by OTB's protocol, by the name of the sequence.

        Args:
            tracker: Begins again with each.
            split: Whose sequences.
        """
        return {each.name: measure(each.boxes, follow(tracker, each), name=each.name) for each in self.sequences(split)}

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        folders = self._folders(split)
        if folders is None:
            return None
        self.note(split, ", ".join(folder.name for folder in folders))
        return [entry for folder in folders for entry in self._entries(folder)]

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The frames of one split, those of a sequence in order."""
        images = super().dataset(split)
        assert isinstance(images, ObjectImages)
        return Frames([self._frame_places[entry.file] for entry in images.entries], images)

    # ------------------------------------------------------------------ sequences

    def _folders(self, split: Split) -> list[Path] | None:
        inside = self.root / split
        home = inside if inside.is_dir() else self.root if split == "train" else None
        if self.chosen.get(split):
            return [self._named(name, split) for name in self.chosen[split]]
        if home is None:
            return None
        if not home.is_dir():
            raise DataError(f"{home}: no such folder")
        if truth_files(home):
            return [home]
        taken = {name for names in self.chosen.values() for name in names} if split == "train" else set()
        found = [each for each in _below(home) if each.name not in taken]
        if not found and split == "train":
            raise DataError(f"{home}: no sequence here (<sequence>/groundtruth_rect.txt) that is not of another split")
        return found or None

    def _named(self, name: str, split: Split) -> Path:
        homes = [home for home in (self.root / split, self.root / "train", self.root) if home.is_dir()]
        known = {each.name: each for home in reversed(homes) for each in _below(home)}
        if name not in known:
            raise DataError(f"data.{split}_sequences: no sequence {name!r} in {self.root}{suggest(name, known)}")
        return known[name]

    def _read_sequence(self, folder: Path) -> list[OtbSequence]:
        return [read_sequence(name, truth, self.starts) for name, truth in truth_files(folder).items()]

    def _entries(self, folder: Path) -> list[AnnotatedImage]:
        """One entry per frame, with the boxes of all objects of the sequence that are there."""
        objects = self._read_sequence(folder)
        name = folder.absolute().name
        rows: dict[Path, list[tuple[int, np.ndarray]]] = {}
        for number, each in enumerate(objects, start=1):
            for image, box, stored in zip(each.images, each.corners, each.boxes, strict=True):
                is_box = bool(np.isfinite(stored).all() and (stored[2:] > 0).all())
                rows.setdefault(image, []).extend([(number, box)] * is_box)
        entries = []
        for position, image in enumerate(sorted(rows, key=frame_number)):
            self._frame_places[str(image)] = (name, position)
            found = rows[image]
            entries.append(
                AnnotatedImage(
                    str(image),
                    f"{objects[0].truth} image {image.name}",
                    np.array([box for _, box in found], np.float64).reshape(-1, 4),
                    np.zeros(len(found), np.int64),
                    more={"track_ids": np.array([number for number, _ in found], np.int64)},
                )
            )
        return entries


def _below(home: Path) -> list[Path]:
    return [each for each in sorted(home.iterdir()) if each.is_dir() and truth_files(each)]
