"""Find, then estimate: boxes of a detector or of a file, a crop each, one task's answers on all of them in one.

The crops are those the task was trained on (`visionkit.crops`), and they are taken by the same road as in training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from visionkit.crops import PersonCrop, usable_box
from visionkit.errors import DataError, UsageError, suggest
from visionkit.images import ImageLike, ImageSource
from visionkit.predictions import Detections, Poses, Prediction
from visionkit.predictor import Predictor, Result
from visionkit.types import View

SCORE = 0.3
"""Score from which a detector's box is looked at where nobody asks for another."""

MAX_PERSONS = 20
"""Boxes of one picture that are looked at, the surest first: as many as COCO counts."""


class Boxes(NamedTuple):
    """Where to look.

    Attributes:
        boxes: (N, 4) x1, y1, x2, y2 in file pixels.
        scores: (N,) in [0, 1].
    """

    boxes: np.ndarray
    scores: np.ndarray


class FindThenEstimate:
    """A detector before a network that looks at one person a crop.

    Args:
        estimator: Of a task with a `crop`.
        detector: Finds the boxes.
        boxes: In place of a detector, finds the boxes of a picture; see `BoxFile`.
        subject: Class of the detector that is looked at; by default the estimator's own, or the detector's only one.
        score: Score from which a box is looked at.
        max_persons: Of the surest boxes, at most.

    Attributes:
        outside: Boxes that were left out so far because nothing of them lies in their picture.

    Example:
        >>> chain = FindThenEstimate(load("pose.ckpt"), load("detection.ckpt"))
        >>> chain("photo.jpg").joints.shape
        (3, 17, 2)
    """

    def __init__(
        self,
        estimator: Predictor,
        detector: Predictor | None = None,
        *,
        boxes: Callable[[ImageSource], Boxes] | None = None,
        subject: str | None = None,
        score: float = SCORE,
        max_persons: int = MAX_PERSONS,
    ) -> None:
        crop = getattr(estimator.task, "crop", None)
        if not isinstance(crop, PersonCrop):
            raise UsageError(
                f"{estimator.task.name}: this model looks at whole pictures and takes no boxes; leave the detector out"
            )
        if (detector is None) == (boxes is None):
            raise UsageError("boxes come from a detector or from a file: give one of them")
        if not 0 <= score <= 1 or max_persons < 1:
            raise UsageError(f"score {score} must lie between 0 and 1, and max_persons {max_persons} be at least 1")
        self.estimator, self.detector, self.crop = estimator, detector, crop
        self.score, self.max_persons, self.outside = score, max_persons, 0
        self._given = boxes
        self.subject = None if detector is None else _subject(detector, estimator, subject)

    @property
    def task(self) -> Any:
        """The estimator's."""
        return self.estimator.task

    def __call__(self, picture: ImageLike, **options: Any) -> Prediction:
        """The persons of one picture.

        Args:
            picture: Path, bytes, PIL picture or array (h, w, 3) RGB uint8.
            **options: Of the estimator's `decode`.

        Raises:
            DataError: The picture cannot be read.
        """
        source = self.estimator.preprocessor.source(picture)
        pixels = ImageSource(source.read(), source.name)  # decode once
        if self.detector is None:
            assert self._given is not None
            return self.look(pixels, self._given(source), **options)
        return self.look(pixels, self._chosen(self.detector(pixels)), **options)

    def stream(
        self, sources: Iterable[ImageLike], batch_size: int | None = None, workers: int = 0, **options: Any
    ) -> Iterator[Result]:
        """As `Predictor.stream`."""
        if self.detector is None:
            assert self._given is not None
            for source in sources:
                try:
                    picture = ImageSource(source)
                    yield Result(source, self.look(picture, self._given(picture), **options), None)
                except DataError as error:
                    yield Result(source, None, error)
            return
        for result in self.detector.stream(sources, batch_size, workers):
            if result.prediction is None:
                yield result
                continue
            poses = self.look(ImageSource(result.source), self._chosen(result.prediction), **options)
            yield Result(result.source, poses, None)

    def look(self, picture: ImageSource, where: Boxes, **options: Any) -> Prediction:
        """The estimator's answer in each of the boxes; a person's score is that of the box times its own.

        Args:
            picture: The picture.
            where: Boxes outside of it are left out and counted in `outside`.
            **options: Of the estimator's `decode`.
        """
        order = np.argsort(-where.scores, kind="stable")
        size, kept = picture.size, []
        for number in order:
            if where.scores[number] < self.score:
                continue
            box = usable_box(where.boxes[number], size)
            if box is None:
                self.outside += 1
            else:
                kept.append((box, float(where.scores[number])))
        kept = kept[: self.max_persons]
        views: Sequence[View] = [View(self.crop.region(box, self.task.input.size)) for box, _ in kept]
        parts = []
        for (box, score), part in zip(kept, self.estimator.each(picture, views, **options), strict=True):
            assert isinstance(part, Poses)
            parts.append(replace(part, scores=part.scores * score, boxes=box[None]))
        answer: Prediction = self.task.merge(parts, **options)
        return answer

    def _chosen(self, found: Prediction) -> Boxes:
        assert isinstance(found, Detections)
        assert self.subject is not None
        mine = found.chosen(found.labels == found.classes.index(self.subject))
        return Boxes(mine.boxes, mine.scores)


