"""What one call of a predictor goes by, and what it knows of an image afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from visionkit.errors import DataError
from visionkit.inputs import Given
from visionkit.novelty import Novelty
from visionkit.predictions import Prediction
from visionkit.tiling import Plan
from visionkit.types import Example, Sample

if TYPE_CHECKING:
    import numpy as np
    import torch

Progress = Callable[[int, int], None]


@dataclass
class Times:
    """Seconds that the parts of one prediction took.

    Attributes:
        read: Decoding the image.
        prepare: Resizing it, or its tiles and crops, to network input.
        network: Running the network.
        decode: Making the prediction of its outputs.
    """

    read: float = 0.0
    prepare: float = 0.0
    network: float = 0.0
    decode: float = 0.0

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Adds what runs inside to a part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, part, getattr(self, part) + time.perf_counter() - start)


class Result(NamedTuple):
    """One image of a stream.

    Attributes:
        source: Source, as it was given.
        prediction: The prediction, or None where the image could not be read.
        error: Why it could not be read, or None.
        novelty: How far the image is from those of the model's own data, or None where the model does not know.
        times: What its parts took, of `Predictor.examine` and `examine_together` alone.
        features: (D,) float32 pooled features of the backbone on the whole image, where the call asked for them.
    """

    source: Given
    prediction: Prediction | None
    error: DataError | None
    novelty: Novelty | None = None
    times: Times | None = None
    features: np.ndarray | None = None


class Known(NamedTuple):
    """What is known of an image after its pass."""

    prediction: Prediction
    novelty: Novelty | None
    features: np.ndarray | None = None


class Job(NamedTuple):
    """One image whose plan is made. The views of a `MapReducer` are prepared one by one when its turn comes."""

    sample: Sample
    plan: Plan
    examples: list[Example]


@dataclass
class Call:
    """What one call goes by, of one thread.

    Attributes:
        options: Options of the call.
        decoding: Those among them that `VisionTask.decode` takes.
        progress: Called with the views done and all of them.
        times: What the call took so far.
        features: Features of the batch that the network ran on last, where the model knows what they state.
        keeps_features: They are asked for, whatever the model knows.
    """

    options: dict[str, Any]
    decoding: dict[str, Any]
    progress: Progress | None = None
    times: Times = field(default_factory=Times)
    features: torch.Tensor | None = None
    keeps_features: bool = False
