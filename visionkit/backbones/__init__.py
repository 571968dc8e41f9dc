"""Backbones: any timm model, and the classic networks that timm lacks, behind one class.

>>> from visionkit.backbones import Backbone, backbone_facts
"""

from visionkit.backbones.adapters import AdapterConfig
from visionkit.backbones.backbone import Backbone, Features, Pyramid, Tap
from visionkit.backbones.build import declared_strides
from visionkit.backbones.facts import BackboneFacts, backbone_facts, backbone_names, channel_statistics
from visionkit.backbones.sources import WeightSource

__all__ = [
    "AdapterConfig",
    "Backbone",
    "BackboneFacts",
    "Features",
    "Pyramid",
    "Tap",
    "WeightSource",
    "backbone_facts",
    "backbone_names",
    "channel_statistics",
    "declared_strides",
]
