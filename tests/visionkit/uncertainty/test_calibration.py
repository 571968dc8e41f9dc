"""Calibration: errors by hand, the temperature that was drawn with, models that keep it."""

import numpy as np
import pytest

from visionkit.errors import DataError
from visionkit.uncertainty.calibration import (
    LIMITS,
    calibration_error,
    classwise_calibration_error,
    fit_temperature,
    nll,
    reliability,
    sigmoid,
    softmax,
    top_reliability,
)


def drawn(count: int, classes: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from their probabilities at a temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (count, classes))
    falling = softmax(logits, temperature).cumsum(axis=1)
    return logits, (rng.random((count, 1)) > falling).sum(axis=1).clip(max=classes - 1)


def test_errors_by_hand():
    # Bins of a half: (0, .5] holds .4 and .5, mean .45, one of two right; (.5, 1] holds .8, wrong.
    found = reliability(np.array([0.4, 0.5, 0.8]), np.array([True, False, False]), bins=2)
    assert found.count.tolist() == [2, 1]
    assert found.error == pytest.approx((2 * 0.05 + 1 * 0.8) / 3)
    assert (found.count[1], found.confidence[1], found.accuracy[1]) == (1, 0.8, 0.0)
    probabilities, labels = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0])
    assert calibration_error(probabilities, labels, bins=1) == pytest.approx(abs(0.5 - 0.85))
    # Class 0: mean .55, true twice; class 1: mean .45, never.
    assert classwise_calibration_error(probabilities, labels, bins=1) == pytest.approx([0.45, 0.45])
    several = top_reliability(np.array([[0.6, 0.3]]), np.array([[1, 0]]), bins=1)
    assert several.count.tolist() == [2] and several.error == pytest.approx(0.05)


def test_the_temperature_is_the_one_that_labels_were_drawn_with():
    logits, labels = drawn(20_000, 8, 2.5)
    found = fit_temperature(logits, labels)
    assert found.value == pytest.approx(2.5, rel=0.03) and not found.at_limit
    assert found.nll_after < found.nll_before == pytest.approx(nll(logits, labels))
    # The least of all temperatures, not only less than before.
    assert found.nll_after <= min(nll(logits / t, labels) for t in np.linspace(2, 3, 41)) + 1e-12
    assert calibration_error(softmax(logits), labels) > 0.15
    assert calibration_error(softmax(logits, found.value), labels) < 0.02
    assert classwise_calibration_error(softmax(logits, found.value), labels).mean() < 0.02


def test_each_of_several_labels_is_calibrated_by_itself():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (5_000, 4))
    labels = (rng.random(logits.shape) < sigmoid(logits, 2.0)).astype(np.int64)
    found = fit_temperature(logits, labels)
    assert found.value == pytest.approx(2.0, rel=0.05)
    assert calibration_error(sigmoid(logits, found.value), labels) < 0.02


def test_without_a_minimum_the_temperature_stays_within_its_limits():
    logits = np.array([[3.0, 0.0], [0.0, 3.0]])
    right, wrong = fit_temperature(logits, np.array([0, 1])), fit_temperature(logits, np.array([1, 0]))
    assert (right.value, right.at_limit) == (pytest.approx(LIMITS[0]), True)
    assert (wrong.value, wrong.at_limit) == (pytest.approx(LIMITS[1]), True)
    with pytest.raises(DataError, match="there are none"):
        fit_temperature(np.zeros((0, 2)), np.zeros(0, np.int64))
    with pytest.raises(DataError, match="not all finite"):
        fit_temperature(np.array([[np.nan, 0.0]]), np.array([0]))
