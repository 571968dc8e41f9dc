"""Architectures of dense maps: a decoder that turns a backbone's pyramid into one map, by the name of its paper.

U-Net, FPN, PSPNet, DeepLabV3+, UPerNet, SegFormer and DPT are segmentation-models-pytorch's modules, fed with the maps
of any timm backbone; FCN is ours. The modules, their initialization and their names are theirs, so the number of
weights and the output equal those of their own model. What is ours is which maps they get: by stride, not by position,
and none where a backbone has none. `visionkit.families.dense.network` puts a backbone, a decoder and a head together.
"""

from visionkit.families.dense.architectures.base import Decoder, DenseArchitecture, Needs

__all__ = ["Decoder", "DenseArchitecture", "Needs"]
