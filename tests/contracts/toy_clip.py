"""A task of clips that carries state from frame to frame: does the light of a video rise or fall?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from visionkit.data import Split, VisionDataModule
from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageSource
from visionkit.inputs import Given
from visionkit.nn.normalize import Normalize
from visionkit.optim import OptimConfig
from visionkit.predictions import Classification, Prediction
from visionkit.predictor import Predictor
from visionkit.results import Progress, Result
from visionkit.session import Session
from visionkit.task import VisionTask
from visionkit.types import Batch, Sample

CLASSES = ("falling", "rising")
FRAMES = 3
KEPT = 0.6
"""Fraction of the state that stays when a frame comes in."""


class ClipOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        logits: (B, 2).
    """

    logits: Tensor


class ClipNetwork(nn.Module):
    """The mean color of every frame, compared by one layer.

    Args:
        dropout: Fraction of the features that are left out in training.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 6, 3)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(6 * FRAMES, len(CLASSES)))

    def forward(self, frames: Tensor) -> ClipOutputs:
        found = self.features(frames.flatten(0, 1)).relu().mean(dim=(2, 3))
        return ClipOutputs(self.head(found.view(-1, 6 * FRAMES)))


class Certainty(MeanMetric):
    """The mean probability of the true class; with state, it differs where a frame is out of order."""

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        super().update(probabilities.gather(1, labels[:, None]))


class ToyClip(VisionTask):
    """Classifies the end of a clip; in a video, the probabilities of the frames before stay in part.

    Args:
        dropout: See `ClipNetwork`.
        input: Size of a frame and number of frames.
        optim: How the weights are trained.
    """

    name = "toy_clip"
    title = "Toy clip"
    question = "Does the light rise or fall?"
    kinds = ("classification",)
    monitor = ("val/accuracy", "max")
    inputs = ("frames",)
    targets = ("labels",)
    outputs = ClipOutputs

    def __init__(
        self, *, dropout: float = 0.0, input: InputSpec | None = None, optim: OptimConfig | None = None
    ) -> None:
        super().__init__(input=InputSpec.of(input, self.default_input()), classes=CLASSES, optim=optim)
        self.network = ClipNetwork(dropout)
        self.normalize = Normalize((0.5,) * 3, (0.5,) * 3)
        accuracy = MulticlassAccuracy(len(CLASSES), average="micro")
        self.metrics = MetricCollection({"accuracy": accuracy, "certainty": Certainty()})
        self._state: tuple[str, Tensor] | None = None

    @classmethod
    def default_input(cls, **init_args: Any) -> InputSpec:
        return InputSpec(size=(8, 10), resize_mode="stretch", frames=FRAMES)

    def losses(self, outputs: ClipOutputs, target: Any) -> dict[str, Tensor]:
        return {"cross_entropy": F.cross_entropy(outputs.logits, target["labels"])}

    def decode(self, outputs: ClipOutputs) -> Tensor:
        return outputs.logits.float().softmax(dim=1)

    def restore(self, decoded: Tensor, geometry: Sequence[Geometry]) -> list[Prediction]:
        return [Classification(self.classes, row) for row in decoded.cpu().numpy()]

    def measure(self, decoded: Tensor, batch: Batch) -> None:
        rows = []
        for row, sequence, frame in zip(decoded, batch["sequence"], batch["frame"], strict=True):
            before = self._state if frame else None
            assert frame == 0 or (before is not None and before[0] == sequence), "a frame without the one before it"
            rows.append(row if before is None else KEPT * before[1] + (1 - KEPT) * row)
            self._state = (sequence, rows[-1])
        self.metrics.update(torch.stack(rows), batch["target"]["labels"])

    def session(self, predictor: Predictor, **options: Any) -> Session:
        return CarryingSession(predictor, **options)


class CarryingSession(Session):
    """Mixes the probabilities of each frame with those of the frames before it."""

    def __init__(self, predictor: Predictor, **options: Any) -> None:
        super().__init__(predictor, **options)
        self._carried: np.ndarray | None = None

    def examine(self, image: Given, time: float | None = None, progress: Progress | None = None) -> Result:
        result = super().examine(image, time, progress)
        assert isinstance(result.prediction, Classification)
        now = result.prediction.probabilities
        self._carried = now if self._carried is None else KEPT * self._carried + (1 - KEPT) * now
        return result._replace(prediction=replace(result.prediction, probabilities=self._carried))


class Videos(Sequence[Sample]):
    """Frames of videos of different lengths, whose light rises or falls.

    Args:
        lengths: Frames of each video.
        seed: Random seed of their pixels.
    """

    def __init__(self, lengths: Sequence[int], seed: int) -> None:
        self.rows = [(f"video{k}", frame) for k, length in enumerate(lengths) for frame in range(length)]
        self.seed = seed

    def sequences(self) -> list[str]:
        return [name for name, _ in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        name, frame = self.rows[index]
        rising = (int(name[5:]) + self.seed) % 2
        source = ImageSource(frame_of(rising, frame, self.seed + index), f"{name}/{frame}")
        target: Any = {"labels": np.int64(rising)}
        return Sample({"frames": source}, target, f"{name}/{frame}", sequence=name, frame=frame)


def frame_of(rising: int, frame: int, seed: int) -> np.ndarray:
    """(8, 10, 3) uint8 noise, lighter or darker with each frame."""
    rng = np.random.default_rng(seed)
    light = 30 + 12 * frame if rising else 170 - 12 * frame
    return (light + rng.integers(0, 50, (8, 10, 3))).astype(np.uint8)


class ToyClipData(VisionDataModule):
    """Videos of two to seven frames."""

    def dataset(self, split: Split) -> Sequence[Sample]:
        lengths = (6, 4, 2, 7, 5) if split == "train" else (5, 2, 7, 3, 4)
        return Videos(lengths, {"train": 0, "val": 100, "test": 200}[split])
