"""Classic networks that timm lacks; importing this package registers them with timm, in its own name space."""

from visionkit.backbones.classic import resnet9

__all__ = ["resnet9"]
