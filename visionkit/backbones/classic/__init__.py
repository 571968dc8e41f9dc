"""Classic networks that timm lacks; importing this package registers them with timm, in its own name space."""

from visionkit.backbones.classic import (
    alexnet,
    googlenet,
    lenet,
    mobilefacenet,
    resnet9,
    resnet_cifar,
    shufflenet,
    squeezenet,
)

__all__ = ["alexnet", "googlenet", "lenet", "mobilefacenet", "resnet9", "resnet_cifar", "shufflenet", "squeezenet"]
