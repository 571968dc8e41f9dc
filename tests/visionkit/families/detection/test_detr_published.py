"""D-FINE and RT-DETRv2 beside transformers' implementations, with random weights on both sides."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tasks.detection import DetectionTask
from visionkit.checkpoint import load_task
from visionkit.errors import CheckpointError, EnvironmentFault, UsageError
from visionkit.families.detection.boxes import Objects
from visionkit.families.detection.detr.distribution import offset_bins
from visionkit.families.detection.detr.loss import Counts, Stages, stage_losses
from visionkit.families.detection.detr.matching import MatchWeights, corners_of, match_queries
from visionkit.families.detection.detr.published import (
    authors_names,
    fetch_published,
    read_published,
    rename,
    with_published,
)
from visionkit.warm_start import take_weights

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


def port() -> Any:
    """The library that is compared with, where it is installed."""
    return pytest.importorskip("transformers")


def published(scheme: str, size: str) -> Any:
    return DetectionTask.architectures[scheme].public[size]


def theirs(scheme: str, size: str, **changes: Any) -> Any:
    """Transformers' model of a published size."""
    transformers = port()
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


NAMES = {
    "backbone.stages.1.blocks.0.layers.2.conv.weight": "backbone.model.stages.1.blocks.0.layers.2.conv.weight",
    "backbone.conv1.conv1_2.norm.bias": "backbone.model.conv1.4.bias",
    "backbone.conv1.conv1_3.norm.bias": "backbone.model.bn1.bias",
    "backbone.res_layers.2.blocks.1.branch2c.norm.weight": "backbone.model.layer3.1.bn3.weight",
    "backbone.res_layers.0.blocks.0.short.conv.weight": "backbone.model.layer1.0.downsample.1.weight",
    "backbone.res_layers.1.blocks.0.short.conv.norm.weight": "backbone.model.layer2.0.downsample.2.weight",
    "encoder.input_proj.2.norm.weight": "encoder.inputs.2.norm.weight",
    "encoder.encoder.0.layers.0.self_attn.in_proj_weight": "encoder.attention.attention.in_proj_weight",
    "encoder.encoder.0.layers.0.linear2.bias": "encoder.attention.linear2.bias",
    "encoder.fpn_blocks.0.cv2.0.conv1.norm.bias": "encoder.top_down.0.stages.0.0.main.norm.bias",
    "encoder.pan_blocks.0.bottlenecks.1.conv2.norm.bias": "encoder.bottom_up.0.blocks.1.narrow.norm.bias",
    "encoder.pan_blocks.1.cv3.1.conv.weight": "encoder.bottom_up.1.stages.1.1.conv.weight",
    "encoder.fpn_blocks.1.conv2.conv.weight": "encoder.top_down.1.shortcut.conv.weight",
    "encoder.downsample_convs.0.0.cv2.conv.weight": "encoder.downsamples.0.1.conv.weight",
    "encoder.downsample_convs.1.norm.bias": "encoder.downsamples.1.norm.bias",
    "decoder.decoder.layers.2.cross_attn.sampling_offsets.bias": "decoder.layers.2.sampling.offsets.bias",
    "decoder.decoder.layers.0.gateway.norm.bias": "decoder.layers.0.join.norm.bias",
    "decoder.decoder.layers.0.norm2.bias": "decoder.layers.0.join.bias",
    "decoder.decoder.layers.0.norm3.bias": "decoder.layers.0.norm2.bias",
    "decoder.decoder.lqe_layers.1.reg_conf.layers.1.weight": "decoder.quality_heads.1.mlp.2.weight",
    "decoder.dec_bbox_head.1.layers.2.weight": "decoder.corner_heads.1.4.weight",
    "decoder.enc_output.norm.bias": "selection.1.bias",
}  # fmt: skip


