"""Errors of classifiers and of faces: the most confident come first, and probabilities stand beside frequencies."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.face_recognition.analysis import FaceAnalysis
from visionkit.analysis.base import Case
from visionkit.families.classification.analysis import ClassificationAnalysis
from visionkit.predictions import Classification, Faces


def add(analysis, name, probabilities, labels, multilabel=False):
    prediction = Classification(("a", "b"), np.array(probabilities), multilabel)
    return analysis.add(Case(name, prediction, {"labels": np.array(labels)}, None, dict))


def test_one_label():
    analysis = ClassificationAnalysis(("a", "b"))
    right = add(analysis, "right", [0.8, 0.2], 0)
    unsure = add(analysis, "unsure", [0.4, 0.6], 0)
    certain = add(analysis, "certain", [0.05, 0.95], 0)
    assert right["loss"] == pytest.approx(-np.log(0.8), abs=1e-6) and right["correct"]
    assert analysis.confidence(right) is None and analysis.confidence(certain) == pytest.approx(0.95)
    assert analysis.badness(certain) > analysis.badness(unsure) > analysis.badness(right)
    tables = analysis.tables()
    assert [row["image"] for row in tables["most confident errors"]] == ["certain", "unsure"]
    assert tables["error breakdown"] == [{"truth": "a", "prediction": "b", "count": 2, "of all errors": 1.0}]
    bins = {round(row["confidence"], 2): (row["count"], row["accuracy"]) for row in tables["calibration"]}
    assert bins == {0.6: (1, 0.0), 0.8: (1, 1.0), 0.95: (1, 0.0)}
    assert analysis.values(np.array([0, 1])) == {
        "correct": 0.5, "loss": pytest.approx(-np.log(0.8 * 0.4) / 2, abs=1e-6)
    }  # fmt: skip


def test_several_labels():
    analysis = ClassificationAnalysis(("a", "b"), multilabel=True)
    row = add(analysis, "x", [0.9, 0.3], [0.0, 1.0], multilabel=True)
    assert row["wrong labels"] == 2 and row["confidence of the error"] == pytest.approx(0.9)
    assert row["loss"] == pytest.approx(-(np.log(0.1) + np.log(0.3)) / 2, abs=1e-6)
    wrong = {each["class"]: (each["claimed wrongly"], each["missed"]) for each in analysis.tables()["error breakdown"]}
    assert wrong == {"a": (1, 0), "b": (0, 1)}
    assert sum(each["count"] for each in analysis.tables()["calibration"]) == 2


def face(analysis, name, angle, person):
    vector = np.array([[np.cos(angle), np.sin(angle)]], np.float32)
    prediction = Faces(np.zeros((1, 4)), vector, np.ones(1), np.full((1, 5, 2), np.nan), whole_image=True)
    analysis.add(Case(name, prediction, {"identity": np.int64(person)}, None, dict))


def test_hard_pairs_of_faces_and_groups():
    analysis = FaceAnalysis()
    for name, angle, person in (("a1", 0.0, 0), ("a2", 0.1, 0), ("a3", 1.0, 0), ("b1", 0.8, 1), ("b2", 2.2, 1)):
        face(analysis, name, angle, person)
    analysis.finish()
    tables = analysis.tables()
    assert [tables["hard pairs of one person"][0][key] for key in ("image", "other image")] == ["b1", "b2"]
    assert [tables["hard pairs of different people"][0][key] for key in ("image", "other image")] == ["a3", "b1"]
    assert analysis.rows[0]["least alike, same person"] == pytest.approx(np.cos(1.0))
    assert analysis.rows[0]["most alike, other person"] == pytest.approx(np.cos(0.8))
    # Pairs of one person are .1, .9, 1 and 1.4 apart, those of others .2, .7, .8, 1.2, 2.1 and 2.2: from .8 on
    # (smaller angles) half of the latter are accepted, and all but one of the former refused; at .9 two are.
    assert analysis.threshold == pytest.approx(np.cos(0.9))
    values = analysis.values(np.arange(5))
    assert values == {"falsely refused": 0.5, "refused of": 4, "falsely accepted": 0.5, "accepted of": 6}
    only = analysis.values(np.array([0, 1, 2]))
    assert (only["falsely refused"], only["refused of"], only["accepted of"]) == (pytest.approx(1 / 3), 3, 0)
    assert len(analysis.shown_together()) == 10
