"""A prediction that is empty states this, in whole words."""

from __future__ import annotations

import numpy as np
import pytest

from ui.strings import remarks
from visionkit.predictions import Classification, Detections, Faces, MultiTaskPrediction, Poses
from visionkit.skeleton import Skeleton

COCO = Skeleton.of("coco17")

NO_BOXES = Detections(("cat", "dog"), (10, 10), np.zeros((0, 4)), np.zeros(0), np.zeros(0))
FAINT = Detections(("cat", "dog"), (10, 10), np.array([[0, 0, 5, 5]]), np.array([0.12]), np.array([1]))
NO_FACES = Faces(np.zeros((0, 4)), np.zeros((0, 0)), np.zeros(0), np.zeros((0, 5, 2)))


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (Poses.none(COCO), "0 people found"),
        (NO_BOXES, "0 objects found"),
        (FAINT, "0 objects found (highest-scoring: dog 0.12)"),
        (NO_FACES, "0 faces found"),
        (Classification(("cat", "dog"), np.array([0.6, 0.4])), ""),
        (
            Classification(("cat", "dog"), np.array([0.1, 0.4]), multilabel=True),
            "none of the classes (the nearest: dog 40.0%)",
        ),
        (
            MultiTaskPrediction({"things": NO_BOXES, "what": Classification(("a",), np.ones(1))}),
            "things: 0 objects found",
        ),
    ],
)
def test_nothing_found(prediction, message):
    assert prediction.nothing() == message


def test_remarks_show_words_from_data_as_words():
    assert remarks("", "") == ""
    assert remarks("0 objects found (highest-scoring: <b>", "This image looks unlike.").count("<") == 0
