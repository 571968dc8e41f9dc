"""Calibration of classifiers: how far probabilities are from frequencies, and the temperature that brings them nearer.

Errors are computed from probabilities, (N, K) numpy arrays; a temperature is found from logits. Everything is float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visionkit.errors import DataError

BINS = 15
"""Bins of equal width that calibration errors are counted in, as Guo et al. (2017) do."""

LIMITS = (0.05, 20.0)
"""Least and highest temperature that is looked for."""

_STEPS, _EXACT = 100, 1e-10


@dataclass(frozen=True)
class Reliability:
    """Probabilities beside frequencies, in bins of equal width over [0, 1]; bin b holds what lies in (b/B, (b+1)/B].

    Attributes:
        count: (B,) how many fell into each bin.
        confidence: (B,) mean probability of each bin, 0 where it is empty.
        accuracy: (B,) fraction that was right, 0 where the bin is empty.
    """

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of both, each bin weighted by its count."""
        return float((self.count * np.abs(self.accuracy - self.confidence)).sum() / max(self.count.sum(), 1))


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> Reliability:
    """Counts probabilities and what came of them.

    Args:
        confidence: (N,) in [0, 1].
        right: (N,) bool or 0 and 1: what the probability was of came true.
        bins: Number of bins B.
    """
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    sums = [np.bincount(index, weights=values, minlength=bins) for values in (confidence, right)]
    return Reliability(count, *(each / np.maximum(count, 1) for each in sums))


def top_reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Reliability:
    """The probability of the predicted class beside the accuracy.

    Args:
        probabilities: (N, K), or (N, K) of classes that are judged each by itself, where `labels` is (N, K).
        labels: (N,) integers; or (N, K) of 0 and 1, and then every class of every image is counted.
        bins: Number of bins.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    if labels.ndim == 2:
        return reliability(probabilities.ravel(), labels.ravel(), bins)
    return reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, bins)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error of the predicted class (Guo et al., 2017); arguments as in `top_reliability`."""
    return top_reliability(probabilities, labels, bins).error


def classwise_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> np.ndarray:
    """(K,) calibration error of each class's probability; the mean is classwise ECE (Kull et al., 2019).

    Args:
        probabilities: (N, K).
        labels: (N,) integers, or (N, K) of 0 and 1.
        bins: Number of bins.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    held = labels > 0 if labels.ndim == 2 else labels[:, None] == np.arange(probabilities.shape[1])
    return np.array([reliability(probabilities[:, k], held[:, k], bins).error for k in range(probabilities.shape[1])])


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(N, K) float64 probabilities of logits that are divided by a temperature."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


def sigmoid(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Float64 probabilities of logits that are divided by a temperature, each by itself."""
    return np.asarray(0.5 * (1 + np.tanh(np.asarray(logits, np.float64) / (2 * temperature))))


@dataclass(frozen=True)
class Temperature:
    """What logits are to be divided by.

    Attributes:
        value: The temperature; above 1 the network was too sure of itself.
        nll_before: Mean negative log-likelihood at temperature 1, in nats.
        nll_after: The same at `value`.
        at_limit: No minimum lies within `LIMITS`: the images are too few, or all are right.
    """

    value: float
    nll_before: float
    nll_after: float
    at_limit: bool = False


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> Temperature:
    """The temperature of the least negative log-likelihood (Guo et al., 2017).

    The likelihood is convex in the inverse temperature, so Newton's steps, kept in a bracket that is halved where one
    leaves it, end at the one minimum.

    Args:
        logits: (N, K).
        labels: (N,) integers; or (N, K) of 0 and 1, where each class is judged by itself.

    Raises:
        DataError: No images, or logits that are not finite.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if not len(logits):
        raise DataError("a temperature needs images with labels, and there are none")
    if not np.isfinite(logits).all():
        raise DataError("a temperature cannot be found: the network's outputs are not all finite")
    low, high = 1 / LIMITS[1], 1 / LIMITS[0]
    edges = [_slope(logits, labels, low)[0], _slope(logits, labels, high)[0]]
    if edges[0] >= 0 or edges[1] <= 0:
        inverse, at_limit = (low if edges[0] >= 0 else high), True
    else:
        inverse, at_limit = 1.0, False
        for _ in range(_STEPS):
            slope, bend = _slope(logits, labels, inverse)
            low, high = (inverse, high) if slope < 0 else (low, inverse)
            step = inverse - slope / bend if bend > 0 else low
            step = step if low < step < high else (low + high) / 2
            if abs(step - inverse) <= _EXACT * inverse:
                break
            inverse = step
    return Temperature(1 / inverse, nll(logits, labels), nll(logits * inverse, labels), at_limit)


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood in nats, over images or, where each class is judged by itself, over both."""
    logits = np.asarray(logits, np.float64)
    if labels.ndim == 2:
        return float((np.logaddexp(0, logits) - labels * logits).mean())
    top = logits.max(axis=1)
    whole = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return float((whole - logits[np.arange(len(labels)), labels]).mean())


def _slope(logits: np.ndarray, labels: np.ndarray, inverse: float) -> tuple[float, float]:
    """First and second derivative of the mean negative log-likelihood by the inverse temperature."""
    if labels.ndim == 2:
        p = sigmoid(logits, 1 / inverse)
        return float(((p - labels) * logits).mean()), float((p * (1 - p) * logits**2).mean())
    p = softmax(logits, 1 / inverse)
    mean = (p * logits).sum(axis=1)
    true = logits[np.arange(len(labels)), labels]
    return float((mean - true).mean()), float(((p * logits**2).sum(axis=1) - mean**2).mean())
