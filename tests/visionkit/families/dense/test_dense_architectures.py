"""Dense architectures: equal to segmentation-models-pytorch's own models, on every type of backbone, at odd sizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tasks.depth import DepthTask
from tasks.semantic_segmentation import SemanticSegmentationTask
from tests.thrifty import covering
from visionkit.backbones import declared_strides
from visionkit.errors import UsageError
from visionkit.families.dense.architectures.fcn import enlarging
from visionkit.families.dense.architectures.fpn import FPN
from visionkit.families.dense.network import DenseNetwork, continued

SMP = {
    "unet": "Unet",
    "fpn": "FPN",
    "pspnet": "PSPNet",
    "deeplabv3plus": "DeepLabV3Plus",
    "upernet": "UPerNet",
    "segformer": "Segformer",
}
ACCEPTED = ("resnet18", "convnext_atto", "mobilenetv3_small_050", "efficientnet_b0")
SMALL = {
    "unet": {"channels": (16, 16, 8, 8, 8)},
    "fpn": {"pyramid_channels": 16, "channels": 64},
    "pspnet": {"channels": 16},
    "deeplabv3plus": {"channels": 16},
    "upernet": {"channels": 16},
    "segformer": {"channels": 16},
    "dpt": {"channels": 16, "intermediate_channels": (8, 8, 16, 16)},
    "fcn": {},
}
SWIN = "swin_tiny_patch4_window7_224"
FAMILIES = ("test_resnet", "test_convnext", "test_vit", "mobilenetv3_small_050", "test_efficientnet", SWIN)
# timm cannot dilate them, so DeepLabV3+ needs its output_stride 32 there.
REFUSED = {("deeplabv3plus", SWIN), ("deeplabv3plus", "mobilenetv3_small_050")}


def chosen(name, **options):
    return SemanticSegmentationTask.architectures.choose(name, {name: options})


def small(name, **options):
    return chosen(name, **SMALL[name], **options)


def carry(source, target):
    """Copies the weights and statistics of one network into another of the same layers, in the order they are made.

    Stages at the end of smp's encoders that nothing depends on are left out of ours.
    """
    ours, theirs = (
        [value for value in module.state_dict().values() if value.dtype.is_floating_point]
        for module in (target, source)
    )
    assert [value.shape for value in ours] == [value.shape for value in theirs[: len(ours)]]
    with torch.no_grad():
        for a, b in zip(ours, theirs, strict=False):
            a.copy_(b)


def count(module):
    return sum(p.numel() for p in module.parameters())


def count_used(model, image):
    """Weights that the output depends on."""
    model.train()(image).sum().backward()
    used = sum(p.numel() for p in model.parameters() if p.grad is not None)
    model.zero_grad()
    return used


@pytest.mark.parametrize(("name", "encoder"), covering(list(SMP), ACCEPTED))
def test_weights_and_output_equal_smps_own_model(name, encoder):
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    arguments = {"encoder_weights": None, "classes": 5}
    try:
        theirs = getattr(smp, SMP[name])(f"tu-{encoder}", **arguments)
    except (ValueError, RuntimeError, TypeError, KeyError, NotImplementedError):
        pytest.skip(f"smp's own {name} refuses {encoder}")
    if (name, encoder) in REFUSED:
        pytest.skip("smp dilates a stripped MobileNetV3, timm's whole one cannot be")
    ours = DenseNetwork.build(encoder, chosen(name), 5)
    image = torch.randn(2, 3, 96, 64)
    assert count(ours) == count_used(theirs, image)
    carry(theirs.encoder.model, ours.backbone.model)
    carry(theirs.decoder, ours.decoder.decoder)
    carry(theirs.segmentation_head, ours.head)
    with torch.inference_mode():
        assert torch.allclose(ours.eval()(image), theirs.eval()(image), atol=1e-5)


def test_dpt_equals_smps_on_a_plain_transformer():
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    theirs = smp.DPT("tu-vit_tiny_patch16_224", encoder_weights=None, classes=5)
    ours = DenseNetwork.build("vit_tiny_patch16_224", chosen("dpt"), 5, image_size=(224, 224))
    carry(theirs.decoder, ours.decoder.decoder)
    carry(theirs.segmentation_head, ours.head)
    assert count(ours.decoder) == count(theirs.decoder) and count(ours.head) == count(theirs.segmentation_head)
    missing, _ = ours.backbone.model.load_state_dict(theirs.encoder.model.state_dict(), strict=False)
    assert not missing, "only what nothing depends on (final norm, classifier) is left out"
    image = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(ours.eval()(image), theirs.eval()(image), atol=1e-5)


@pytest.mark.parametrize(("name", "family"), covering(list(SMALL), FAMILIES, keep=[("dpt", "test_vit")]))
def test_every_decoder_on_every_family_at_odd_sizes(name, family):
    if (name, family) in REFUSED:
        with pytest.raises(UsageError, match=r"give it output_stride 32, or another backbone: .* it takes none"):
            chosen(name).needs(family)
    torch.manual_seed(0)
    size = (65, 47)
    architecture = small(name, **({"output_stride": 32} if (name, family) in REFUSED else {}))
    network = DenseNetwork.build(family, architecture, 3, image_size=size).train()
    prediction = network(torch.randn(2, 3, *size))
    assert prediction.shape == (2, 3, *size)
    prediction.square().mean().backward()
    without = [key for key, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, "an unused parameter stops distributed training"
    assert sum(float(p.grad.abs().sum()) for p in network.backbone.parameters() if p.grad is not None) > 0

    coarse = DenseNetwork(network.backbone, network.decoder, network.head, full_size=False).eval()
    height, width = coarse.canvas(size)
    with torch.inference_mode():
        shape = coarse(torch.randn(1, 3, *size)).shape
    assert shape == (1, 3, height // coarse.stride, width // coarse.stride)


def test_patches_of_14_come_back_at_the_images_size():
    for name in ("fpn", "dpt"):
        network = DenseNetwork.build(
            "vit_small_patch14_dinov2", small(name), 2, image_size=(70, 50), full_size=False
        ).eval()
        assert network.stride == 1
        with torch.inference_mode():
            assert network(torch.randn(1, 3, 70, 50)).shape == (1, 2, 70, 50)


def test_flipped_borders_are_cut_back_and_change_the_border_alone():
    torch.manual_seed(0)
    plain = DenseNetwork.build("test_resnet", small("unet"), 2).eval()
    flipped = DenseNetwork.build("test_resnet", small("unet"), 2, reflect_padding=40).eval()
    flipped.load_state_dict(plain.state_dict())
    assert flipped.reflect_padding == 64, "rounded up to what the network needs"
    image = torch.randn(1, 3, 320, 320)
    with torch.inference_mode():
        a, b = plain(image), flipped(image)
    assert b.shape == a.shape
    assert not torch.allclose(a[..., :8, :8], b[..., :8, :8], atol=1e-3)
    assert torch.allclose(a[..., 140:180, 140:180], b[..., 140:180, 140:180], atol=1e-5)


def test_continued_is_a_reflection_at_any_size():
    image = torch.arange(15.0).view(1, 1, 3, 5)
    assert torch.equal(continued(image, 1, 2), F.pad(image, (2, 2, 2, 2), mode="reflect"))
    assert continued(image, 8).shape == (1, 1, 8, 8)
    assert torch.equal(continued(image, 8)[..., :3, :5], image)
    assert torch.equal(continued(torch.full((1, 1, 1, 1), 7.0), 32), torch.full((1, 1, 32, 32), 7.0))
    assert continued(image, 1) is image


def test_enlarging_begins_as_bilinear():
    image = torch.randn(1, 3, 6, 7)
    for factor in (2, 4, 8):
        for mixed in (True, False):
            with torch.inference_mode():
                got = enlarging(3, factor, mixed)(image)
            wanted = F.interpolate(image, scale_factor=factor, mode="bilinear", align_corners=False)
            assert torch.allclose(
                got[..., factor:-factor, factor:-factor], wanted[..., factor:-factor, factor:-factor], atol=1e-6
            )


@pytest.mark.parametrize(
    ("name", "backbone", "options", "message"),
    [
        ("unett", "test_resnet", {}, "did you mean"),
        ("unet", "test_resnet", {"width": 3}, "architecture unet has no such argument; it has channels"),
        ("unet", "resnet999", {}, "neither timm nor"),
        ("fpn", "lenet5", {}, "needs maps of strides 4, 8, 16, 32 and backbone 'lenet5' has"),
        ("deeplabv3plus", "test_resnet", {"output_stride": 7}, "allowed are 8, 16, 32"),
        ("deeplabv3plus", SWIN, {}, "refuses output_stride 16"),
        ("fcn", "test_resnet", {"finest": 3}, "allowed are 4, 8, 16, 32"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(name, backbone, options, message):
    with pytest.raises(UsageError, match=message):
        chosen(name, **options).needs(backbone)


def test_more_refusals_when_built():
    with pytest.raises(UsageError, match="as many numbers"):
        DenseNetwork.build("test_resnet", chosen("unet", channels=(8, 8)), 2)
    with pytest.raises(UsageError, match=r"model.fpn.merge: .* is not one of add, cat"):
        chosen("fpn", merge="maximum")
    with pytest.raises(UsageError, match=r"architecture fpn: .*merge_policy"):
        DenseNetwork.build("test_resnet", FPN(merge="maximum"), 2)
    with pytest.raises(UsageError, match="multiples of 32 from 64 on"):
        chosen("fpn", channels=32)
    with pytest.raises(UsageError, match="built for one size"):
        DenseNetwork.build("vit_tiny_patch16_224", chosen("fpn"), 2)
    with pytest.raises(UsageError, match="batch of one"):
        DenseNetwork.build("test_resnet", small("upernet"), 2).train()(torch.randn(1, 3, 64, 64))
    backbone_of_others = DenseNetwork.build("test_resnet", small("pspnet"), 2).backbone
    with pytest.raises(UsageError, match="not built with"):
        chosen("fpn").build(backbone_of_others, 2)


def test_every_dense_task_has_every_one():
    assert dict(SemanticSegmentationTask.architectures) == dict(DepthTask.architectures)
    assert set(SemanticSegmentationTask.architectures) == set(SMALL)
    for name, kind in DepthTask.architectures.items():
        assert kind.name == name


def test_strides_are_known_before_anything_is_built():
    assert declared_strides("resnet18") == (2, 4, 8, 16, 32)
    assert max(declared_strides("resnet18", 16)) == 16
    assert chosen("dpt").needs("vit_tiny_patch16_224").taps == 4
    assert chosen("unet").needs("convnext_atto").strides == (4, 8, 16, 32)
    assert chosen("deeplabv3plus").needs("resnet18").output_stride == 16
