"""LPIPS, where its weights are on this machine: nothing is downloaded for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visionkit.errors import EnvironmentFault, UsageError, suggest

_WEIGHTS = {"alex": "AlexNet_Weights", "squeeze": "SqueezeNet1_1_Weights", "vgg": "VGG16_Weights"}


def check_network(network: str) -> None:
    """Refuses an unknown network.

    Raises:
        UsageError: With the names that exist and the nearest of them.
    """
    if network not in _WEIGHTS:
        raise UsageError(f"lpips {network!r}: allowed are {', '.join(_WEIGHTS)}{suggest(network, _WEIGHTS)}")


class Lpips:
    """Learned perceptual image patch similarity (Zhang et al., 2018), of torchmetrics; 0 for equal images.

    It is no module, so its weights are in no checkpoint.

    Args:
        network: `alex`, the one of most tables, `squeeze` or `vgg`. The paper's own weights come with torchmetrics,
            those of the network lie in torch's folder of checkpoints.

    Raises:
        UsageError: Another network.
        EnvironmentFault: Its weights are not on this machine; with the address and the folder.
    """

    def __init__(self, network: str = "alex") -> None:
        check_network(network)
        from torchvision import models

        url = getattr(models, _WEIGHTS[network]).DEFAULT.url
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
        if not path.exists():
            raise EnvironmentFault(f"LPIPS with {network} needs {path}, which is absent; put the file of {url} there")
        from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

        kind: Any = LearnedPerceptualImagePatchSimilarity
        self._metric: Any = kind(net_type=network, normalize=True).eval()

    def __call__(self, ours: Tensor, truth: Tensor) -> Tensor:
        """The distance of two images.

        Args:
            ours: (1 or 3, H, W) gray or RGB on a scale of 255.
            truth: The same shape.
        """
        metric = self._metric.to(ours.device)
        images = [(each.float() / 255).clamp(0, 1).expand(3, -1, -1)[None] for each in (ours, truth)]
        with torch.no_grad():
            value: Tensor = metric(*images)
        metric.reset()
        return value
