"""Parameters and multiply-adds of small networks of 42 families, each with the difference to fvcore 0.1.5.

Sizes are those of `tests.visionkit.backbones.families`. Parameters are equal to fvcore's and torchinfo's, and so are
multiply-adds of convolutions, linear layers and matrix products where the third number is 0. fvcore also counts
normalization, pooling and resizing, which are left out here. What differs:

- ATTENTION: fvcore does not know torch's fused attention; with `timm.layers.set_fused_attn(False)` the two are equal.
- SAME: fvcore does not know convolutions with `padding="same"`.
- LSTM: fvcore does not know torch's LSTM.
"""

from __future__ import annotations

ATTENTION, SAME, LSTM = "fused attention", "same padding", "LSTM"

COUNTED: dict[str, tuple[int, int, int, str]] = {
    "eca_botnext26ts_256": (10_591_381, 150_635_904, 0, ""),
    "test_byobnet": (456_856, 5_208_320, 0, ""),
    "cait_xxs24_224": (11_921_704, 178_233_600, 13_056, ATTENTION),
    "coat_tiny": (5_498_540, 359_260_968, 0, ""),
    "convit_tiny": (5_675_952, 89_606_400, 0, ""),
    "convmixer_768_32": (21_110_248, 1_636_278_528, 97_542_144, SAME),
    "test_convnext": (272_128, 5_050_368, 0, ""),
    "crossvit_tiny_240": (7_014_800, 1_562_734_080, 271_453_248, ATTENTION),
    "cs3darknet_focus_s": (3_274_728, 43_372_544, 0, ""),
    "davit_tiny": (28_360_168, 572_013_504, 17_056_704, ATTENTION),
    "deit_tiny_patch16_224": (5_682_856, 94_126_080, 1_331_712, ATTENTION),
    "densenet121": (7_978_856, 232_300_544, 0, ""),
    "dla46x_c": (1_068_440, 43_722_752, 0, ""),
    "edgenext_xx_small": (1_327_216, 16_276_568, 0, ""),
    "test_efficientnet": (356_196, 9_389_312, 0, ""),
    "fastvit_t8": (4_026_232, 43_923_456, 0, ""),
    "focalnet_tiny_srf": (28_427_116, 360_161_280, 0, ""),
    "ghostnet_050": (2_587_292, 5_539_392, 0, ""),
    "hiera_tiny_224": (27_633_736, 386_119_680, 6_610_944, ATTENTION),
    "hrnet_w18_small": (13_187_464, 132_616_192, 0, ""),
    "inception_v3": (23_834_568, 340_897_120, 0, ""),
    "levit_128s": (7_772_168, 22_341_632, 0, ""),
    "test_mambaout": (447_560, 4_164_096, 0, ""),
    "test_coatnet": (573_704, 12_849_152, 84_992, ATTENTION),
    "poolformerv2_s12": (11_891_712, 148_410_368, 0, ""),
    "gmlp_ti16_224": (4_717_128, 75_428_864, 0, ""),
    "mobilenetv3_small_050": (1_593_224, 3_302_208, 0, ""),
    "mobilevit_xxs": (1_272_024, 21_179_136, 305_408, ATTENTION),
    "nest_tiny": (16_573_768, 430_169_088, 3_932_160, ATTENTION),
    "test_nfnet": (383_080, 45_783_552, 0, ""),
    "pvt_v2_b0": (3_666_760, 43_587_584, 253_952, ATTENTION),
    "regnetx_002": (2_684_792, 16_586_112, 0, ""),
    "repvit_m1": (5_485_248, 67_613_952, 0, ""),
    "res2next50": (24_671_464, 342_507_520, 0, ""),
    "test_resnet": (469_688, 16_488_192, 0, ""),
    "rexnet_100": (4_796_873, 34_625_312, 0, ""),
    "skresnet18": (11_958_056, 148_822_016, 0, ""),
    "swin_tiny_patch4_window7_224": (28_272_034, 425_312_640, 0, ""),
    "test_vit": (365_864, 5_250_304, 221_952, ATTENTION),
    "legacy_xception": (22_855_952, 365_328_032, 0, ""),
    "xcit_nano_12_p8_224": (3_049_016, 174_650_880, 33_280, ATTENTION),
    "sequencer2d_s": (27_651_688, 551_796_288, 224_870_400, LSTM),
}
"""Parameters, multiply-adds, those that fvcore lacks, and why."""
