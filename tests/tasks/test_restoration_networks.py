"""The networks of restoration: published sizes, what they see and give, training, and graphs of any size."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tasks.restoration.body import Body
from tasks.restoration.context_encoder import ContextEncoder
from tasks.restoration.deep_deblur import DeepDeblur
from tasks.restoration.drunet import DRUNet
from tasks.restoration.ffdnet import FFDNet
from tasks.restoration.nafnet import NAFNet
from tasks.restoration.partial_convolution import PartialConvolution, PartialConvolutionUNet
from tasks.restoration.timm_unet import TimmUNet

_THIN = (16, 16, 8, 8, 8)

TINY = {
    "ffdnet": lambda c=3: FFDNet(c, 12, 4),
    "ffdnet with norms": lambda c=3: FFDNet(c, 12, 4, batch_norm=True),
    "drunet": lambda c=3: DRUNet(c, (8, 12, 16), 1),
    "nafnet": lambda c=3: NAFNet(c, 8, (1, 1), 1, (1, 1)),
    "nafnet with local means": lambda c=3: NAFNet(c, 8, (1, 1), 1, (1, 1), pool=12),
    "nafnet with a mask": lambda c=3: NAFNet(c, 8, (1, 1), 1, (1, 1), condition="mask"),
    "deep_deblur": lambda c=3: DeepDeblur(c, 8, 1),
    "partial_convolution": lambda c=3: PartialConvolutionUNet(c, 8, 2),
    "context_encoder": lambda c=3: ContextEncoder(c, 32, 8),
    "unet on test_resnet": lambda c=3: TimmUNet(c, "test_resnet", _THIN),
    "unet on test_convnext": lambda c=3: TimmUNet(c, "test_convnext", _THIN),
    "unet on test_vit": lambda c=3: TimmUNet(c, "test_vit", _THIN, window=32),
    "unet with a noise level": lambda c=3: TimmUNet(c, "test_resnet", _THIN, condition="noise_level"),
}


def tiny(name: str, channels: int = 3) -> Body:
    torch.manual_seed(0)
    return TINY[name](channels)


def moved(body: Body) -> Body:
    """As if trained a little: scales that begin at 0 let nothing through."""
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape))
    return body


def shown(body: Body, height: int = 32, width: int = 32, channels: int = 3, batch: int = 2):
    """Images, and what the network takes beside them."""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(batch, channels, height, width, generator=generator)
    if body.condition is None:
        return image, None
    if body.condition == "noise_level":
        return image, torch.full((batch, 1, height, width), 0.1)
    mask = torch.zeros(batch, 1, height, width)
    mask[..., height // 4 : height // 2, width // 4 : width // 2 + 3] = 1
    return image, mask


def count(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


# ---------------------------------------------------------------------- sizes as published


def conv(before: int, after: int, kernel: int = 3, bias: bool = True) -> int:
    return before * after * kernel * kernel + (after if bias else 0)


def test_ffdnet_has_the_published_size():
    def own(channels, width, depth):
        ends = conv(4 * channels + 1, width) + conv(width, 4 * channels)
        return ends + (depth - 2) * conv(width, width)

    assert count(FFDNet(1, 64, 15)) == own(1, 64, 15) == 485_316
    assert count(FFDNet(3, 96, 12)) == own(3, 96, 12) == 852_108
    assert count(FFDNet(1, 64, 15, batch_norm=True)) == 485_316 + 13 * 64  # two of a norm in place of one bias


def test_drunet_has_the_published_size():
    widths = (64, 128, 256, 512)
    inner = sum(times * 4 * 2 * conv(n, n, bias=False) for n, times in zip(widths, (2, 2, 2, 1), strict=True))
    inner += sum(2 * conv(a, b, 2, bias=False) for a, b in pairwise(widths))
    for channels, published in ((1, 32_638_656), (3, 32_640_960)):
        ends = conv(channels + 1, 64, bias=False) + conv(64, channels, bias=False)
        with torch.device("meta"):
            assert count(DRUNet(channels)) == inner + ends == published


@pytest.mark.parametrize(
    ("encoder", "middle", "decoder", "millions"),
    [((1, 1, 1, 28), 1, (1, 1, 1, 1), 17.1), ((2, 2, 4, 8), 12, (2, 2, 2, 2), 29.16)],
)
def test_nafnet_has_the_published_size(encoder, middle, decoder, millions):
    def block(n):
        first = 2 * n + conv(n, 2 * n, 1) + 2 * n * 10 + conv(n, n, 1) + conv(n, n, 1) + n
        return first + 2 * n + conv(n, 2 * n, 1) + conv(n, n, 1) + n

    own = conv(3, 32) + conv(32, 3) + middle * block(512)
    for level, blocks in enumerate(encoder):
        own += (blocks + decoder[-1 - level]) * block(32 << level)
        own += conv(32 << level, 64 << level, 2) + conv(64 << level, 128 << level, 1, bias=False)
    with torch.device("meta"):
        assert count(NAFNet(3, 32, encoder, middle, decoder)) == own
    assert own / 1e6 == pytest.approx(millions, abs=0.05)


def test_deep_deblur_has_the_papers_layers_and_size():
    with torch.device("meta"):
        body = DeepDeblur()
    one = 19 * 2 * conv(64, 64, 5) + conv(64, 3, 5)
    own = 3 * one + conv(3, 64, 5) + 2 * conv(6, 64, 5) + 2 * conv(3, 12, 5)
    assert count(body) == own == 11_721_321
    layers = [each for each in body.modules() if isinstance(each, nn.Conv2d)]
    assert len(layers) == 120 + 2, "120 of the paper and two that enlarge"


def test_partial_convolution_unet_has_the_size_of_its_papers_table():
    rows = [(3, 64, 7), (64, 128, 5), (128, 256, 5), (256, 512, 3), *[(512, 512, 3)] * 4]
    rows += [*[(1024, 512, 3)] * 4, (768, 256, 3), (384, 128, 3), (192, 64, 3), (67, 3, 3)]
    own = sum(conv(*row, bias=False) for row in rows) + 2 * sum(after for _, after, _ in rows[1:-1]) + 64 + 3
    with torch.device("meta"):
        assert count(PartialConvolutionUNet()) == own == 32_859_796


def test_context_encoder_has_the_size_of_its_layers():
    places, width = 4 * 4, 64
    own = sum(
        conv(a, b, kernel, bias=False) + 2 * b
        for a, b, kernel in ((4, 64, 11), (64, 192, 5), (192, 384, 3), (384, 256, 3), (256, 256, 3))
    )
    own += 256 * (places * places + places) + conv(256, 256, 1)
    own += sum(conv(a, b, 4, bias=False) + 2 * b for a, b in ((256, 128), (128, 64), (64, 64), (64, 32)))
    assert count(ContextEncoder(3, 128, width)) == own + conv(32, 3, 4) == 3_369_795


# ---------------------------------------------------------------------- what holds for all of them


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", TINY)
def test_every_network_gives_images_and_trains_every_weight(name, channels):
    body = moved(tiny(name, channels))
    for factor in (1, 3):  # 32x48 or more, as often as the divisor
        height, width = (-(-side // body.divisor) * body.divisor for side in (32, 16 * factor))
        image, condition = shown(body, height, width, channels)
        out, coarser = body.scales(image, condition)
        assert out.shape == image.shape and out.isfinite().all()
    terms = [each.square().mean() for each in (out, *coarser)]
    torch.stack(terms).sum().backward()
    dead = [key for key, each in body.named_parameters() if each.grad is None or not each.grad.abs().sum() > 0]
    assert not dead
    assert all(each.grad.isfinite().all() for each in body.parameters())
    body.eval()
    assert torch.equal(body(image, condition), body.scales(image, condition)[0])


@pytest.mark.parametrize("name", [name for name in TINY if " with " not in name or "norms" in name])
def test_every_network_overfits_one_image(name):
    body = tiny(name)
    side = min(body.divisor, 32) if body.divisor > 16 else 16
    image, condition = shown(body, side, side)
    clean = F.interpolate(image[:, :, ::4, ::4], size=image.shape[-2:], mode="bilinear")
    given = 0.5 * clean + 0.2 * (image - 0.5)
    optimizer = torch.optim.Adam(body.parameters(), 5e-3)
    losses = []
    for _ in range(30):
        out, coarser = body.scales(given, condition)
        loss = F.mse_loss(out, clean) + sum(
            F.mse_loss(each, F.avg_pool2d(clean, side // each.shape[-1])) for each in coarser
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-5:]) < 0.3 * losses[0], (losses[0], losses[-1])


QUICK_GRAPHS = ("context_encoder", "partial_convolution")  # resizing and constant kernels; the others take longer


@pytest.mark.parametrize(
    "name", [each if each in QUICK_GRAPHS else pytest.param(each, marks=pytest.mark.slow) for each in TINY]
)
def test_graphs_of_any_size_equal_torch(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    body = moved(tiny(name)).eval()
    inputs = [each for each in shown(body, 64, 64) if each is not None]
    free = {0: torch.export.Dim("batch", min=1, max=1 << 16), 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    path = tmp_path / "model.onnx"
    with torch.no_grad():
        shapes = tuple(dict(free) for _ in inputs)
        program = torch.onnx.export(body, tuple(inputs), dynamo=True, dynamic_shapes=shapes, verbose=False)
        program.save(str(path))
        image, condition = shown(body, 32, 96, batch=3)
        wanted = body(image, condition).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    given = [each.numpy() for each in (image, condition) if each is not None]
    (found,) = session.run(None, dict(zip(names, given, strict=True)))
    assert np.abs(found - wanted).max() < 1e-4


# ---------------------------------------------------------------------- what is particular


def test_a_condition_decides_what_networks_give():
    for name in ("ffdnet", "drunet", "unet with a noise level"):
        body = tiny(name)
        image, level = shown(body)
        assert (body(image, level) - body(image, 3 * level)).abs().max() > 1e-3


def test_drunet_scales_with_the_image():
    body = tiny("drunet")
    image, level = shown(body)
    assert torch.allclose(body(3 * image, 3 * level), 3 * body(image, level), atol=1e-5)


def test_local_means_are_those_of_the_square_around_every_place():
    image = torch.rand(1, 3, 24, 40)
    body = moved(NAFNet(3, 8, (1,), 1, (1,), pool=6)).eval()
    mean = body.encoder[0][0].attention[0]
    x = torch.rand(1, 8, 24, 40)
    for (row, column), (rows, columns) in {(12, 20): ((9, 15), (17, 23)), (0, 39): ((0, 3), (36, 40))}.items():
        wanted = x[..., slice(*rows), slice(*columns)].mean((2, 3))
        assert torch.allclose(mean(x)[..., row, column], wanted, atol=1e-5)
    whole = moved(NAFNet(3, 8, (1,), 1, (1,), pool=200)).eval()
    bare = NAFNet(3, 8, (1,), 1, (1,)).eval()
    bare.load_state_dict(whole.state_dict())
    with torch.no_grad():
        assert torch.allclose(whole(image), bare(image), atol=1e-5), "a square that holds all of the image"
        assert not torch.allclose(body(image), body.train()(image), atol=1e-5)


def test_coarser_images_are_the_finest_first():
    body = tiny("deep_deblur")
    out, coarser = body.scales(torch.rand(1, 3, 32, 48))
    assert [tuple(each.shape[-2:]) for each in (out, *coarser)] == [(32, 48), (16, 24), (8, 12)]


def test_partial_convolution_is_the_papers_formula():
    """The output is w (x * m) sum(1) / sum(m) + b where anything is known, and 0 elsewhere."""
    torch.manual_seed(0)
    layer = PartialConvolution([2, 3], 4, 3, stride=2, bias=True)
    layer.bias.data.normal_()
    a, b = torch.randn(1, 2, 8, 8), torch.randn(1, 3, 8, 8)
    first, second = torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    first[..., 2:, 2:], second[..., :2, 5:] = 0, 1
    first[..., 3, 3] = 1
    out, known = layer([a, b], [first, second])
    full = torch.cat([first.expand(1, 2, 8, 8), second.expand(1, 3, 8, 8)], 1)
    amount = F.conv2d(full, torch.ones(1, 5, 3, 3), stride=2, padding=1)
    plain = F.conv2d(torch.cat([a, b], 1) * full, layer.conv.weight, stride=2, padding=1)
    wanted = torch.where(amount > 0, plain * 45 / amount.clamp(min=1) + layer.bias, 0.0)
    assert torch.allclose(out, wanted, atol=1e-5)
    assert torch.equal(known, (amount > 0).float()) and 0 < known.mean() < 1


@pytest.mark.parametrize("name", ["partial_convolution", "context_encoder"])
def test_what_lies_under_the_mask_is_not_seen(name):
    body = moved(tiny(name)).eval()
    image, mask = shown(body, 64, 64)
    other = torch.where(mask > 0, torch.rand_like(image), image)
    assert torch.equal(body(image, mask), body(other, mask))
    changed = image.clone()
    changed[..., 0, 0] += 1
    assert not torch.equal(body(image, mask), body(changed, mask))


def test_a_constant_image_is_seen_alike_around_every_hole():
    """Partial convolutions normalize by what is known, so a hole in a flat image leaves no trace in the first layer."""
    layer = PartialConvolutionUNet(3, 8, 3).encoder[0].conv
    mask = torch.ones(1, 1, 32, 32)
    mask[..., 10:14, 8:20] = 0
    features, known = layer([torch.full((1, 3, 32, 32), 0.4) * mask], [mask])
    assert known.all()
    flat = layer.conv.weight.sum((2, 3)) @ torch.full((3,), 0.4)
    inner, outer = features[0, :, 7, 2], features[0, :, 6, 6]
    assert torch.allclose(inner, flat, atol=1e-5)
    assert not torch.allclose(outer, flat, atol=1e-3), "which pixels are known decides, not that all are"


def test_frozen_encoder_norms_stay():
    body = PartialConvolutionUNet(3, 8, 3, freeze_encoder_norm=True).train()
    norms = [each for each in body.encoder.modules() if isinstance(each, nn.BatchNorm2d)]
    before = [each.running_mean.clone() for each in norms]
    body(*shown(body)).mean().backward()
    assert norms and all(torch.equal(a, b.running_mean) for a, b in zip(before, norms, strict=True))
    assert all(each.weight.grad is None for each in norms)
    decoder = [each for each in body.decoder.modules() if isinstance(each, nn.BatchNorm2d)]
    assert decoder and all(each.running_mean.abs().sum() > 0 for each in decoder)


def test_a_backbone_of_one_size_sees_windows():
    body = moved(tiny("unet on test_vit")).eval()
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        features = body._windowed((image - body.mean) / body.std, 32)
        alone = body.backbone((image[..., 32:64, 64:96] - body.mean) / body.std)
    for stride, map_ in alone.pyramid.items():
        rows, columns = slice(32 // stride, 64 // stride), slice(64 // stride, 96 // stride)
        assert torch.allclose(features.pyramid[stride][..., rows, columns], map_, atol=1e-5)


def test_arguments_that_cannot_be_are_refused():
    for build, reason in (
        (lambda: NAFNet(encoder=(1, 1), decoder=(1,)), "give as many to both"),
        (lambda: NAFNet(pool=0), "at least 1"),
        (lambda: ContextEncoder(size=100), "multiple of 32"),
    ):
        with pytest.raises(ValueError, match=reason):
            build()
