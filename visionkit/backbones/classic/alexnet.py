"""AlexNet (Krizhevsky, Sutskever, Hinton 2012; Krizhevsky 2014) and ZFNet (Zeiler, Fergus 2013)."""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import nn

from visionkit.backbones.classic.contract import ClassicNet, build, declaration

__all__ = ["AlexNet", "AlexNet2012", "ZFNet"]


class AlexNet(ClassicNet):
    """torchvision's: the one-column network of "One weird trick for parallelizing convolutional neural networks".

    Args:
        num_classes: Outputs.
        in_chans: Channels of the input.
        drop_rate: Before each of the two hidden layers.
        global_pool: Not used; the hidden layers read the map.
    """

    def __init__(
        self, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.5, global_pool: str = ""
    ) -> None:
        super().__init__()
        from torchvision.models import AlexNet as Network

        self.adopt(Network(num_classes=max(1, num_classes), dropout=drop_rate), in_chans, "features.0")
        _finish_with_hidden_layers(
            self,
            num_classes,
            in_chans,
            (("features.1", 64, 4), ("features.4", 192, 8), ("features.11", 256, 16), ("features.12", 256, 32)),
        )


class AlexNet2012(ClassicNet):
    """The network of "ImageNet Classification with Deep Convolutional Neural Networks".

    With its two groups (the two GPUs of the time), local response normalization and overlapping pooling: 227x227x3 to
    55x55x96, 27x27x256, 13x13x384 twice, 13x13x256, 6x6x256, 4096, 4096.

    Args:
        num_classes: Outputs.
        in_chans: Channels of the input.
        drop_rate: Before each of the two hidden layers.
        global_pool: Not used; the hidden layers read the map.
    """

    def __init__(
        self, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.5, global_pool: str = ""
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(in_chans, 96, 11, stride=4), nn.ReLU(inplace=True), _response_norm(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(inplace=True), _response_norm(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(inplace=True)),
            *(nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
        )
        _hidden_layers(self, num_classes, drop_rate)
        _finish_with_hidden_layers(
            self,
            num_classes,
            in_chans,
            (("features.1", 96, 4), ("features.5", 256, 8), ("features.13", 256, 16), ("features.14", 256, 32)),
        )


class ZFNet(ClassicNet):
    """AlexNet with a finer first layer: figure 3 of "Visualizing and Understanding Convolutional Networks".

    Args:
        num_classes: Outputs.
        in_chans: Channels of the input.
        drop_rate: Before each of the two hidden layers.
        global_pool: Not used; the hidden layers read the map.
    """

    def __init__(
        self, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.5, global_pool: str = ""
    ) -> None:
        super().__init__()

        def pool() -> nn.Module:
            return nn.MaxPool2d(3, 2, ceil_mode=True)

        self.features = nn.Sequential(
            *(nn.Conv2d(in_chans, 96, 7, stride=2, padding=1), nn.ReLU(inplace=True), pool(), _response_norm()),
            *(nn.Conv2d(96, 256, 5, stride=2), nn.ReLU(inplace=True), pool(), _response_norm()),
            *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(384, 384, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
        )
        _hidden_layers(self, num_classes, drop_rate)
        _finish_with_hidden_layers(
            self,
            num_classes,
            in_chans,
            (
                ("features.1", 96, 2),
                ("features.3", 96, 4),
                ("features.5", 256, 8),
                ("features.13", 256, 16),
                ("features.14", 256, 32),
            ),
        )


def _response_norm() -> nn.Module:
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)


def _hidden_layers(net: ClassicNet, num_classes: int, drop_rate: float) -> None:
    """The layout of torchvision for all three: other sizes than the paper's are averaged to 6x6 first."""
    net.avgpool = nn.AdaptiveAvgPool2d((6, 6))
    net.classifier = nn.Sequential(
        *(nn.Dropout(drop_rate), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(inplace=True)),
        *(nn.Dropout(drop_rate), nn.Linear(4096, 4096), nn.ReLU(inplace=True)),
        nn.Linear(4096, num_classes) if num_classes else nn.Identity(),
    )


def _finish_with_hidden_layers(
    net: ClassicNet, num_classes: int, in_chans: int, taps: tuple[tuple[str, int, int], ...]
) -> None:
    net.flatten = nn.Flatten()
    net.finish(
        num_classes=num_classes,
        in_chans=in_chans,
        body=("features",),
        taps=taps,
        classifier="classifier.6",
        hidden=("avgpool", "flatten", *(f"classifier.{index}" for index in range(6))),
        hidden_size=4096,
        pool=None,
    )


default_cfgs = generate_default_cfgs(
    {
        "alexnet.tv_in1k": declaration(
            (3, 224, 224),
            classifier="classifier.6",
            first_conv="features.0",
            url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            license="bsd-3-clause",
        ),
        "alexnet_2012": declaration((3, 227, 227), classifier="classifier.6", first_conv="features.0"),
        "zfnet": declaration((3, 224, 224), classifier="classifier.6", first_conv="features.0"),
    }
)


@register_model
def alexnet(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """One column, as in torchvision."""
    return build(AlexNet, "alexnet", pretrained, **kwargs)


@register_model
def alexnet_2012(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """Two columns, as in the paper."""
    return build(AlexNet2012, "alexnet_2012", pretrained, **kwargs)


@register_model
def zfnet(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """Zeiler and Fergus."""
    return build(ZFNet, "zfnet", pretrained, **kwargs)
