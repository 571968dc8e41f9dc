"""One small model of every family that timm has, and the size it is run at.

A family is a module of timm's registry. The model is the one with the fewest parameters; the size is 64 pixels, or the
smallest that the network can be built for.
"""

from __future__ import annotations

FAMILIES: dict[str, tuple[str, int]] = {
    "beit": ("beit_base_patch16_224", 64),
    "byoanet": ("eca_botnext26ts_256", 64),
    "byobnet": ("test_byobnet", 64),
    "cait": ("cait_xxs24_224", 64),
    "coat": ("coat_tiny", 64),
    "convit": ("convit_tiny", 64),
    "convmixer": ("convmixer_768_32", 64),
    "convnext": ("test_convnext", 64),
    "cpubone": ("cpubone_nano", 64),
    "crossvit": ("crossvit_tiny_240", 240),
    "csatv2": ("csatv2", 64),
    "cspnet": ("cs3darknet_focus_s", 64),
    "cspnext": ("cspnext_tiny", 64),
    "davit": ("davit_tiny", 64),
    "deepseek_vit": ("deepseek_vit_412m", 70),
    "deit": ("deit_tiny_patch16_224", 64),
    "densenet": ("densenet121", 64),
    "dla": ("dla46x_c", 64),
    "dpn": ("dpn48b", 64),
    "edgenext": ("edgenext_xx_small", 64),
    "efficientformer": ("efficientformer_l1", 224),
    "efficientformer_v2": ("efficientformerv2_s0", 64),
    "efficientnet": ("test_efficientnet", 64),
    "efficientvim": ("efficientvim_m1", 64),
    "efficientvit_mit": ("efficientvit_b0", 64),
    "efficientvit_msra": ("efficientvit_m0", 64),
    "eva": ("vit_tiny_patch16_dinov3_qkvb", 64),
    "fasternet": ("fasternet_t0", 64),
    "fastvit": ("fastvit_t8", 64),
    "focalnet": ("focalnet_tiny_srf", 64),
    "gcvit": ("gcvit_xxtiny", 64),
    "gemma4_vit": ("gemma4_vit_167m", 64),
    "ghostnet": ("ghostnet_050", 64),
    "hardcorenas": ("hardcorenas_b", 64),
    "hgnet": ("hgnetv2_b0", 64),
    "hiera": ("hiera_tiny_224", 64),
    "hieradet_sam2": ("sam2_hiera_tiny", 64),
    "hrnet": ("hrnet_w18_small", 64),
    "iformer": ("iformer_t", 64),
    "inception_next": ("inception_next_atto", 64),
    "inception_resnet_v2": ("inception_resnet_v2", 96),
    "inception_v3": ("inception_v3", 96),
    "inception_v4": ("inception_v4", 96),
    "lcnetv2": ("lcnetv2_small", 64),
    "levit": ("levit_128s", 64),
    "lowformer": ("lowformer_b0", 64),
    "mambaout": ("test_mambaout", 64),
    "maxxvit": ("test_coatnet", 64),
    "metaformer": ("poolformerv2_s12", 64),
    "mlp_mixer": ("gmlp_ti16_224", 64),
    "mobilenetv3": ("mobilenetv3_small_050", 64),
    "mobilenetv5": ("mobilenetv5_base", 64),
    "mobilevit": ("mobilevit_xxs", 64),
    "mvitv2": ("mvitv2_tiny", 64),
    "naflexvit": ("naflexvit_base_patch16_parfac_gap", 64),
    "nasnet": ("nasnetalarge", 64),
    "nest": ("nest_tiny", 64),
    "nextvit": ("nextvit_small", 64),
    "nfnet": ("test_nfnet", 64),
    "pit": ("pit_ti_224", 64),
    "pnasnet": ("pnasnet5large", 64),
    "pvt_v2": ("pvt_v2_b0", 64),
    "qwen3_vit": ("qwen3_vit_88m", 64),
    "rdnet": ("rdnet_tiny", 64),
    "regnet": ("regnetx_002", 64),
    "repghost": ("repghostnet_050", 64),
    "repvit": ("repvit_m1", 64),
    "res2net": ("res2next50", 64),
    "resnest": ("resnest14d", 64),
    "resnet": ("test_resnet", 64),
    "resnetv2": ("resnetv2_18", 64),
    "rexnet": ("rexnet_100", 64),
    "selecsls": ("selecsls42", 64),
    "senet": ("legacy_seresnet18", 64),
    "sequencer": ("sequencer2d_s", 64),
    "shvit": ("shvit_s1", 64),
    "sknet": ("skresnet18", 64),
    "starnet": ("starnet_s050", 64),
    "swiftformer": ("swiftformer_xs", 64),
    "swin_transformer": ("swin_tiny_patch4_window7_224", 64),
    "swin_transformer_v2": ("swinv2_tiny_window8_256", 64),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", 64),
    "tiny_vit": ("tiny_vit_5m_224", 64),
    "tnt": ("tnt_s_legacy_patch16_224", 64),
    "tresnet": ("tresnet_m", 64),
    "twins": ("twins_svt_small", 64),
    "vgg": ("vgg11", 64),
    "visformer": ("visformer_tiny", 64),
    "vision_transformer": ("test_vit", 64),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", 64),
    "vision_transformer_relpos": ("test_vit_relpos", 64),
    "vision_transformer_sam": ("samvit_base_patch16_224", 64),
    "vitamin": ("vitamin_small_224", 64),
    "volo": ("volo_d1_224", 64),
    "vovnet": ("ese_vovnet19b_slim_dw", 64),
    "xception": ("legacy_xception", 64),
    "xception_aligned": ("xception41p", 64),
    "xcit": ("xcit_nano_12_p8_224", 64),
}

# One of every type that is built or classifies in a way of its own; all others are variations, run by `make slow`.
KINDS = frozenset(
    {
        "byobnet",  # plain convolutions
        "cait",  # a class token that attends alone
        "convnext",  # a norm before the classifier
        "crossvit",  # two branches, two classifiers, one size
        "densenet",  # concatenated maps
        "efficientnet",  # depthwise convolutions
        "eva",  # rotary positions
        "hiera",  # masked units of tokens
        "hrnet",  # branches of several strides
        "inception_next",  # an MLP as classifier
        "levit",  # a classifier and its distilled twin
        "mambaout",  # gated convolutions, channels last
        "maxxvit",  # convolutions, then attention
        "metaformer",  # pooling for attention
        "mlp_mixer",  # tokens, none of a class
        "nfnet",  # standardized weights
        "pit",  # tokens at several strides
        "resnet",
        "rexnet",  # widths that grow layer by layer
        "swin_transformer",  # shifted windows
        "vision_transformer",
        "vision_transformer_relpos",  # relative positions
        "xcit",  # attention over channels
    }
)

# More than 80 M parameters, or seconds on one core.
SLOW = frozenset(
    {
        "beit",
        "deepseek_vit",
        "gemma4_vit",
        "inception_resnet_v2",
        "mobilenetv5",
        "naflexvit",
        "nasnet",
        "pnasnet",
        "qwen3_vit",
        "vgg",
        "vision_transformer_sam",
    }
)

CLASSIC: dict[str, str] = {
    "alexnet": "alexnet",
    "googlenet": "googlenet",
    "lenet": "lenet5",
    "mobilefacenet": "mobilefacenet",
    "resnet9": "resnet9_small",
    "resnet_cifar": "resnet20",
    "shufflenet": "shufflenet_v2_x0_5",
    "squeezenet": "squeezenet1_1",
}
