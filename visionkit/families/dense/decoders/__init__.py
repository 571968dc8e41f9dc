"""Decoders: a backbone's pyramid to one map, by the name of the paper.

U-Net, FPN, PSPNet, DeepLabV3+, UPerNet, SegFormer and DPT are segmentation-models-pytorch's modules, fed with the maps
of any timm backbone; FCN is ours. `visionkit.families.dense.network` puts a backbone, a decoder and a head together.
"""

from visionkit.families.dense.decoders.base import DECODERS, Decoder, Needs, build_decoder, decoder_needs

__all__ = ["DECODERS", "Decoder", "Needs", "build_decoder", "decoder_needs"]
