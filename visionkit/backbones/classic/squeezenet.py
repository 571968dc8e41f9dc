"""SqueezeNet (Iandola et al. 2016, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters"), torchvision's."""

from __future__ import annotations

from typing import Any, cast

from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from visionkit.backbones.classic.contract import ClassicNet, build, declaration

__all__ = ["SqueezeNet"]


class SqueezeNet(ClassicNet):
    """Fire modules and no linear layer: the classes are convolved, rectified and then averaged.

    So the classifier needs the map. Without classes the features are the averaged map.

    Args:
        version: `1_0` or `1_1`.
        num_classes: Outputs.
        in_chans: Channels of the input.
        drop_rate: Before the classifier.
        global_pool: Global pool of the features where there are no classes.
    """

    def __init__(
        self,
        version: str = "1_0",
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.5,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        from torchvision.models import SqueezeNet as Network

        self.adopt(Network(version=version, num_classes=max(1, num_classes)), in_chans, "features.0")
        self.dropout = drop_rate
        stem, before = (96, (5, 10)) if version == "1_0" else (64, (4, 7))
        self.finish(
            num_classes=num_classes,
            in_chans=in_chans,
            body=("features",),
            taps=(
                ("features.1", stem, 2),
                (f"features.{before[0]}", 256 if version == "1_0" else 128, 4),
                (f"features.{before[1]}", 512 if version == "1_0" else 256, 8),
                ("features.12", 512, 16),
            ),
            classifier="classifier",
            pool=global_pool,
        )
        self.reset_classifier(num_classes)

    def make_classifier(self, num_classes: int) -> nn.Module:
        """A convolution that pools afterwards."""
        return _ConvClassifier(self.head_hidden_size, num_classes, self.dropout) if num_classes else nn.Identity()

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Last map to (B, 512), or to the logits (B, num_classes)."""
        if pre_logits or not self.num_classes:
            return cast(Tensor, self.global_pool(x))
        return cast(Tensor, self.get_classifier()(x))


class _ConvClassifier(nn.Sequential):
    pools = True

    def __init__(self, width: int, num_classes: int, drop_rate: float) -> None:
        convolution = nn.Conv2d(width, num_classes, kernel_size=1)
        nn.init.normal_(convolution.weight, std=0.01)
        nn.init.zeros_(cast(Tensor, convolution.bias))
        super().__init__(nn.Dropout(drop_rate), convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _cfg(url: str) -> dict[str, Any]:
    return declaration(
        (3, 224, 224), classifier="classifier.1", first_conv="features.0", url=url, license="bsd-3-clause"
    )


default_cfgs = generate_default_cfgs(
    {
        "squeezenet1_0.tv_in1k": _cfg("https://download.pytorch.org/models/squeezenet1_0-b66bff10.pth"),
        "squeezenet1_1.tv_in1k": _cfg("https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"),
    }
)


@register_model
def squeezenet1_0(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """As in the paper."""
    return build(SqueezeNet, "squeezenet1_0", pretrained, **{"version": "1_0", **kwargs})


@register_model
def squeezenet1_1(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """Pools earlier: 2.4 times less computation, the same accuracy."""
    return build(SqueezeNet, "squeezenet1_1", pretrained, **{"version": "1_1", **kwargs})
