"""Precision over recall, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import torch

from tasks.classification.precision_recall import PrecisionRecall, precision_recall_table


def test_curves_are_those_of_scikit_learn_at_every_recall():
    from sklearn.metrics import precision_recall_curve  # a second, which nobody pays who only collects tests

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    logits = rng.normal(0, 2, (400, 4)) + 2.5 * np.eye(4)[labels]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    metric = PrecisionRecall(4)
    for part in np.array_split(np.arange(400), 7):
        metric.update(torch.from_numpy(scores[part]).float(), torch.from_numpy(labels[part]))
    found = metric.compute()["precision_recall"].numpy()
    assert found.shape == (101, 4)
    for k in range(3):
        precision, recall, _ = precision_recall_curve(labels == k, scores[:, k])
        wanted = [precision[recall >= point - 1e-9].max() for point in np.linspace(0, 1, 101)]
        assert np.abs(found[:, k] - wanted).max() < 0.04, "scores of one bin count as equal"
        assert np.abs(found[:, k] - wanted).mean() < 0.006
    assert (found[:, 3] == -1).all(), "a class without images has no curve"
    rows = precision_recall_table(torch.from_numpy(found), "abcd")
    assert rows[50]["recall"] == 0.5 and rows[0]["a"] == found[0, 0]


def test_several_labels_and_certain_scores():
    metric = PrecisionRecall(2)
    metric.update(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.5]]), torch.tensor([[1, 0], [1, 0], [0, 1]]))
    found = metric.compute()["precision_recall"]
    assert (found[:, 0] == 1).all() and (found[:, 1] == 0.5).all()