def test_the_authors_names_are_ours() -> None:
    """Some of each kind; constants are left out."""
    state = {name: torch.zeros(1) for name in (*NAMES, "decoder.up", "decoder.anchors", "decoder.decoder.reg_scale")}
    assert list(rename(state)) == list(NAMES.values())
    alone = rename({"decoder.dec_bbox_head.1.layers.2.weight": torch.zeros(1)})
    assert list(alone) == ["decoder.box_heads.1.4.weight"], "RT-DETR has no distributions"


def old_port(name: str) -> str:
    """Transformers' name of a weight as the files on Hugging Face have it, from before version 5."""
    for new, old in (
        (".aifi.", ".encoder."),
        (".mlp.layers.0.", ".fc1."),
        (".mlp.layers.1.", ".fc2."),
        (".mlp.fc", ".fc"),
        (".self_attn.o_proj.", ".self_attn.out_proj."),
    ):
        name = name.replace(new, old)
    return name


@pytest.mark.parametrize("scheme, size", QUICK)
def test_weights_are_read_from_all_forms_of_files(scheme: str, size: str, monkeypatch, tmp_path) -> None:
    """The authors' files with and without a moving average, and the ports of old and new names in their cache."""
    from safetensors.torch import save_file

    reference = with_opinions(theirs(scheme, size)).state_dict()
    wanted = rename(reference)
    constants = {"decoder.anchors": torch.zeros(1, 3, 4), "decoder.valid_mask": torch.ones(1, 3, 1)}
    authors = {**authors_names(reference), **constants}
    assert not set(authors) & set(wanted) - {"decoder.layers"}, "the test renames nothing"
    torch.save({"model": authors, "epoch": 3, "last_epoch": 3}, tmp_path / "a.pth")
    torch.save({"ema": {"module": authors, "updates": 3}, "model": {}}, tmp_path / "b.pth")
    tied = {old_port(k): v.contiguous() for k, v in reference.items() if not k.startswith("model.decoder.class_embed")}
    save_file({name: value.clone() for name, value in tied.items()}, tmp_path / "c.safetensors")
    for name in ("a.pth", "b.pth", "c.safetensors"):
        found = rename(read_published(tmp_path / name))
        assert found.keys() == wanted.keys(), name
        assert all(torch.equal(value, wanted[key]) for key, value in found.items()), name
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "a.pth").rename(tmp_path / "hub" / "checkpoints" / published(scheme, size).filename)
    task: Any = load_task(f"{scheme}:{size}")
    assert torch.equal(task.network.state_dict()["selection.0.weight"], wanted["selection.0.weight"])
    assert task.input.size == (640, 640) and task.limits.detections == 300 and len(task.classes) == 80
    assert task.normalize.mean == pytest.approx((0, 0, 0)) and task.normalize.std == pytest.approx((1, 1, 1))
    # Fine-tuning to other classes: all but what states a class is kept, and the pixels' scale too.
    arguments = {**task.config, "classes": ["cat"], "input": None}
    mine: Any = DetectionTask(**arguments)
    new = take_weights(mine, f"{scheme}:{size}")
    assert {name.split(".")[1] for name in new} == {"selection_classes", "decoder", "denoising_labels"}
    assert all("class" in name or "denoising_labels" in name for name in new)
    assert mine.normalize.mean == pytest.approx((0, 0, 0))
    assert torch.equal(mine.network.state_dict()["selection.0.weight"], wanted["selection.0.weight"])


