"""RAFT (Teed & Deng, 2020): a flow that is refined again and again from the correlation of all pairs of pixels.

The modules have torchvision's names, so its public weights load as they are.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.optical_flow.architectures.base import FlowArchitecture
from tasks.optical_flow.architectures.raft_encoders import BackboneEncoder, ResidualEncoder
from tasks.optical_flow.architectures.raft_update import ConvexMask, UpdateBlock, upsample_convex
from tasks.optical_flow.loss import sequence_loss
from tasks.optical_flow.network import FlowOutputs
from visionkit.errors import UsageError
from visionkit.families.matching.correlation import CorrelationMode, CorrelationPyramid, check_mode
from visionkit.families.matching.warp import pixel_grid


@dataclass(frozen=True)
class RAFT(FlowArchitecture):
    """RAFT; with its defaults the paper's network, 5,257,536 parameters.

    Attributes:
        backbone: Any timm backbone by name for features and context, at stride 8; the paper's residual encoders by
            default.
        pretrained: Begin with the public weights of the backbone: of the cache, of an installed package, or downloaded.
        features: Channels that are correlated.
        hidden: Channels of the recurrent state, and of the context beside it.
        motion: Channels of the features of correlation and flow.
        levels: Resolutions of the correlation.
        radius: Pixels around the current place that are looked up at each of them.
        iterations: Number of refinements in training.
        eval_iterations: The same in evaluation and in use.
        gamma: Weight of an estimate in the loss as a fraction of that of the next.
        correlation: `full` keeps the correlation of all pairs in memory; `lookup` computes what is needed, for large
            images.
        freeze_norm: Keep the statistics of batch norms as they are, for fine-tuning.
    """

    backbone: str | None = None
    pretrained: bool = False
    features: int = 256
    hidden: int = 128
    motion: int = 128
    levels: int = 4
    radius: int = 4
    iterations: int = 12
    eval_iterations: int = 12
    gamma: float = 0.8
    correlation: CorrelationMode = "full"
    freeze_norm: bool = False

    def build(self, backbone: None, channels: int) -> nn.Module:
        if not (1 <= self.levels <= 4 and 1 <= self.radius <= 8):
            raise UsageError(
                f"model.raft: levels {self.levels} and radius {self.radius}: allowed are 1 to 4 and 1 to 8"
            )
        if min(self.iterations, self.eval_iterations) < 1:
            raise UsageError("model.raft: iterations and eval_iterations are at least 1")
        check_mode(self.correlation)
        return RAFTNetwork(self, channels)

    def losses(self, network: nn.Module, outputs: FlowOutputs, truth: Tensor, known: Tensor) -> dict[str, Tensor]:
        return sequence_loss(outputs.estimates or (outputs.flow,), truth, known, self.gamma)

    def stored(self) -> Self:
        return dataclasses.replace(self, pretrained=False)


class RAFTNetwork(nn.Module):
    """Encoders, correlation and the recurrent refinement.

    Args:
        settings: Arguments of the architecture.
        channels: Channels of an image.
    """

    def __init__(self, settings: RAFT, channels: int) -> None:
        super().__init__()
        self.settings = settings
        context = 2 * settings.hidden
        if settings.backbone is None:
            self.feature_encoder: nn.Module = ResidualEncoder(channels, settings.features, nn.InstanceNorm2d)
            self.context_encoder: nn.Module = ResidualEncoder(channels, context, nn.BatchNorm2d)
        else:
            given: dict[str, Any] = {"pretrained": settings.pretrained}
            self.feature_encoder = BackboneEncoder(settings.backbone, channels, settings.features, **given)
            self.context_encoder = BackboneEncoder(settings.backbone, channels, context, **given)
        encoder = getattr(self.feature_encoder, "backbone", None)
        self.started_from = str(getattr(encoder, "started_from", ""))
        window = settings.levels * (2 * settings.radius + 1) ** 2
        self.update_block = UpdateBlock(window, settings.hidden, settings.motion)
        self.mask_predictor = ConvexMask(settings.hidden)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if mode and self.settings.freeze_norm:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, first: Tensor, second: Tensor) -> FlowOutputs:
        """Two images (B, C, h, w) in [0, 1] to the flow from the first to the second; the sides are multiples of 8."""
        settings = self.settings
        maps, batch = self.feature_encoder(torch.cat([first, second])).float(), first.shape[0]
        ours, theirs = maps[:batch], maps[batch:]
        pyramid = CorrelationPyramid(ours, theirs, settings.levels, settings.radius, settings.correlation)
        hidden, context = self.context_encoder(first).chunk(2, dim=1)
        hidden, context = torch.tanh(hidden), F.relu(context)
        start = pixel_grid(ours).expand(ours.shape[0], -1, -1, -1)
        flow = torch.zeros_like(start)
        estimates = []
        count = settings.iterations if self.training else settings.eval_iterations
        for number in range(count):
            flow = flow.detach()  # every refinement is trained by itself
            hidden, change = self.update_block(hidden, context, pyramid(start + flow), flow)
            flow = flow + change.float()
            if self.training or number == count - 1:
                estimates.append(upsample_convex(flow, self.mask_predictor(hidden).float()))
        return FlowOutputs(estimates[-1], tuple(estimates))
