"""A task of two parts with an optimizer each: a generator that restores images, and a discriminator that judges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanSquaredError, MetricCollection

from visionkit.data import Split, VisionDataModule
from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageSource
from visionkit.nn.normalize import Normalize
from visionkit.optim import OptimConfig
from visionkit.predictions import ImagePrediction, Prediction
from visionkit.task import VisionTask
from visionkit.types import Batch, Sample

SIZE = (12, 16)
FAKE = 0.1
"""Weight of the discriminator's opinion beside the difference in pixels."""


class AdversarialOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        restored: (B, 3, h, w) on a scale of 255.
    """

    restored: Tensor


class AdversarialNetwork(nn.Module):
    """Generator and discriminator; what is served runs the generator alone.

    Args:
        dropout: Fraction of the generator's channels that are left out in training.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Dropout2d(dropout), nn.Conv2d(8, 3, 3, padding=1)
        )
        self.discriminator = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 3))

    def forward(self, image: Tensor) -> AdversarialOutputs:
        return AdversarialOutputs(255 * (image + self.generator(image)))

    def judge(self, image: Tensor) -> Tensor:
        """(B, 3, h, w) on a scale of 255 to (B,) logits: positive is a real image."""
        return self.discriminator(image / 255).mean(dim=(1, 2, 3))


class ToyAdversarial(VisionTask):
    """Brightens dark images.

    Args:
        dropout: See `AdversarialNetwork`.
        input: How an image is given to the network.
        optim: How the generator is trained; the discriminator by plain SGD in every second step.
    """

    name = "toy_adversarial"
    title = "Toy restoration"
    question = "What would the image look like in light?"
    kinds = ("image",)
    monitor = ("val/mse", "min")
    targets = ("high_res",)
    outputs = AdversarialOutputs

    def __init__(
        self, *, dropout: float = 0.0, input: InputSpec | None = None, optim: OptimConfig | None = None
    ) -> None:
        super().__init__(input=InputSpec.of(input, self.default_input()), optim=optim)
        self.network = AdversarialNetwork(dropout)
        self.normalize = Normalize((0.0,) * 3, (1.0,) * 3)
        self.metrics = MetricCollection({"mse": MeanSquaredError()})

    def parts(self) -> Mapping[str, OptimConfig]:
        constant = OptimConfig(name="sgd", lr=0.05, warmup=0, schedule="constant")
        return {"generator": self.optim, "discriminator": constant}

    def part_intervals(self) -> Mapping[str, int]:
        return {"discriminator": 2}

    def part_losses(self, part: str, batch: Batch) -> dict[str, Tensor]:
        made = self.run(batch).restored
        if part == "generator":
            judged = self.network.judge(made)
            fooled = F.binary_cross_entropy_with_logits(judged, torch.ones_like(judged))
            return {**self.losses(AdversarialOutputs(made), batch["target"]), "fooled": FAKE * fooled}
        real, fake = self.network.judge(batch["target"]["high_res"].float()), self.network.judge(made)
        return {
            "real": F.binary_cross_entropy_with_logits(real, torch.ones_like(real)),
            "fake": F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake)),
        }

    @classmethod
    def default_input(cls, **init_args: Any) -> InputSpec:
        return InputSpec(size=SIZE, resize_mode="native", divisor=1)

    def losses(self, outputs: AdversarialOutputs, target: Any) -> dict[str, Tensor]:
        return {"l1": F.l1_loss(outputs.restored, target["high_res"].float()) / 255}

    def decode(self, outputs: AdversarialOutputs) -> Tensor:
        return outputs.restored.float().clamp(0, 255)

    def restore(self, decoded: Tensor, geometry: Sequence[Geometry]) -> list[Prediction]:
        images = []
        for each, way in zip(decoded, geometry, strict=True):
            height, width = way.resized
            pixels = each[:, :height, :width].round().byte().permute(1, 2, 0).cpu().numpy()
            images.append(ImagePrediction(np.ascontiguousarray(pixels)))
        return images

    def measure(self, decoded: Tensor, batch: Batch) -> None:
        self.metrics.update(decoded.flatten() / 255, batch["target"]["high_res"].flatten() / 255)


class ToyAdversarialData(VisionDataModule):
    """Noise and the same noise in the dark.

    Args:
        count: Images of the training split.
        **kwargs: Arguments of `VisionDataModule`.
    """

    def __init__(self, count: int = 24, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count = count

    def dataset(self, split: Split) -> Sequence[Sample]:
        start = {"train": 0, "val": 1000, "test": 2000}[split]
        return [_sample(start + k) for k in range(self.count if split == "train" else 7)]


def _sample(number: int) -> Sample:
    light = np.random.default_rng(number).integers(60, 256, (*SIZE, 3), dtype=np.uint8)
    target: Any = {"high_res": light.transpose(2, 0, 1).copy()}
    return Sample.of(ImageSource(light // 2, f"dark{number}"), target, f"dark{number}")
