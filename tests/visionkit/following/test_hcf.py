"""HCF: its scale, its maps, its search, and which models it sees by."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.classification.task import ClassificationTask
from tasks.super_resolution.task import SuperResolutionTask
from tests.visionkit.following.drawn_clips import clip, drawn, growing
from visionkit.backbones import Backbone
from visionkit.checkpoint import save_checkpoint
from visionkit.errors import CheckpointError, UsageError
from visionkit.following.features import FeatureMaps
from visionkit.following.gradients import gradient_histograms
from visionkit.following.hcf import Hcf, coarse_to_fine
from visionkit.following.scale_filter import ScaleFilter
from visionkit.following.visual_tracker import make_visual_tracker
from visionkit.following.windows import Window, gaussian_label, peak
from visionkit.geometry import InputSpec


@pytest.mark.parametrize("rate", [1.02, 0.975])
def test_a_change_of_scale_is_followed(rate: float) -> None:
    frames = clip(lambda t: growing(t, rate), 16)
    tracker = Hcf()
    tracker.begin(*frames[0])
    boxes = [tracker.update(frame).box for frame, _ in frames[1:]]
    widths = np.array([[box[2] - box[0], true[2] - true[0]] for box, (_, true) in zip(boxes, frames[1:], strict=True)])
    assert np.abs(widths[:, 0] / widths[:, 1] - 1).max() < 0.06
    assert not 0.85 < widths[-1, 0] / widths[0, 0] < 1.15  # it did change


def test_without_scales_the_size_stays() -> None:
    frames = clip(lambda t: growing(t, 1.02), 3)
    tracker = make_visual_tracker("hcf", {"scales": 1})
    tracker.begin(*frames[0])
    box = tracker.update(frames[2][0]).box
    assert box[2] - box[0] == pytest.approx(26)


def test_the_scale_filter_finds_a_ratio_between_its_steps() -> None:
    first, other = drawn(0, (32, 16, 96, 80)), drawn(1, (28, 12, 100, 84))
    scales = ScaleFilter((64, 64), (96, 128), 33, 1.02, 0.025)
    scales.begin(first, (64, 48))
    scales.estimate(first, (64, 48))
    assert scales.scale == pytest.approx(1, abs=0.01)
    scales.estimate(other, (64, 48))
    assert scales.scale == pytest.approx(72 / 64, abs=0.015)


def test_histograms_see_direction_and_no_brightness() -> None:
    ramp = np.tile(np.arange(16.0), (16, 1)) / 16
    images = np.stack([ramp, ramp * 0.5 + 0.4, ramp.T, ramp[:, ::-1]])
    histograms = gradient_histograms(images)
    assert histograms.shape == (4, 4, 4, 31)
    assert np.allclose(histograms[0], histograms[1], atol=1e-3)
    signed, unsigned = histograms[..., :18].mean((1, 2)), histograms[..., 18:27].mean((1, 2))
    assert [int(each.argmax()) for each in signed[[0, 2, 3]]] == [0, 4, 9]
    assert np.allclose(unsigned[0], unsigned[3]) and unsigned[0].argmax() != unsigned[2].argmax()


def test_maps_are_coarse_to_fine_of_any_network() -> None:
    maps = FeatureMaps.of("timm:tf_efficientnet_lite0")(np.zeros((50, 90, 3), np.uint8))
    assert [tuple(each.shape) for each in maps] == [(112, 14, 14), (40, 28, 28), (24, 56, 56)]
    torch.manual_seed(0)
    plain = FeatureMaps(Backbone("test_vit", taps=3, use_final=False, image_size=(224, 224)))
    assert [each.shape[1:] for each in plain(np.zeros((9, 9, 3), np.uint8))] == [(14, 14)] * 3


def test_a_trained_model_gives_its_backbone(tmp_path) -> None:
    torch.manual_seed(0)
    task = ClassificationTask(
        "test_resnet", classes=["a", "b"], pretrained=False, input=InputSpec(size=(32, 32), channels=1)
    )
    path = save_checkpoint(task, tmp_path / "model.ckpt")
    maps = FeatureMaps.of(str(path))
    own = dict(task.network.backbone.state_dict())
    assert all(torch.equal(value, own[name]) for name, value in maps.backbone.body.state_dict().items())
    frames = clip(lambda t: growing(t, 1), 3)
    tracker = make_visual_tracker("hcf", model=str(path))
    tracker.begin(*frames[0])
    assert np.abs(tracker.update(frames[1][0]).box - frames[1][1]).max() < 2


def test_what_gives_no_maps_is_named(tmp_path) -> None:
    task = SuperResolutionTask(architecture="srcnn", scale=2)
    path = save_checkpoint(task, tmp_path / "large.ckpt")
    with pytest.raises(UsageError, match="super_resolution without a backbone"):
        FeatureMaps.of(str(path))
    with pytest.raises(UsageError, match="did you mean 'resnet18'"):
        FeatureMaps.of("timm:resnet118")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        FeatureMaps.of("nothing.ckpt")


def test_finer_responses_refine_near_the_coarse_maximum() -> None:
    def bump(row: int, column: int, sigma: float) -> np.ndarray:
        return np.roll(gaussian_label((56, 56), sigma), (row, column), (0, 1))

    # The fine response alone has its maximum far away; next to the coarse maximum it has a lower one.
    fine = bump(-20, 20, 1) + 0.8 * bump(6, -5, 1)
    row, column = coarse_to_fine([bump(4, -4, 4), fine])
    assert (round(row), round(column)) == (6, -5)
    assert coarse_to_fine([np.zeros((56, 56))] * 3) == (0, 0)


def test_peaks_lie_between_samples_and_wrap_around() -> None:
    frequencies = np.fft.fftfreq(32, 1 / 32)
    for at in (0.3, -0.4, 15.2, -15.6):
        gap = (frequencies - at + 16) % 32 - 16
        response = np.exp(-0.5 * (gap[:, None] ** 2 + frequencies[None] ** 2) / 4)
        row, column, top = peak(response)
        assert row == pytest.approx(at, abs=0.02) and column == 0 and top > 0.9


def test_windows_repeat_the_border() -> None:
    frame = np.arange(12, dtype=np.uint8).reshape(3, 4)[..., None].repeat(3, 2)
    window = Window.about((0, 0), 4, 4)
    assert window.center == (0, 0)
    assert window.cut(frame)[..., 0].tolist() == [[0, 0, 0, 1]] * 3 + [[4, 4, 4, 5]]
