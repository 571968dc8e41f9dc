"""From predictions to the annotations of a folder that a person reviews and `visionkit fit` trains on."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.label_folder import JOURNAL, Description, LabelFolder
from datamodules.object_entries import AnnotatedImage
from ui.label_options import CLASSES, OBJECTS
from visionkit.errors import UsageError, suggest
from visionkit.masks import mask_areas
from visionkit.plain_values import plain
from visionkit.predictions import Classification, Detections, Instances, Poses, Prediction

if TYPE_CHECKING:
    from visionkit.task import VisionTask

FLOOR = 0.1
"""Score from which an object counts for how uncertain a model is of an image."""

_PAUSE, _FACTOR = 2.0, 10.0  # seconds after which labels are brought to the disk, and multiples of what that took


def description_for(task: VisionTask, form: str | None, classes: Sequence[str] | None, out: Path) -> Description:
    """What a folder holds that a model labels.

    Args:
        task: Task of the model.
        form: One of `ui.label_options.FORMATS`; by default what the folder holds already, else `coco`, or `folders` for
            classes of whole images.
        classes: Classes to keep, of those of the model; all by default.
        out: The folder.

    Raises:
        UsageError: The model finds nothing that the format has a place for, or lacks one of the classes.
    """
    kinds = set(task.kinds) & TARGETS.keys()
    if not kinds:
        raise UsageError(
            f"label: this model is of {task.name}; labels are written of detection, instance segmentation, pose and "
            "classification"
        )
    target = TARGETS[kinds.pop()]
    formats = CLASSES if target == "classes" else OBJECTS
    if form is None:
        form = LabelFolder(out).description.format if (out / JOURNAL).is_file() else formats[0]
    if form == "voc" and target == "masks":
        target = "boxes"  # all that VOC's xml holds of them
    if form not in formats:
        raise UsageError(f"--format {form}: labels of {task.name} are written as {', '.join(formats)}")
    if getattr(task, "multilabel", False):
        raise UsageError("label: this model gives an image several classes, and labels are of one")
    if target == "keypoints" and form == "voc":
        raise UsageError("--format voc: VOC's xml has no place for keypoints; allowed are coco and yolo")
    known = tuple(task.classes or ())
    skeleton = getattr(task, "skeleton", None) if target == "keypoints" else None
    if skeleton is not None:
        known = (skeleton.subject,)
    for name in classes or ():
        if name not in known:
            raise UsageError(f"--classes {name}: the model has {', '.join(known[:20])}{suggest(name, known)}")
    kept = tuple(name for name in known if classes is None or name in classes)
    return Description(form, task.name, target, kept, plain(skeleton))


TARGETS = {Instances.kind: "masks", Detections.kind: "boxes", Poses.kind: "keypoints", Classification.kind: "classes"}
"""What is annotated, by type of prediction."""


def entry_of(
    prediction: Prediction, path: Path, size: tuple[int, int], classes: Sequence[str], min_score: float | None
) -> AnnotatedImage:
    """A prediction as the annotations of its image, with their scores.

    Objects without a pixel, as a network that has hardly been trained finds them, are left out.

    Args:
        prediction: Boxes, masks or poses.
        path: Path of the image.
        size: Its height and width, which cut boxes off; a keypoint outside is not labeled.
        classes: Classes that are kept, in label order.
        min_score: Score from which an object is kept; that from which the model itself would show one by default.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    if isinstance(prediction, Classification):
        best, place = prediction.best, str(path)
        kept = best.name in numbers and best.probability >= (min_score or 0)
        labels = np.array([numbers[best.name]] * kept, dtype=np.int64)
        scores = np.array([round(best.probability, 5)] * kept)
        return AnnotatedImage(place, place, np.zeros((len(labels), 4)), labels, scores=scores)
    assert isinstance(prediction, Detections | Poses)
    found: Any = prediction.above(min_score)
    if isinstance(found, Detections):
        found = found.chosen(np.array([name in numbers for name in found.names], dtype=bool))
        labels = np.array([numbers[name] for name in found.names], dtype=np.int64)
    else:
        labels = np.zeros(len(found), dtype=np.int64)
    corner = np.array(size[::-1], dtype=np.float64)
    boxes = np.clip(np.asarray(found.boxes, dtype=np.float64).round(3), 0, np.tile(corner, 2))
    more = {}
    if isinstance(found, Poses):
        inside = ((found.keypoints >= 0) & (found.keypoints <= corner)).all(axis=-1)
        seen = (found.visible & inside)[..., None]
        more["keypoints"] = np.concatenate([found.keypoints * seen, 2.0 * seen], axis=-1).astype(np.float32)
    entry = AnnotatedImage(
        file=str(path),
        place=str(path),
        boxes=boxes,
        labels=labels,
        segments=[dict(mask) for mask in found.masks] if isinstance(found, Instances) else None,  # type: ignore[misc]
        scores=np.asarray(found.scores, dtype=np.float64).round(5),
        more=more,
    )
    kept = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    if isinstance(found, Instances) and len(found):
        kept &= np.asarray(mask_areas(list(found.masks))) > 0  # no reader takes an object without a pixel
    return entry.take(kept)


