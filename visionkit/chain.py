"""Top-down inference: crop every detected or given box, run one task on each crop and merge the predictions.

The crops are those the task was trained on (`VisionTask.plan`), and they are taken by the same path as in training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from visionkit.crops import PersonCrop, usable_box
from visionkit.errors import DataError, UsageError, suggest
from visionkit.images import ImageLike, ImageSource
from visionkit.inputs import Given
from visionkit.predictions import Detections, Prediction
from visionkit.predictor import Predictor
from visionkit.results import Call, Result
from visionkit.tiling import Located, Plan, Views

SCORE = 0.3
"""Score from which a detected box is cropped where nobody asks for another."""

MAX_PEOPLE = 20
"""Boxes of one image that are cropped, the highest-scoring first: as many as COCO counts."""


class Chain(Predictor):
    """A detector before a model that runs on crops.

    Args:
        detector: A model that finds boxes, or a function that gives those of an image, see `BoxFile`.
        predictor: Predictor of a task with a `crop`.
        subject: Class of the detector that is cropped; by default the task's own, or the detector's only one.
        score: Score from which a box is cropped.
        max_people: Number of boxes that are cropped at most, the highest-scoring ones.

    Attributes:
        outside: Boxes that were left out so far because nothing of them lies in their image.

    Example:
        >>> chain = Chain(load("detection.ckpt"), load("pose.ckpt"))
        >>> chain("photo.jpg").keypoints.shape
        (3, 17, 2)
    """

    def __init__(
        self,
        detector: Predictor | Callable[[ImageSource], Located],
        predictor: Predictor,
        *,
        subject: str | None = None,
        score: float = SCORE,
        max_people: int = MAX_PEOPLE,
    ) -> None:
        super().__init__(predictor.task, predictor.engine, predictor.batch_size)
        if not isinstance(getattr(predictor.task, "crop", None), PersonCrop):
            raise UsageError(
                f"{predictor.task.name}: this model takes whole images and no boxes; leave the detector out"
            )
        if not 0 <= score <= 1 or max_people < 1:
            raise UsageError(f"score {score} must lie between 0 and 1, and max_people {max_people} be at least 1")
        self.score, self.max_people, self.outside = score, max_people, 0
        given: Any = detector
        self._given = given
        self.detector: Predictor | None = given if hasattr(given, "task") else None
        self.subject = None if self.detector is None else _subject(self.detector, predictor, subject)

    def decoded(self, image: ImageLike) -> ImageSource:
        """The image with its pixels in memory, in RGB for both models."""
        source = self.preprocessor.source(image)
        return ImageSource(source.read(), source.name)

    def locate(self, image: ImageSource) -> Located:
        """Where the objects of an image are."""
        located: Located = self._given(image) if self.detector is None else self._chosen(self.detector(image))
        return located

    def plan(self, image: ImageSource, views: Views | None = None, **options: Any) -> Plan:
        if views is not None:
            return super().plan(image, views, **options)
        pixels = self.decoded(image)
        return self._cropped(pixels, self.locate(pixels), options)

    def _stream(self, sources: Iterable[Given], size: int, num_workers: int, call: Call) -> Iterator[Result]:
        if self.detector is None:
            yield from super()._stream(sources, size, num_workers, call)
            return
        # The detector has batches of its own, and it alone runs on the whole image.
        more: dict[str, Any] = {"features": True} if call.keeps_features else {}
        for result in self.detector.stream(sources, size, num_workers, **more):
            if result.prediction is None:
                yield result
                continue
            pixels = self.decoded(self.sample(result.source).image)
            plan = self._cropped(pixels, self._chosen(result.prediction), call.options)
            known = self._predict([self._planned(self.sample(pixels), plan, call)], call)[0]
            yield Result(result.source, known.prediction, None, known.novelty, features=result.features)

    def _cropped(self, image: ImageSource, found: Located, options: Mapping[str, Any]) -> Plan:
        """The plan of the task for the highest-scoring boxes that lie in an image."""
        numbers, boxes = [], []
        for number in np.argsort(-found.scores, kind="stable"):
            if found.scores[number] < self.score:
                continue
            box = usable_box(found.boxes[number], image.size)
            if box is None:
                self.outside += 1
            else:
                numbers.append(number)
                boxes.append(box)
        chosen = numbers[: self.max_people]
        kept = Located(np.array(boxes[: self.max_people]).reshape(-1, 4), found.scores[chosen])
        return self.task.plan(image, found=kept, **options)._replace(image=image)

    def _chosen(self, found: Prediction) -> Located:
        assert isinstance(found, Detections)
        assert self.subject is not None
        mine = found.chosen(found.labels == found.classes.index(self.subject))
        return Located(mine.boxes, mine.scores)


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
            f"the detector does not know {wanted!r}, which is what the other model processes; it knows {shown}"
            f"{suggest(wanted, classes)}"
        )
    return wanted


class BoxFile:
    """Boxes by image from a file: a detector's `predictions.jsonl`, or `{"photo.jpg": [[x1, y1, x2, y2], ...]}`.

    A fifth number of a box is its score. An image is found by its path as it is written, else by its file name.

    Args:
        path: Path of the file.
        subject: Class of a detector's boxes that are taken; all by default.

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
        self.by_name: dict[str, Located] = {}
        double: set[str] = set()
        for name, boxes in self.by_path.items():
            short = Path(name).name
            if short in self.by_name:
                double.add(short)
            self.by_name[short] = boxes
        for short in double:  # whose it is cannot be reported
            del self.by_name[short]

    def __call__(self, image: ImageSource) -> Located:
        """The boxes of an image.

        Raises:
            DataError: The file does not know it.
        """
        path = str(Path(image.name))
        found = self.by_path.get(path) or self.by_name.get(Path(path).name)
        if found is None:
            raise DataError(f"{image.name}: {self.path} has no boxes for it{suggest(Path(path).name, self.by_name)}")
        return found

    def _mapping(self, text: str) -> dict[str, Located]:
        try:
            top = json.loads(text)
        except ValueError as error:
            raise DataError(f"{self.path}: no valid json ({error})") from None
        if not isinstance(top, Mapping):
            raise DataError(f'{self.path}: should be {{"photo.jpg": [[x1, y1, x2, y2], ...], ...}}')
        return {str(name): _boxes(rows, f"{self.path} {name!r}") for name, rows in top.items()}

    def _lines(self, text: str, subject: str | None) -> dict[str, Located]:
        out: dict[str, Located] = {}
        for number, line in enumerate(filter(None, text.splitlines()), 1):
            place = f"{self.path} line {number}"
            try:
                record = json.loads(line)
                prediction = Prediction.from_json(record["prediction"])
                name = str(record["source"])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{place}: no record of a prediction ({error})") from None
            if not isinstance(prediction, Detections):
                raise DataError(f"{place}: holds {prediction.kind}, not detections")
            if subject is not None and subject in prediction.classes:
                prediction = prediction.chosen(prediction.labels == prediction.classes.index(subject))
            out[name] = Located(prediction.boxes, prediction.scores)
        return out


def _boxes(rows: Any, place: str) -> Located:
    good = isinstance(rows, list) and all(
        isinstance(row, list)
        and len(row) in (4, 5)
        and all(isinstance(value, (int, float)) and math.isfinite(value) for value in row)
        for row in rows
    )
    if not good:
        raise DataError(f"{place}: should be a list of boxes, each x1, y1, x2, y2 and, where known, a score")
    values = np.array([[*row, 1.0][:5] for row in rows], dtype=np.float64).reshape(-1, 5)
    return Located(values[:, :4], values[:, 4])