def _subject(detector: Predictor, estimator: Predictor, wanted: str | None) -> str:
    classes = detector.classes
    if detector.task.name not in ("detection", "instance_segmentation"):
        raise UsageError(f"the detector is a model of {detector.task.name}; give one that finds boxes")
    if wanted is None:
        wanted = estimator.classes[0]
        if wanted not in classes and len(classes) == 1:
            return classes[0]
    if wanted not in classes:
        shown = ", ".join(classes[:12]) + (", ..." if len(classes) > 12 else "")
        raise UsageError(
            f"the detector does not know {wanted!r}, which is what the other model looks at; it knows {shown}"
            f"{suggest(wanted, classes)}"
        )
    return wanted


class BoxFile:
    """Boxes by picture from a file: a detector's `predictions.jsonl`, or `{"photo.jpg": [[x1, y1, x2, y2], ...]}`.

    A fifth number of a box is its score. A picture is found by its path as it is written, else by its file name.

    Args:
        path: Of the file.
        subject: Class of a detector's boxes that are taken; all where left out.

    Raises:
        DataError: The file cannot be read, or an entry of it is no box; names the entry.
    """

    def __init__(self, path: str | Path, subject: str | None = None) -> None:
        self.path = Path(path)
        try:
            text = self.path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as a file of boxes ({error})") from None
        rows = self._lines(text, subject) if self.path.suffix == ".jsonl" else self._mapping(text)
        self.by_path = {str(Path(name)): boxes for name, boxes in rows.items()}
        self.by_name: dict[str, Boxes] = {}
        double: set[str] = set()
        for name, boxes in self.by_path.items():
            short = Path(name).name
            if short in self.by_name:
                double.add(short)
            self.by_name[short] = boxes
        for short in double:  # whose it is cannot be told
            del self.by_name[short]

    def __call__(self, picture: ImageSource) -> Boxes:
        """The boxes of a picture.

        Raises:
            DataError: The file does not know it.
        """
        path = str(Path(picture.name))
        found = self.by_path.get(path) or self.by_name.get(Path(path).name)
        if found is None:
            raise DataError(f"{picture.name}: {self.path} has no boxes for it{suggest(Path(path).name, self.by_name)}")
        return found

    def _mapping(self, text: str) -> dict[str, Boxes]:
        try:
            top = json.loads(text)
        except ValueError as error:
            raise DataError(f"{self.path}: no valid json ({error})") from None
        if not isinstance(top, Mapping):
            raise DataError(f'{self.path}: should be {{"photo.jpg": [[x1, y1, x2, y2], ...], ...}}')
        return {str(name): _boxes(rows, f"{self.path} {name!r}") for name, rows in top.items()}

    def _lines(self, text: str, subject: str | None) -> dict[str, Boxes]:
        out: dict[str, Boxes] = {}
        for number, line in enumerate(filter(None, text.splitlines()), 1):
            place = f"{self.path} line {number}"
            try:
                record = json.loads(line)
                answer = Prediction.from_json(record["prediction"])
                name = str(record["source"])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{place}: no record of a prediction ({error})") from None
            if not isinstance(answer, Detections):
                raise DataError(f"{place}: holds {answer.kind}, not detections")
            if subject is not None and subject in answer.classes:
                answer = answer.chosen(answer.labels == answer.classes.index(subject))
            out[name] = Boxes(answer.boxes, answer.scores)
        return out


def _boxes(rows: Any, place: str) -> Boxes:
    good = isinstance(rows, list) and all(
        isinstance(row, list)
        and len(row) in (4, 5)
        and all(isinstance(value, (int, float)) and math.isfinite(value) for value in row)
        for row in rows
    )
    if not good:
        raise DataError(f"{place}: should be a list of boxes, each x1, y1, x2, y2 and, where known, a score")
    values = np.array([[*row, 1.0][:5] for row in rows], dtype=np.float64).reshape(-1, 5)
    return Boxes(values[:, :4], values[:, 4])
