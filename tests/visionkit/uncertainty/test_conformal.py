"""Prediction sets: scores and thresholds by hand, coverage by simulation."""

import numpy as np
import pytest

from tests.visionkit.uncertainty.test_calibration import drawn
from visionkit.errors import DataError, UsageError
from visionkit.uncertainty.calibration import softmax
from visionkit.uncertainty.conformal import METHODS, ConformalConfig, calibrate, scores, set_quality

P = np.array([[0.5, 0.3, 0.2]])


def test_scores_by_hand():
    assert scores(P, "lac")[0] == pytest.approx([0.5, 0.7, 0.8])
    assert scores(P[:, ::-1], "aps")[0] == pytest.approx([0.8, 0.5, 0.0])
    assert scores(P, "raps", penalty=0.1, free_ranks=1)[0] == pytest.approx([0.0, 0.6, 1.0])


def test_the_threshold_is_the_score_of_that_rank():
    # Nine images at alpha .2: rank ceil(10 * .8) = 8 of the true class's scores .1, .2, ... .9.
    true = np.arange(1, 10) / 10
    found = calibrate(np.stack([1 - true, true], axis=1), np.zeros(9, np.int64), "lac", 0.2)
    assert found == ConformalConfig("lac", 0.2, pytest.approx(0.8), images=9)
    with pytest.raises(DataError, match="give 9 or more"):
        calibrate(np.full((8, 2), 0.5), np.zeros(8, np.int64), "lac", 0.1)
    with pytest.raises(UsageError, match="allowed are lac, aps, raps"):
        ConformalConfig("lap", 0.1, 0.5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="between 0 and 1"):
        ConformalConfig("lac", 1.0, 0.5)


def test_the_best_class_is_in_every_set():
    flat = np.array([[0.34, 0.33, 0.33]])
    assert ConformalConfig("lac", 0.1, 0.1).sets(flat).tolist() == [[True, False, False]]
    assert ConformalConfig("aps", 0.1, 0.4).sets(flat).tolist() == [[True, True, False]]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("alpha", [0.1, 0.2])
def test_sets_cover_as_stated(method, alpha):
    """Over 200 calibrations of 200 images; the network is overconfident by a factor of two, which changes nothing."""
    logits, labels = drawn(40_000, 10, 2.0)
    probabilities = softmax(logits)
    coverage = []
    for start in range(0, len(labels), 200):
        own = slice(start, start + 200)
        config = calibrate(probabilities[own], labels[own], method, alpha, penalty=0.01, free_ranks=2)
        other = slice((start + 200) % len(labels), (start + 200) % len(labels) + 200)
        coverage.append(set_quality(config.sets(probabilities[other]), labels[other]).coverage)
    # At least 1 - alpha in the mean; sets that are never empty cover a little more.
    assert 1 - alpha - 0.006 < np.mean(coverage) < 1 - alpha + 0.02