def uncertainty_of(prediction: Prediction) -> float:
    """How uncertain a model is of an image, in [0, 1]: the mean binary entropy of its objects' scores, in bits.

    An object of score 0.5 counts 1, one of score 0 or 1 nothing. Objects that score less than `FLOOR` do not count,
    unless there is no other: then the highest-scoring one alone. Of classes it is the entropy of their probabilities as
    a part of the largest possible.
    """
    if isinstance(prediction, Classification):
        values = np.asarray(prediction.probabilities, dtype=np.float64).clip(1e-12, 1)
        return float(-(values * np.log(values)).sum() / max(np.log(len(values)), 1e-12))
    scores = np.sort(np.asarray(getattr(prediction, "scores", ()), dtype=np.float64))[::-1].clip(1e-7, 1 - 1e-7)
    if not len(scores):
        return 0.0
    scores = scores[: max(1, int((scores >= FLOOR).sum()))]
    return float(np.mean(-scores * np.log2(scores) - (1 - scores) * np.log2(1 - scores)))


@dataclass
class Labeled:
    """What was labeled.

    Attributes:
        images: Number of images that were labeled now.
        objects: Number of objects in them.
        before: Number of images that had labels already, which stay.
        corrected: Number of images that were left as a person or another program has made them.
        unlabeled: Number of images that got no label, since none reached the score.
        skipped: What was wrong with images that could not be read.
    """

    images: int = 0
    objects: int = 0
    before: int = 0
    corrected: int = 0
    unlabeled: int = 0
    skipped: list[str] = field(default_factory=list)


def to_do(folder: LabelFolder, paths: Sequence[Path], overwrite: bool, labeled: Labeled) -> list[Path]:
    """The images that have to be labeled.

    Args:
        folder: Folder of the labels.
        paths: All images.
        overwrite: Those that a model has labeled are labeled again.
        labeled: Gets the number of the others.
    """
    left = []
    for path in paths:
        name = folder.name_of(path)
        if name is None:
            left.append(path)
        elif not folder.is_done(name):
            if folder.images[name].reviewed:  # what a person has deleted stays so
                labeled.corrected += 1
            else:
                left.append(path)
        elif not overwrite:
            labeled.before += 1
        elif folder.is_corrected(name):
            labeled.corrected += 1
        else:
            left.append(path)
    return left


@contextmanager
def kept_on_disk(folder: LabelFolder) -> Iterator[Callable[[], None]]:
    """Brings what is labeled to the disk now and then, and whatever happens at the end; yields what is called often."""
    last = time.monotonic()
    took = 0.0

    def flush(forced: bool = False) -> None:
        nonlocal last, took
        begin = time.monotonic()
        if forced or begin - last > max(_PAUSE, _FACTOR * took):
            folder.flush()
            last = time.monotonic()
            took = last - begin

    try:
        yield flush
    finally:
        flush(True)


def fit_command(folder: LabelFolder, model: str | None = None) -> str:
    """The command that trains on a folder of labels.

    Args:
        folder: Folder of the labels.
        model: The model that is trained on; by default the one that labeled the images last.
    """
    about = folder.description
    model = model or next((state.model for state in reversed(folder.images.values()) if state.model), "MODEL")
    place: Mapping[str, Sequence[str]] = {
        "coco": (
            "--data",
            "CocoKeypointData" if about.target == "keypoints" else "CocoData",
            "--data.root",
            str(folder.out),
        ),
        "voc": ("--data", "VocData", "--data.root", str(folder.out)),
        "yolo": (
            *("--data", "YoloPoseData" if about.target == "keypoints" else "YoloData"),
            *("--data.yaml", str(folder.out / "data.yaml")),
        ),
        "csv": ("--data", "CsvData", "--data.csv", str(folder.out / "labels.csv")),
        "folders": ("--data", "FolderData", "--data.root", str(folder.out)),
    }
    begin = ["--init_from", model]
    if about.task == "instance_segmentation" and about.target == "boxes":
        begin = ["-c", "detection"]  # whose models need no outlines
    words = ["visionkit", "fit", *begin, *place[about.format]]
    if about.target == "masks":
        words += ["--data.target", "masks"]
    if about.format in ("voc", *CLASSES):  # which name their classes in alphabetical order, and only those that occur
        words += ["--data.classes", json.dumps(list(about.classes), ensure_ascii=False)]
    return shlex.join(words)
