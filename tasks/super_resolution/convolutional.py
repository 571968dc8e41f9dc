"""The first networks: SRCNN, ESPCN, FSRCNN and VDSR. All of them work on luma alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visionkit.families.restoration.body import Body


class SRCNN(Body):
    """Three convolutions on the image that bicubic has enlarged (Dong et al., 2014 and 2016).

    It begins as the identity: the last convolution takes the one channel that the first two let through, so that what
    it predicts first is bicubic.

    Args:
        scale: Factor; the network is the same for all.
        kernels: Sides of the three kernels: (9, 1, 5) has 8,032 weights and 97 biases.
        widths: Channels between them.
    """

    color, space, skip = "y", "high", False

    def __init__(
        self, scale: int, kernels: tuple[int, int, int] = (9, 1, 5), widths: tuple[int, int] = (64, 32)
    ) -> None:
        super().__init__()
        sides = list(zip((1, *widths), (*widths, 1), kernels, strict=True))
        layers: list[nn.Module] = []
        for before, after, kernel in sides:
            # As the authors' code does at the image's border.
            conv = nn.Conv2d(before, after, kernel, padding=kernel // 2, padding_mode="replicate")
            _through(conv)
            layers += [conv, nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.layers(image)
        return out


@torch.no_grad()
def _through(conv: nn.Conv2d) -> None:
    """Makes the first channel that of the input and starts the others as He et al., 2015."""
    assert conv.bias is not None
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(conv.bias)
    middle = conv.kernel_size[0] // 2
    conv.weight[0].zero_()
    conv.weight[0, 0, middle, middle] = 1.0


class ESPCN(Body):
    """Works at low resolution and shuffles channels into pixels at the end (Shi et al., 2016).

    Args:
        scale: Factor.
        widths: Channels after the 5x5 and the first 3x3 convolution.
    """

    color, space, skip = "y", "low", False

    def __init__(self, scale: int, widths: tuple[int, int] = (64, 32)) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, widths[0], 5, padding=2),
            nn.Tanh(),
            nn.Conv2d(widths[0], widths[1], 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(widths[1], scale * scale, 3, padding=1),
            nn.PixelShuffle(scale),
        )

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.layers(image)
        return out


class FSRCNN(Body):
    """Shrinks, maps and expands at low resolution; a transposed convolution enlarges (Dong et al., 2016).

    Args:
        scale: Factor.
        detail: d, channels of the first and last part.
        shrunk: s, channels in between.
        depth: m, number of 3x3 convolutions in between. (56, 12, 4) has 12,464 weights.
    """

    color, space, skip = "y", "low", False

    def __init__(self, scale: int, detail: int = 56, shrunk: int = 12, depth: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, detail, 5, padding=2), nn.PReLU(detail)]
        layers += [nn.Conv2d(detail, shrunk, 1), nn.PReLU(shrunk)]
        for _ in range(depth):
            layers += [nn.Conv2d(shrunk, shrunk, 3, padding=1), nn.PReLU(shrunk)]
        layers += [nn.Conv2d(shrunk, detail, 1), nn.PReLU(detail)]
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=0.25)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        enlarge = nn.ConvTranspose2d(detail, 1, 9, stride=scale, padding=4, output_padding=scale - 1)
        nn.init.normal_(enlarge.weight, std=0.001)
        nn.init.zeros_(enlarge.bias)  # type: ignore[arg-type]
        self.layers = nn.Sequential(*layers, enlarge)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.layers(image)
        return out


class VDSR(Body):
    """Twenty 3x3 convolutions that learn what bicubic lacks (Kim et al., 2016).

    Args:
        scale: Factor; the network is the same for all.
        width: Channels.
        depth: Convolutions.
    """

    color, space, skip = "y", "high", True

    def __init__(self, scale: int, width: int = 64, depth: int = 20) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(depth):
            conv = nn.Conv2d(1 if number == 0 else width, 1 if number == depth - 1 else width, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            layers += [conv, nn.ReLU()]
        nn.init.normal_(layers[-2].weight, std=1e-3)  # type: ignore[arg-type]  # starts as bicubic
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.layers(image)
        return out
