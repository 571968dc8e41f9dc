"""A task of two named inputs with a dense output: the disparity between the images of a rectified pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, MetricCollection

from visionkit.data import Split, VisionDataModule
from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageSource
from visionkit.nn.normalize import Normalize
from visionkit.optim import OptimConfig
from visionkit.predictions import DepthMap, Prediction
from visionkit.task import VisionTask
from visionkit.types import Batch, Sample

SIZE = (12, 20)
SHIFTS = 4


class PairOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        disparity: (B, h, w) pixels of the input.
    """

    disparity: Tensor


class PairNetwork(nn.Module):
    """Compares features of the left image with those of the right one, moved by 0 to 3 pixels.

    Args:
        dropout: Fraction of the feature channels that are left out in training.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Dropout2d(dropout))
        self.cost = nn.Conv2d(SHIFTS, SHIFTS, 3, padding=1)

    def forward(self, left: Tensor, right: Tensor) -> PairOutputs:
        ours, theirs = self.features(left), self.features(right)
        moved = [F.pad(theirs, (shift, 0, 0, 0))[..., : theirs.shape[-1]] for shift in range(SHIFTS)]
        costs = torch.stack([-(ours - each).abs().mean(dim=1) for each in moved], dim=1)
        weights = self.cost(costs).softmax(dim=1)
        steps = torch.arange(SHIFTS, dtype=weights.dtype, device=weights.device).view(1, -1, 1, 1)
        return PairOutputs((weights * steps).sum(dim=1))


class ToyPair(VisionTask):
    """Estimates the disparity between a left and a right image.

    Args:
        dropout: See `PairNetwork`.
        input: Size and resize mode of both images.
        optim: How the weights are trained.
    """

    name = "toy_pair"
    title = "Toy pair"
    question = "How far does each point move between the two images?"
    kinds = ("depth_map",)
    monitor = ("val/mae", "min")
    inputs = ("left", "right")
    targets = ("disparity", "valid")
    outputs = PairOutputs

    def __init__(
        self, *, dropout: float = 0.0, input: InputSpec | None = None, optim: OptimConfig | None = None
    ) -> None:
        super().__init__(input=InputSpec.of(input, self.default_input()), optim=optim)
        self.network = PairNetwork(dropout)
        self.normalize = Normalize((0.5,) * 3, (0.5,) * 3)
        self.metrics = MetricCollection({"mae": MeanAbsoluteError()})

    @classmethod
    def default_input(cls, **init_args: Any) -> InputSpec:
        return InputSpec(size=SIZE, resize_mode="stretch")

    def losses(self, outputs: PairOutputs, target: Any) -> dict[str, Tensor]:
        valid = target["valid"]
        return {"smooth_l1": F.smooth_l1_loss(outputs.disparity[valid], target["disparity"][valid])}

    def decode(self, outputs: PairOutputs) -> Tensor:
        return outputs.disparity.float()

    def restore(self, decoded: Tensor, geometry: Sequence[Geometry]) -> list[Prediction]:
        return [
            DepthMap((way.invert_map(each[None], fill=0.0, mode="bilinear")[0] / way.scale[0]).cpu().numpy(), False)
            for each, way in zip(decoded, geometry, strict=True)
        ]

    def measure(self, decoded: Tensor, batch: Batch) -> None:
        valid = batch["target"]["valid"]
        self.metrics.update(decoded[valid], batch["target"]["disparity"][valid])


def pair_of(number: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Left and right image, (h, w, 3) uint8, and the disparity of all their points."""
    rng = np.random.default_rng(number)
    shift = 1 + number % (SHIFTS - 1)
    wide = rng.integers(0, 256, (SIZE[0], SIZE[1] + shift, 3), dtype=np.uint8)
    return wide[:, :-shift].copy(), wide[:, shift:].copy(), shift


class ToyPairData(VisionDataModule):
    """Noise that is moved to the left by 1 to 3 pixels.

    Args:
        count: Pairs of a split.
        **kwargs: Arguments of `VisionDataModule`.
    """

    def __init__(self, count: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count = count

    def dataset(self, split: Split) -> Sequence[Sample]:
        start = {"train": 0, "val": 1000, "test": 2000}[split]
        return [_sample(start + k) for k in range(self.count if split == "train" else 7)]


def _sample(number: int) -> Sample:
    left, right, shift = pair_of(number)
    valid = np.broadcast_to(np.arange(SIZE[1]) >= shift, SIZE)
    target: Any = {"disparity": np.full(SIZE, shift, np.float32), "valid": valid.copy()}
    inputs = {"left": ImageSource(left, f"left{number}"), "right": ImageSource(right, f"right{number}")}
    return Sample(inputs, target, f"pair{number}")
