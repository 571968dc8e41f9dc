"""Maps of any backbone as features of a window: fine ones for the place, coarse ones for what the object is."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from visionkit.backbones import Backbone, backbone_facts, declared_strides
from visionkit.backbones.frozen import FrozenBackbone
from visionkit.backbones.of_models import backbone_of

SIDE = 224
"""Height and width that a window is shown to the network in."""

_LEVELS = 3
_COARSEST = 16
"""Coarsest stride that is taken where the network has three maps up to it: the object has some cells in each map."""


class FeatureMaps:
    """Gives three maps of a window with one pass of a network, the coarsest first.

    These are the maps of the three coarsest strides up to 16 (4, 8 and 16 of most networks), or of three depths of a
    network whose maps all have one stride.

    Args:
        backbone: Built for these maps.
        device: Where it runs.
    """

    def __init__(self, backbone: Backbone, device: str | torch.device = "cpu") -> None:
        self.backbone = FrozenBackbone(backbone, device)
        self.device = self.backbone.device

    @classmethod
    def of(cls, model: str, device: str | torch.device = "cpu") -> FeatureMaps:
        """Opens a backbone with its public weights, or the backbone of a trained model.

        Args:
            model: `timm:resnet18`, `resnet18`, `hf-hub:user/name`, a checkpoint, a run or a bundle folder.
            device: Where it runs.

        Raises:
            UsageError: An unknown name, or a model without a backbone.
            CheckpointError: The file cannot be used.
            EnvironmentFault: Public weights are not at hand and cannot be brought.
        """
        name, arguments = backbone_of(model)
        strides = sorted(set(declared_strides(name)))
        if len(strides) == 1:
            arguments["taps"] = min(_LEVELS, len(declared_strides(name)))
        else:
            fine = [each for each in strides if each <= _COARSEST]
            arguments["strides"] = fine[-_LEVELS:] if len(fine) >= _LEVELS else strides[:_LEVELS]
        if backbone_facts(name).fixed_input_size:
            arguments["image_size"] = (SIDE, SIDE)
        return cls(Backbone(name, use_final=False, **arguments), device)

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> list[Tensor]:
        """Three maps (C, h, w) of an image, the coarsest first.

        Args:
            pixels: (h, w, 3) uint8 RGB of any size.
        """
        image = torch.tensor(pixels, device=self.device).permute(2, 0, 1)[None].float()
        image = torch.nn.functional.interpolate(image, (SIDE, SIDE), mode="bilinear", antialias=True)
        features = self.backbone(image)
        maps = [tap.map for tap in features.final] if self.backbone.body.taps else list(features.pyramid.values())
        return [each[0].float() for each in reversed(maps)]