def test_unknown_names_missing_files_and_foreign_weights_are_one_line(monkeypatch, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"dfine:xx: known are n, s, m, l, x"):
        load_task("dfine:xx")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    missing = (
        r"dfine:s: its public weights \(dfine_s_coco\.pth\) are not in the cache .*checkpoints and cannot be "
        r"downloaded: bring https://github\.com/.*/dfine_s_coco\.pth there, or ustc-community/dfine-small-coco into"
    )
    with pytest.raises(EnvironmentFault, match=missing):
        load_task("dfine:s")
    with pytest.raises(EnvironmentFault, match=r"rtdetr:r50m: .*rtdetrv2_r50vd_m_7x_coco_ema\.pth there \(HF_HUB"):
        fetch_published("rtdetr", "r50m", published("rtdetr", "r50m"))
    torch.save({"model": {"fc.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    state = read_published(tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not the weights of dfine:n: Missing key"):
        with_published(DetectionTask, "dfine", "n", published("dfine", "n"), state)
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="holds no weights of a detector"):
        read_published(tmp_path / "none.pth")
    (tmp_path / "torn.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="not a file of weights"):
        read_published(tmp_path / "torn.safetensors")


def test_every_term_of_the_loss_and_its_gradient_are_transformers() -> None:
    """Layer by layer, at the same matches.

    Their sum is another one than the paper's: boxes train on the matches of one stage in place of all, and neither the
    first boxes' terms nor the localization loss of the last layer are in it.
    """
    config = port().DFineConfig(num_labels=5, reg_scale=4.0)
    from transformers.loss.loss_d_fine import DFineLoss

    generator = torch.Generator().manual_seed(0)
    layers, queries, classes = 3, 12, 5

    def random(*shape: int) -> Tensor:
        return torch.randn(layers, 2, queries, *shape, generator=generator)

    logits, corners = random(classes).requires_grad_(), random(4 * 33).requires_grad_()
    boxes = (random(4).sigmoid() * 0.3 + 0.25).requires_grad_()
    first = random(4)[0].sigmoid() * 0.3 + 0.25
    objects = Objects(
        torch.rand(2, 3, 4, generator=generator) * 0.3 + 0.25,
        torch.tensor([[0, 4, 2], [3, 0, 0]]),
        torch.tensor([[True, True, True], [True, False, False]]),
    )
    targets = [
        {"class_labels": labels[valid], "boxes": own[valid]}
        for own, labels, valid in zip(objects.boxes, objects.labels, objects.valid, strict=True)
    ]
    judge = DFineLoss(config)
    stages = Stages(logits, boxes, corners, first)
    matched = match_queries(logits, boxes, objects, MatchWeights())
    wanted: dict[str, Tensor] = {}
    near = matched.stages[-1:].expand(layers, -1, -1)
    for layer in range(layers):
        outputs = {
            "logits": logits[layer],
            "pred_boxes": boxes[layer],
            "pred_corners": corners[layer],
            "ref_points": first,
            "teacher_corners": corners[-1],
            "teacher_logits": logits[-1].detach().clone(),
        }
        own = judge.matcher(outputs, targets)
        for image, (rows, columns) in enumerate(own):
            assert matched.stages[layer, image, rows].tolist() == columns.tolist()
            assert int((matched.stages[layer, image] >= 0).sum()) == len(rows)
        shared = judge.matcher({"logits": logits[-1], "pred_boxes": boxes[-1]}, targets)
        for loss in ("vfl", "boxes", "local"):
            for name, value in judge.get_loss(loss, outputs, targets, own if loss == "vfl" else shared, 4).items():
                wanted[name] = wanted.get(name, torch.zeros(())) + value * judge.weight_dict[name]
    four = torch.tensor(4)
    counts = Counts(four, four, four, torch.tensor(2 * queries - 4))
    found = stage_losses(stages, objects, matched.stages, near, counts, offset_bins(32, 4.0), 4.0)
    names = {"classes": "vfl", "boxes": "bbox", "giou": "giou", "corners": "fgl", "distillation": "ddf"}
    for name, their in names.items():
        assert found[name].item() == pytest.approx(wanted[f"loss_{their}"].item(), rel=1e-4), name
        assert found[name] > 1e-3
        parts = [
            torch.autograd.grad(each, (logits, boxes, corners), retain_graph=True, allow_unused=True)
            for each in (found[name], wanted[f"loss_{their}"])
        ]
        for mine, other in zip(*parts, strict=True):
            zero = torch.zeros(())
            assert torch.allclose(zero if mine is None else mine, zero if other is None else other, atol=1e-5), name
