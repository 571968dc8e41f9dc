"""Models that work together: a detector, or a file of boxes, before a model of one person or face per crop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ui.inference import FACES
from visionkit.errors import UsageError

if TYPE_CHECKING:
    from visionkit.predictor import Predictor


def chained(
    estimators: Sequence[Predictor],
    detectors: Sequence[Predictor],
    boxes: str | None,
    subject: str | None,
    score: float,
) -> list[Predictor]:
    """The estimators behind a detector or a file of boxes, one for each device.

    Args:
        estimators: One for each device.
        detectors: Detectors: as many, or none. Before a face recognition model, whatever `DetectionFinder` takes.
        boxes: Path of a file of boxes.
        subject: Class of the detector that is cropped.
        score: Score from which a box is cropped.

    Raises:
        UsageError: Both are given, or the model does not take boxes.
    """
    from visionkit.chain import BoxFile, Chain

    if detectors and boxes:
        raise UsageError("--detector and --boxes both state where to look; give one of them")
    if boxes:
        file = BoxFile(boxes, subject or (estimators[0].classes or (None,))[0])
        return [Chain(file, each, score=score) for each in estimators]
    if detectors:
        pairs = zip(estimators, detectors, strict=True)
        if estimators[0].task.name == FACES:
            from tasks.face_recognition.chain import FaceChain
            from tasks.face_recognition.finding import DetectionFinder

            return [FaceChain(each, DetectionFinder(detector, subject or "", score)) for each, detector in pairs]
        return [Chain(detector, each, subject=subject, score=score) for each, detector in pairs]
    return list(estimators)
