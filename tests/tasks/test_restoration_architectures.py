"""Every architecture of restoration in its task: inputs, training, tiles, and what checkpoints keep."""

import numpy as np
import pytest
import torch

from tasks.restoration import RestorationTask
from visionkit.checkpoint import load_task, save_bundle
from visionkit.errors import UsageError
from visionkit.export import export_bundle
from visionkit.predictor import Predictor, load

TINY = {
    "nafnet": {"width": 4, "encoder": [1], "middle": 1, "decoder": [1]},
    "dncnn": {"width": 4, "depth": 3},
    "ffdnet": {"width": 4, "depth": 3},
    "drunet": {"widths": [4, 8], "blocks": 1},
    "deep_deblur": {"width": 4, "blocks": 1, "levels": 2},
    "partial_convolution": {"width": 4, "levels": 2},
    "context_encoder": {"size": 32, "width": 8},
    "timm_unet": {"backbone": "test_resnet", "decoder": [8, 8, 4, 4, 4]},
    "deconvolution": {"maps": 3, "side": 9, "width": 4},
}
WHOLE = {"nafnet", "context_encoder"}
"""Those that see the whole image."""


def build(name, **arguments):
    torch.manual_seed(0)
    task = RestorationTask(name, **{name: TINY[name] | arguments})
    with torch.no_grad():  # as if trained a little
        for parameter in task.network.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape))
    return task


def given(task, height, width):
    """The inputs of one image, as a predictor is called with them."""
    rng = np.random.default_rng(0)
    inputs = {"image": rng.integers(0, 256, (height, width, 3), dtype=np.uint8)}
    if "noise_level" in task.inputs:
        inputs["noise_level"] = np.full((height, width, 3), 25, np.uint8)
    if "mask" in task.inputs:
        inputs["mask"] = np.zeros((height, width, 3), np.uint8)
        inputs["mask"][height // 3 : height // 2, 10 : width // 2] = 255
    return inputs


def test_all_architectures_are_here():
    assert set(RestorationTask.architectures) == {*TINY, "spandrel"}, "which is of a file, and has its own tests"


@pytest.mark.parametrize("name", TINY)
def test_images_of_any_size_are_served_and_stored(name, tmp_path):
    task = build(name).eval()
    inputs = given(task, 37, 50)  # no multiple of anything
    prediction = Predictor(task)(inputs)
    assert prediction.pixels.shape == (37, 50, 3) and prediction.pixels.std() > 1
    if "mask" in inputs:
        known = inputs["mask"][..., 0] == 0
        assert np.array_equal(prediction.pixels[known], inputs["image"][known])
    save_bundle(task, tmp_path / "bundle", card={})
    again = Predictor(load_task(tmp_path / "bundle"))(inputs)
    assert np.array_equal(again.pixels, prediction.pixels)


@pytest.mark.parametrize("name", TINY)
def test_tiles_are_those_of_the_whole_image(name):
    task = build(name).eval()
    if name in WHOLE:
        assert task.reach.halo is None
        return
    halo, ours = task.reach.halo, Predictor(task)
    assert halo is not None and halo % task.network.body.divisor == 0
    if halo > 64:  # takes seconds
        return
    inputs = given(task, 2 * halo + 64, 2 * halo + 87)
    whole, tiled = (ours(inputs, tile=tile).pixels.astype(int) for tile in (0, 2 * halo + 24))
    assert np.abs(whole - tiled).max() <= 1 and (whole != tiled).mean() < 1e-3  # 1e-5 may fall on either side of a half
    wrong = ours.task._reach = type(task.reach)(task.network.body.divisor, task.network.body.divisor)
    near = ours(inputs, tile=2 * wrong.halo + 24).pixels.astype(int)
    assert (near != whole).mean() > 1e-3 or halo == wrong.halo, "with less around them tiles differ"


def test_a_backbone_with_squeeze_and_excitation_sees_the_whole_image():
    """Its gates are wide open with positive weights, and what they are computed from is seen all the same."""
    for backbone in ("mobilenetv3_small_050", "test_efficientnet"):
        assert build("timm_unet", backbone=backbone, decoder=[4, 4, 4, 4, 4]).reach.halo is None


@pytest.mark.parametrize("name", TINY)
def test_losses_reach_every_weight(name):
    task = build(name).train()
    side = -(-32 // task.network.body.divisor) * task.network.body.divisor
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    beside = [torch.full((2, 3, side, side), 25, dtype=torch.uint8) for each in task.inputs[1:]]
    if "mask" in task.inputs:
        beside[0][:] = 0
        beside[0][..., 8:20, 8:20] = 255
    terms = task.losses(task(images, *beside), {"clean": images})
    sum(terms.values()).backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in task.network.parameters())


def test_a_condition_can_be_chosen():
    for name in ("nafnet", "timm_unet"):
        assert build(name).inputs == ("image",)
        for condition in ("mask", "noise_level"):
            task = build(name, condition=condition).eval()
            assert task.inputs == ("image", condition)
            Predictor(task)(given(task, 40, 40))
    with pytest.raises(UsageError, match="condition"):
        build("nafnet", condition="depth")


def test_a_checkpoint_fetches_no_weights():
    assert (
        RestorationTask.architectures.choose("timm_unet", {"timm_unet": {"pretrained": True}}).stored().pretrained
        is False
    )


def test_mistakes_in_arguments_are_usage_errors():
    for name, wrong, reason in (
        ("context_encoder", {"size": 100}, "multiple of 32"),
        ("nafnet", {"encoder": [1, 1]}, "give as many to both"),
        ("timm_unet", {"backbone": "resnet19"}, "did you mean"),
    ):
        with pytest.raises(UsageError, match=reason):
            build(name, **wrong)


@pytest.mark.slow
def test_a_backbone_is_exported_for_images_of_any_size(tmp_path):
    task = build("timm_unet").eval()
    export_bundle(task, tmp_path / "bundle", onnx=True, card={}, images=[given(task, 70, 90)])
    for size in ((37, 50), (96, 64)):
        ours, graph = (load(tmp_path / "bundle", engine=engine)(given(task, *size)) for engine in ("torch", "onnx"))
        assert np.abs(ours.pixels.astype(int) - graph.pixels).max() <= 1
