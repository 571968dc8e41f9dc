"""DnCNN: a plain chain of convolutions that estimates the noise (Zhang et al., 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from tasks.restoration.body import Body


class DnCNN(Body):
    """Convolutions of 3x3, batch norms and ReLUs; what they give is taken off the image.

    With 17 layers (DnCNN-S, one noise level) a gray network has 556,032 parameters, with 20 (DnCNN-B, blind) 667,008.
    The first and the last layer have no batch norm, and no convolution has a bias.

    Args:
        channels: Channels of the image; 1 or 3.
        width: Channels of the layers.
        depth: Number of convolutions.
    """

    def __init__(self, channels: int = 1, width: int = 64, depth: int = 17) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            convolution = nn.Conv2d(width, width, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        layers.append(nn.Conv2d(width, channels, 3, padding=1, bias=False))
        self.layers = nn.Sequential(*layers)
        for module in self.layers:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.normal_(last.weight, std=1e-3)  # starts by giving the image as it is

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        noise: Tensor = self.layers(image)
        return image - noise.float()
