"""D-FINE and RT-DETRv2 beside transformers' implementations, with random weights on both sides."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tasks.detection import DetectionTask
from visionkit.families.detection.detr.matching import corners_of
from visionkit.families.detection.detr.published import with_published

transformers = pytest.importorskip("transformers")

SIZE = 160
HGNET: dict[str, dict[str, Any]] = {
    "hgnetv2_b0": {"stem": [3, 16, 16], "mid": [16, 32, 64, 128], "out": [64, 256, 512, 1024], "blocks": [1, 1, 2, 1]},
    "hgnetv2_b2": {"stem": [3, 24, 32], "mid": [32, 64, 128, 256], "out": [96, 384, 768, 1536], "blocks": [1, 1, 3, 1]},
    "hgnetv2_b4": {
        "stem": [3, 32, 48], "mid": [48, 96, 192, 384], "out": [128, 512, 1024, 2048], "blocks": [1, 1, 3, 1]
    },
    "hgnetv2_b5": {
        "stem": [3, 32, 64], "mid": [64, 128, 256, 512], "out": [128, 512, 1024, 2048], "blocks": [1, 2, 5, 2]
    },
}  # fmt: skip
DEPTH = {"hgnetv2_b0": 3, "hgnetv2_b2": 4, "hgnetv2_b4": 6, "hgnetv2_b5": 6}
RESNET = {
    "resnet18d": ("basic", [2, 2, 2, 2], [64, 128, 256, 512]),
    "resnet34d": ("basic", [3, 4, 6, 3], [64, 128, 256, 512]),
    "resnet50d": ("bottleneck", [3, 4, 6, 3], [256, 512, 1024, 2048]),
    "resnet101d": ("bottleneck", [3, 4, 23, 3], [256, 512, 1024, 2048]),
}
MILLIONS = {"n": 4, "s": 10, "m": 19, "l": 31, "x": 62, "r18": 20, "r34": 31, "r50m": 36, "r50": 42, "r101": 76}
EVERY = [("dfine", size) for size in "nsmlx"] + [("rtdetr", size) for size in ("r18", "r34", "r50m", "r50", "r101")]
QUICK = (("dfine", "n"), ("rtdetr", "r18"))
sizes = pytest.mark.parametrize(
    "scheme, size", [each if each in QUICK else pytest.param(*each, marks=pytest.mark.slow) for each in EVERY]
)


def published(scheme: str, size: str) -> Any:
    return DetectionTask.architectures[scheme].public[size]


def theirs(scheme: str, size: str, **changes: Any) -> Any:
    """Transformers' model of a published size."""
    kind = DetectionTask.architectures[scheme](size=size)
    backbone = published(scheme, size).arguments["backbone"]
    shared = {
        "num_labels": 80,
        "encoder_hidden_dim": kind.neck_channels,
        "encoder_ffn_dim": kind.encoder_feedforward,
        "hidden_expansion": kind.encoder_expansion,
        "feat_strides": list(kind.strides),
        "num_feature_levels": len(kind.strides),
        "decoder_in_channels": [kind.neck_channels] * len(kind.strides),
        "encode_proj_layers": [len(kind.strides) - 1],
        "d_model": kind.channels,
        "decoder_ffn_dim": kind.feedforward,
        "decoder_layers": kind.layers_used,
        "num_queries": min(300, sum((SIZE // stride) ** 2 for stride in kind.strides)),
        "anchor_image_size": None,
        "freeze_backbone_batch_norms": published(scheme, size).arguments["backbone_norm"] == "frozen",
        **changes,
    }
    if scheme == "dfine":
        facts = HGNET[backbone]
        body = transformers.HGNetV2Config(
            stem_channels=facts["stem"],
            stage_in_channels=[facts["stem"][-1], *facts["out"][:-1]],
            stage_mid_channels=facts["mid"],
            stage_out_channels=facts["out"],
            stage_num_blocks=facts["blocks"],
            stage_numb_of_layers=[DEPTH[backbone]] * 4,
            use_learnable_affine_block=backbone in ("hgnetv2_b0", "hgnetv2_b2"),
            hidden_sizes=facts["out"],
            out_indices=[3, 4] if len(kind.strides) == 2 else [2, 3, 4],
        )
        return transformers.DFineForObjectDetection(
            transformers.DFineConfig(
                backbone_config=body,
                encoder_in_channels=facts["out"][-len(kind.strides) :],
                depth_mult=kind.encoder_blocks / 3,
                decoder_n_points=list(kind.points),
                reg_scale=kind.reg_scale,
                **shared,
            )
        ).eval()
    layer, depths, widths = RESNET[backbone]
    body = transformers.RTDetrResNetConfig(
        layer_type=layer,
        depths=depths,
        hidden_sizes=widths,
        out_indices=[2, 3, 4],
        downsample_in_bottleneck=False,
        downsample_in_first_stage=False,
    )
    return transformers.RTDetrV2ForObjectDetection(
        transformers.RTDetrV2Config(backbone_config=body, encoder_in_channels=widths[1:], **shared)
    ).eval()


@torch.no_grad()
def with_opinions(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights, statistics and scales: a fresh network has zeros where parity would hide."""
    generator = torch.Generator().manual_seed(seed)

    def random(value: Tensor) -> Tensor:
        return torch.randn(value.shape, generator=generator)

    for key, value in [*model.named_parameters(), *model.named_buffers()]:
        if not value.is_floating_point() or key.endswith(("reg_scale", ".up", "points_scale")):
            continue
        if key.endswith("running_var"):
            value.copy_(0.5 + random(value).abs())
        elif key.endswith("running_mean") or key.endswith("bias"):
            value.copy_(0.1 * random(value))
        elif value.dim() < 2:
            value.copy_(0.8 + 0.2 * random(value).abs())
        elif "class_embed" in key or "score_head" in key:
            value.copy_(0.2 * random(value))
        else:
            value.copy_(random(value) / math.sqrt(value[0].numel()))
    return model


def pixels(count: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def pair(scheme: str, size: str) -> tuple[Any, Any]:
    """Their model, and ours with its weights."""
    reference = with_opinions(theirs(scheme, size))
    state = dict(reference.state_dict())
    # Layers that help in training alone are in the files, and in ours.
    missing = DetectionTask.architectures[scheme](size=size)
    if missing.layers_used < missing.layers:
        extra = with_opinions(theirs(scheme, size, decoder_layers=missing.layers), seed=1).state_dict()
        state = extra | state
    return reference, with_published(DetectionTask, scheme, size, published(scheme, size), state)


@sizes
@torch.inference_mode()
def test_the_same_weights_give_the_same_outputs(scheme: str, size: str) -> None:
    reference, task = pair(scheme, size)
    image = pixels(2)
    wanted, found = reference(pixel_values=image.float() / 255), task(image)
    corners = corners_of(wanted.pred_boxes) * SIZE
    # Positions of one score to the last digit may change places: queries are paired by what they state.
    apart = torch.cdist(found.all_logits[-3 if scheme == "dfine" else -2], wanted.logits).argmin(dim=2)
    assert (apart.sort(dim=1).values == torch.arange(apart.shape[1])).all()
    logits = wanted.logits.gather(1, apart[..., None].expand(-1, -1, 80))
    boxes = corners.gather(1, apart[..., None].expand(-1, -1, 4))
    assert (found.logits - logits).abs().max() < 1e-4 * max(1.0, float(logits.abs().max()))
    assert (found.boxes - boxes.clamp(0, SIZE)).abs().max() < 1e-2
    assert logits.std() > 0.1 and boxes.std() > 1, "nothing is stated"


@pytest.mark.parametrize("scheme, size", EVERY)
def test_the_published_number_of_parameters(scheme: str, size: str) -> None:
    arguments = {**published(scheme, size).arguments, "architecture": scheme, "classes": [str(n) for n in range(80)]}
    with torch.device("meta"):
        task = DetectionTask(**arguments)
    norms = sum(b.numel() for k, b in task.network.named_buffers() if k.endswith(("weight", "bias")))  # frozen ones
    count = sum(parameter.numel() for parameter in task.network.parameters()) + norms
    assert round(count / 1e6) == pytest.approx(MILLIONS[size], abs=1)
