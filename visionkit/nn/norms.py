"""What a backbone normalizes with while it is fine-tuned or trained from scratch on few images per step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

from timm.layers.norm_act import BatchNormAct2d, FrozenBatchNormAct2d, GroupNormAct, freeze_batch_norm_2d
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import FrozenBatchNorm2d

from visionkit.errors import UsageError, suggest

Norm = Literal["batch", "frozen", "group"]
HeadNorm = Literal["none", "group"]


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalization (Wu and He, 2018) in groups of eight channels, and of more from 256 on: 32 groups at most.

    Small groups would normalize a map of one pixel to nothing.
    """
    return nn.GroupNorm(groups_of(channels), channels)


def groups_of(channels: int) -> int:
    """Number of groups for `group_norm`."""
    return math.gcd(math.gcd(32, max(1, channels // 8)), channels)


def head_norm(norm: HeadNorm) -> Callable[..., nn.Module] | None:
    """What makes the norm of a neck's or head's convolutions.

    Args:
        norm: `none`, as published detectors have it, whose backbones bring their own; `group`, without which necks and
            heads train slowly from random weights (He, Girshick and Dollár, 2019: Rethinking ImageNet Pre-training).

    Returns:
        From a number of channels to a module, or None for none.

    Raises:
        UsageError: Unknown norm.
    """
    if norm not in get_args(HeadNorm):
        allowed = get_args(HeadNorm)
        raise UsageError(f"norm {norm!r}: allowed are {', '.join(allowed)}{suggest(norm, allowed)}")
    return group_norm if norm == "group" else None


def set_batch_norm(network: nn.Module, norm: Norm, eps: float | None = None) -> nn.Module:
    """Exchanges the batch norms of a network; one without any is left as it is.

    Args:
        network: Network with its weights, as `frozen` keeps the statistics.
        norm: `batch` trains them on; `frozen` makes constants of statistics, scales and shifts, as public detectors
            were trained; `group` puts group norms in their place, which do not mind a batch of one or two images.
        eps: For `frozen`, what is added to the variance; 0 for weights that were trained so.

    Raises:
        UsageError: Unknown norm.
    """
    if norm not in get_args(Norm):
        raise UsageError(f"norm {norm!r}: allowed are {', '.join(get_args(Norm))}{suggest(norm, get_args(Norm))}")
    if norm == "frozen":
        network = freeze_batch_norm_2d(network)
        for module in network.modules():
            if eps is not None and isinstance(module, (FrozenBatchNorm2d, FrozenBatchNormAct2d)):
                module.eps = eps
    elif norm == "group":
        _group(network)
    return network


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """The batch norms of a network that have statistics of their own."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def _group(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, BatchNormAct2d):
            norm = GroupNormAct(child.num_features, groups_of(child.num_features))
            norm.drop, norm.act = child.drop, child.act
            setattr(module, name, norm)
        elif isinstance(child, nn.BatchNorm2d):
            setattr(module, name, group_norm(child.num_features))
        else:
            _group(child)
