"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998, "Gradient-Based Learning Applied to Document Recognition")."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from visionkit.backbones.classic.contract import ClassicNet, build, declaration

__all__ = ["LeNet5"]

# Table I of the paper: which of the six maps of S2 each of the sixteen maps of C3 reads.
_C3_READS = (
    *(((i) % 6, (i + 1) % 6, (i + 2) % 6) for i in range(6)),
    *(((i) % 6, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)


class LeNet5(ClassicNet):
    """The network of the paper, its 60,000 trainable parameters included; a linear classifier replaces the RBF units.

    Sub-sampling has a coefficient and a bias per map, C3 reads the paper's table, the squashing is 1.7159 tanh(2x/3).
    The original's output units are not learned (84-pixel drawings of the characters) and exist for printable ASCII
    alone. Convolutions are not padded, so the maps lose a border. Images from 32x32 up; what C5 gives of larger ones is
    averaged.

    Args:
        num_classes: Outputs.
        in_chans: Channels of the input.
        global_pool: Over what C5 gives, which is 1x1 for 32x32.
        drop_rate: Before the classifier.
    """

    def __init__(
        self, num_classes: int = 10, in_chans: int = 1, global_pool: str = "avg", drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.c1, self.act1 = nn.Conv2d(in_chans, 6, 5), _Squash()
        self.s2, self.act2 = _Subsample(6), _Squash()
        self.c3, self.act3 = _TableConv(6, _C3_READS, 5), _Squash()
        self.s4, self.act4 = _Subsample(16), _Squash()
        self.c5, self.act5 = nn.Conv2d(16, 120, 5), _Squash()
        self.f6, self.act6 = nn.Linear(120, 84), _Squash()
        self.output = nn.Linear(84, num_classes) if num_classes else nn.Identity()
        self.finish(
            num_classes=num_classes,
            in_chans=in_chans,
            body=("c1", "act1", "s2", "act2", "c3", "act3", "s4", "act4", "c5", "act5"),
            taps=(("act1", 6, 1), ("act3", 16, 2), ("act4", 16, 4)),
            classifier="output",
            hidden=("f6", "act6"),
            num_features=120,
            hidden_size=84,
            pool=global_pool,
            drop_rate=drop_rate,
        )


class _Squash(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(x * (2.0 / 3.0))


class _Subsample(nn.Module):
    """Sum over 2x2, times a coefficient, plus a bias, one of each per map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), 0.25))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return 4.0 * F.avg_pool2d(x, 2) * self.weight[:, None, None] + self.bias[:, None, None]


class _TableConv(nn.Module):
    """A convolution whose output maps each read some of the input maps; only those have weights."""

    position: Tensor

    def __init__(self, in_channels: int, reads: tuple[tuple[int, ...], ...], kernel: int) -> None:
        super().__init__()
        self.shape = (len(reads), in_channels, kernel, kernel)
        planes = [out * in_channels + source for out, sources in enumerate(reads) for source in sorted(sources)]
        fan_in = kernel * kernel * len(planes) / len(reads)
        self.weight = nn.Parameter(torch.empty(len(planes), kernel, kernel).uniform_(-(fan_in**-0.5), fan_in**-0.5))
        self.bias = nn.Parameter(torch.zeros(len(reads)))
        self.register_buffer("position", torch.tensor(planes), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        out, source, kernel, _ = self.shape
        dense = self.weight.new_zeros(out * source, kernel, kernel).index_copy(0, self.position, self.weight)
        return F.conv2d(x, dense.view(self.shape), self.bias)


default_cfgs = generate_default_cfgs(
    {
        "lenet5": declaration(
            (1, 32, 32), classifier="output", first_conv="c1", num_classes=10, crop_pct=1.0, mean=(0.1,), std=(0.4,)
        )
    }
)


@register_model
def lenet5(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """One channel of 32x32 pixels."""
    return build(LeNet5, "lenet5", pretrained, **kwargs)
