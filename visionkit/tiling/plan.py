"""How a task runs on one image: the regions that the network is shown, and what makes one prediction of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from visionkit.errors import UsageError
from visionkit.images import ImageSource
from visionkit.predictions import Prediction
from visionkit.tiling.maps import MapReducer
from visionkit.types import View

Views = Sequence[View | None]
ViewsOf = Callable[[tuple[int, int]], Sequence[View]]
"""The further views of an image of a height and width."""


class Located(NamedTuple):
    """Objects of an image whose crops are run on.

    Attributes:
        boxes: (N, 4) x1, y1, x2, y2 in file pixels.
        scores: (N,) in [0, 1].
        landmarks: (N, 5, 2) in file pixels, or None where they are not known.
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray | None = None


@dataclass(frozen=True)
class Single:
    """One view is all there is."""

    def prediction(self, parts: Sequence[Prediction]) -> Prediction:
        """The prediction on the one view.

        Raises:
            UsageError: There are several.
        """
        if len(parts) != 1:
            raise UsageError(f"this model takes an image whole; it was given {len(parts)} views")
        return parts[0]


@dataclass(frozen=True)
class MergeObjects:
    """Objects of tiles or of crops.

    Attributes:
        merge: The predictions on the views, in their order and in file pixels, to that on the image.
    """

    merge: Callable[[Sequence[Prediction]], Prediction]

    def prediction(self, parts: Sequence[Prediction]) -> Prediction:
        """The prediction on the image."""
        return self.merge(parts)


class Plan(NamedTuple):
    """What `VisionTask.plan` gives and `Predictor` executes.

    Attributes:
        views: Regions that the network is shown, in order; None is the whole image. With a `MapReducer`, its own.
        reduce: Makes one prediction of them. It serves one image, since a `MapReducer` keeps what it was given.
        image: The image with its pixels in memory, where planning has decoded it.
        crops: The views are crops of objects, so none of them stands for the image.
    """

    views: Views
    reduce: Single | MergeObjects | MapReducer
    image: ImageSource | None = None
    crops: bool = False
