"""Images unlike those a model was made with: the distance of their features from those of its own data.

Features are means over the image at several depths of the backbone, each depth scaled to length 1, which makes the
distance much better at this (Mueller and Hein, "Mahalanobis++", ICML 2025). They are described by a Gaussian: a mean,
the directions of most variance, and one deviation for all others (Tipping and Bishop, 1999). The distance is that of
Mahalanobis (Lee et al., 2018). An image is marked where it is further out than nearly all images that were held out
from training, so an ordinary image is marked as seldom as that states. A mark states that an image is unusual for this
model, not that its prediction is wrong; and a model of varied images does not notice everything that is new to it.
"""

from __future__ import annotations

import base64
import json
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visionkit.backbones import Backbone
from visionkit.errors import CheckpointError
from visionkit.model_facts import MAX_BYTES, require_file
from visionkit.novelty import Novelty, stated

STATISTICS = "features.json"
"""The file of a bundle that holds them."""

PERCENTILE = 99.0
"""Of the held-out images, so many of a hundred are nearer than the threshold."""

FEWEST = 20
"""Images from which statistics are made; of fewer, what is usual cannot be reported."""

MOST = 1024
"""Images whose features are kept, evenly over the split."""

_DIRECTIONS = 16
_FOLDS = 5
_DEPTHS = 4


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """The Gaussian of a model's features, and how far out its held-out images lie.

    Attributes:
        mean: (D,) float32.
        directions: (k, D) float32, of length 1 and at right angles: those of most variance.
        deviations: (k,) float32 along them.
        rest: The deviation in every other direction.
        threshold: The distance that `percentile` of a hundred held-out images do not reach.
        percentile: See there.
        images: Number of held-out images.
    """

    mean: np.ndarray
    directions: np.ndarray
    deviations: np.ndarray
    rest: float
    threshold: float
    percentile: float
    images: int

    @classmethod
    def of(cls, features: np.ndarray) -> FeatureStatistics | None:
        """Statistics of held-out images.

        Each fifth of the images is measured by the Gaussian of the others, so the threshold holds for new images.

        Args:
            features: (N, D), one row per image.

        Returns:
            None of fewer than `FEWEST` images, or of features without variance or with values that are not finite.
        """
        if len(features) < FEWEST or not np.isfinite(features).all():
            return None
        features = features.astype(np.float64)
        distances = np.zeros(len(features))
        for fold in range(_FOLDS):
            held = np.arange(len(features)) % _FOLDS == fold
            gaussian = _gaussian(features[~held])
            if gaussian is None:
                return None
            distances[held] = _distance(features[held], *gaussian)
        whole = _gaussian(features)
        if whole is None:
            return None
        threshold = float(np.quantile(distances, PERCENTILE / 100, method="higher"))
        mean, directions, deviations, rest = whole
        small = (mean.astype(np.float32), directions.astype(np.float32), deviations.astype(np.float32))
        return cls(*small, float(rest), threshold, PERCENTILE, len(features))

    def novelty(self, features: np.ndarray) -> list[Novelty]:
        """How far images are out.

        Args:
            features: (N, D), one row per image; of another width they are those of another network, and carry no
                information.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            return []
        gaussian = (self.mean.astype(np.float64), self.directions, self.deviations.astype(np.float64), self.rest)
        scores = _distance(features.astype(np.float64), *gaussian) / self.threshold
        return [Novelty(float(score), self.percentile, self.images) for score in scores]

    def to_json(self) -> dict[str, Any]:
        """Plain json types, in a few dozen kilobytes: the arrays in 16 bit."""
        arrays = {"mean": self.mean, "directions": self.directions, "deviations": self.deviations}
        shape = {"directions": len(self.directions), "features": len(self.mean)}
        packed = {name: base64.b64encode(value.astype("<f2").tobytes()).decode() for name, value in arrays.items()}
        known = {"rest": self.rest, "threshold": self.threshold, **stated(self.percentile, self.images)}
        return {"format": 1, **known, **shape, "arrays": packed}

    @classmethod
    def from_json(cls, record: Any) -> FeatureStatistics:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: It did not write this.
        """
        try:
            count, width = int(record["directions"]), int(record["features"])
            shapes = {"mean": (width,), "directions": (count, width), "deviations": (count,)}
            arrays = {
                name: np.frombuffer(base64.b64decode(record["arrays"][name], validate=True), "<f2").astype(np.float32)
                for name in shapes
            }
            numbers = [float(record[name]) for name in ("rest", "threshold", "percentile")]
            images = int(record["images"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"no statistics of features: {type(error).__name__} {error}") from None
        if any(arrays[name].size != np.prod(shape) for name, shape in shapes.items()) or not 0 < count <= 4096:
            raise ValueError("no statistics of features: the arrays have other sizes than stated")
        if (
            not all(np.isfinite(value).all() for value in (*arrays.values(), np.array(numbers)))
            or min(*numbers, images) <= 0
        ):
            raise ValueError("no statistics of features: a value is not a positive finite number")
        if arrays["deviations"].min() <= 0:
            raise ValueError("no statistics of features: a deviation is not above 0")
        mean, directions, deviations = (arrays[name].reshape(shape) for name, shape in shapes.items())
        rest, threshold, percentile = numbers
        return cls(mean, directions, deviations, rest, threshold, percentile, images)


def _gaussian(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float] | None:
    """Mean, directions of most variance with their deviations, and the deviation of the rest."""
    mean = features.mean(axis=0)
    centered = features - mean
    number, width = centered.shape
    # The smaller of the two products has the same eigenvalues, and no random start.
    few = number < width
    values, vectors = np.linalg.eigh((centered @ centered.T if few else centered.T @ centered) / number)
    values, vectors = values[::-1], vectors[:, ::-1]
    count = min(_DIRECTIONS, number // 4, width - 1)
    if values[0] <= 1e-12 * max(1.0, float(np.square(mean).sum())) or count < 1:
        return None
    count = min(count, int((values > values[0] * 1e-6).sum()))
    directions = vectors[:, :count].T @ centered if few else vectors[:, :count].T
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    total = np.square(centered).sum() / number
    rest = max((total - values[:count].sum()) / max(width - count, 1), float(values[count - 1]) * 1e-3)
    deviations = np.sqrt(np.maximum(values[:count], rest))
    return mean, directions, deviations, float(np.sqrt(rest))


def _distance(
    features: np.ndarray, mean: np.ndarray, directions: np.ndarray, deviations: np.ndarray, rest: float
) -> np.ndarray:
    """(N,) Mahalanobis distance per square root of a dimension."""
    centered = features - mean
    along = centered @ directions.T
    outside = np.maximum(np.square(centered).sum(axis=1) - np.square(along).sum(axis=1), 0.0)
    squared = np.square(along / deviations).sum(axis=1) + outside / rest**2
    return np.asarray(np.sqrt(squared / features.shape[1]))


# ---------------------------------------------------------------------- where features come from


class FeatureTap:
    """While open, keeps the features of what this thread puts through a backbone.

    Args:
        backbone: Backbone of the network.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._layers = _layers(backbone)
        self._found: dict[str, Tensor] = {}
        self._thread = 0
        self._handles: list[Any] = []

    def __enter__(self) -> FeatureTap:
        self._thread = threading.get_ident()
        for name, (layer, channels) in self._layers.items():
            self._handles.append(layer.register_forward_hook(partial(self._keep, name, channels)))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _keep(self, name: str, channels: int, layer: nn.Module, given: Any, output: Any) -> None:
        # A second pass over the same images sees them flipped.
        if threading.get_ident() == self._thread and name not in self._found and isinstance(output, Tensor):
            self._found[name] = pooled(output.detach(), channels)

    def take(self, images: int) -> Tensor | None:
        """The features of the pass since the last call, (B, D); None where a part of the backbone did not run.

        Args:
            images: B.
        """
        found, self._found = self._found, {}
        if not found or len(found) < len(self._layers) or any(len(each) < images for each in found.values()):
            return None
        return torch.cat([found[name][:images] for name in self._layers], dim=1)


def tap_of(network: nn.Module) -> FeatureTap | None:
    """The tap of a network; None where it has no backbone, or one whose depths are not known."""
    body = getattr(network, "backbone", None)
    return FeatureTap(body) if isinstance(body, Backbone) and _layers(body) else None


def _layers(backbone: Backbone) -> dict[str, tuple[nn.Module, int]]:
    """A few modules over the depth of a backbone, the last one among them, with their channels."""
    model: Any = backbone.model
    there = dict(model.named_modules())
    stated = getattr(model, "feature_info", None) or ()
    known = [each for each in stated if isinstance(each, dict) and each.get("module") in there]
    wanted = {round((number + 1) * len(known) / _DEPTHS) - 1 for number in range(_DEPTHS)}
    chosen = [known[index] for index in sorted(index for index in wanted if index >= 0)]
    return {each["module"]: (there[each["module"]], int(each["num_chs"])) for each in chosen}


def pooled(output: Tensor, channels: int) -> Tensor:
    """(B, C) means over a map or over tokens, of length 1."""
    output = output.float()
    if output.ndim == 4:
        output = output.mean(dim=(2, 3) if output.shape[1] == channels else (1, 2))
    elif output.ndim == 3:
        output = output.mean(dim=1)
    return torch.nn.functional.normalize(output.flatten(1), dim=1)


def write_statistics(folder: Path, statistics: FeatureStatistics) -> None:
    """Writes them beside the weights of a bundle."""
    (folder / STATISTICS).write_text(json.dumps(statistics.to_json()) + "\n", encoding="utf-8")


def read_statistics(folder: Path) -> FeatureStatistics | None:
    """Those of a bundle; None where it has none.

    Raises:
        CheckpointError: They are damaged.
    """
    path = folder / STATISTICS
    if not path.exists():
        return None
    size = require_file(path)
    if size > MAX_BYTES:
        raise CheckpointError(f"{path}: {size:,} bytes; statistics of features have at most {MAX_BYTES:,}")
    try:
        return FeatureStatistics.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {str(error).splitlines()[0]}; export the model again") from None
