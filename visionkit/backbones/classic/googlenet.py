"""GoogLeNet (Szegedy et al. 2014, "Going Deeper with Convolutions"), torchvision's."""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import Tensor

from visionkit.backbones.classic.contract import ClassicNet, build, declaration

__all__ = ["GoogLeNet"]


class GoogLeNet(ClassicNet):
    """Nine inception modules, with batch normalization, without the two auxiliary classifiers.

    torchvision's has 3x3 convolutions where the paper has 5x5, and so have the public weights.

    Args:
        num_classes: Outputs.
        in_chans: Channels of the input.
        drop_rate: Before the classifier.
        global_pool: `avg` in the paper.
    """

    def __init__(
        self, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.2, global_pool: str = "avg"
    ) -> None:
        super().__init__()
        from torchvision.models import GoogLeNet as Network

        network = Network(num_classes=max(1, num_classes), aux_logits=False, init_weights=False)
        self.adopt(network, in_chans, "conv1.conv")
        inceptions = [
            name for name, _ in network.named_children() if name.startswith(("inception", "maxpool3", "maxpool4"))
        ]
        self.finish(
            num_classes=num_classes,
            in_chans=in_chans,
            body=("conv1", "maxpool1", "conv2", "conv3", "maxpool2", *inceptions),
            taps=(
                ("conv1", 64, 2),
                ("conv3", 192, 4),
                ("inception3b", 480, 8),
                ("inception4e", 832, 16),
                ("inception5b", 1024, 32),
            ),
            classifier="fc",
            pool=global_pool,
            drop_rate=drop_rate,
        )

    @staticmethod
    def filter_weights(state: dict[str, Tensor], model: ClassicNet) -> dict[str, Tensor]:
        """Leaves the auxiliary classifiers of the public file out."""
        return {key: value for key, value in state.items() if not key.startswith(("aux1.", "aux2."))}


default_cfgs = generate_default_cfgs(
    {
        "googlenet.tv_in1k": declaration(
            (3, 224, 224),
            classifier="fc",
            first_conv="conv1.conv",
            url="https://download.pytorch.org/models/googlenet-1378be20.pth",
            license="bsd-3-clause",
            # torchvision turns ImageNet's normalization into this one inside the network.
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        )
    }
)


@register_model
def googlenet(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """Inception version 1."""
    return build(GoogLeNet, "googlenet", pretrained, **kwargs)
