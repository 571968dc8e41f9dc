"""The losses of segmentation: equal to those of other packages, nothing where nothing is known, and class weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tasks.semantic_segmentation.loss import LOSSES, CrossEntropy, Focal, SegmentationLoss
from visionkit.errors import UsageError


def scores(seed=0, classes=4, batch=2, ignored=True):
    generator = torch.manual_seed(seed)
    logits = torch.randn(batch, classes, 12, 10, generator=generator, requires_grad=True)
    labels = torch.randint(0, classes, (batch, 12, 10), generator=generator)
    if ignored:
        labels[:, :3] = 255
    return logits, labels


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("focal", "FocalLoss", {"gamma": 2.0}),
        ("focal", "FocalLoss", {"gamma": 1.5, "alpha": 0.25}),
        ("lovasz", "LovaszLoss", {}),
        ("dice", "DiceLoss", {}),
        ("jaccard", "JaccardLoss", {"smooth": 1.0}),
        ("tversky", "TverskyLoss", {"alpha": 0.3, "beta": 0.7}),
    ],
)
def test_losses_and_gradients_equal_smps(name, theirs, options, ignored):
    from segmentation_models_pytorch import losses

    logits, labels = scores(ignored=ignored)
    ours = LOSSES[name](**options)(logits, labels)
    reference = getattr(losses, theirs)(mode="multiclass", ignore_index=255, **options)(logits, labels)
    assert ours.item() == pytest.approx(reference.item(), abs=1e-6)
    a, b = (torch.autograd.grad(each, logits, retain_graph=True)[0] for each in (ours, reference))
    assert torch.allclose(a, b, atol=1e-6)


def test_cross_entropy_equals_torchs_with_and_without_weights():
    logits, labels = scores()
    weight = torch.tensor([1.0, 2.0, 0.5, 3.0])
    for given, smoothing in ((None, 0.1), (weight, 0.0)):
        wanted = F.cross_entropy(logits, labels, weight=given, ignore_index=255, label_smoothing=smoothing)
        assert CrossEntropy(smoothing)(logits, labels, given).item() == pytest.approx(wanted.item(), abs=1e-6)
    half = torch.zeros(labels.shape)
    half[:, :6] = 1
    wanted = CrossEntropy()(logits, torch.where(half > 0, labels, 255))
    assert CrossEntropy()(logits, labels, None, half).item() == pytest.approx(wanted.item(), abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_but_ignored_pixels_is_no_nan(name):
    logits, labels = scores()
    value = LOSSES[name]()(logits, torch.full_like(labels, 255))
    assert value.item() == 0.0
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(gradient).all() and gradient.abs().sum() == 0


def test_a_sum_of_losses_has_named_terms_and_weights():
    logits, labels = scores()
    loss = SegmentationLoss(4, {"cross_entropy": 1.0, "dice": 0.5})
    terms = loss(logits, labels)
    assert list(terms) == ["cross_entropy", "dice"]
    assert terms["dice"].item() == pytest.approx(0.5 * LOSSES["dice"]()(logits, labels).item())


def test_class_weights_follow_the_frequencies_that_were_seen():
    labels = torch.tensor([[[0] * 60 + [1] * 30 + [2] * 10 + [255] * 20]])
    median = SegmentationLoss(4, {"cross_entropy": 1.0}, balance="median")
    median.count(labels)
    assert median.class_weights().tolist() == pytest.approx([0.5, 1.0, 3.0, 1.0])
    logarithm = SegmentationLoss(4, {"cross_entropy": 1.0}, balance="log")
    logarithm.count(labels)
    assert logarithm.class_weights()[0].item() == pytest.approx(1 / np.log(1.02 + 0.6), rel=1e-5)
    assert "seen" in logarithm.state_dict(), "a resumed run goes on with what was counted"
    fixed = SegmentationLoss(2, {"cross_entropy": 1.0}, class_weights=[1.0, 2.0])
    assert fixed.state_dict() == {}, "fixed weights are configuration, and nothing was counted"


def one_pixel(*logits: float) -> torch.Tensor:
    return torch.tensor(logits).view(1, -1, 1, 1)


def test_cross_entropy_by_hand_with_weights_of_classes_and_pixels():
    """Three pixels: -log(1/2) of each that is known, where two classes have equal logits."""
    logits = torch.zeros(1, 2, 1, 3)
    logits[0, 0, 0, 1] = np.log(3)  # 3/4 for the first class
    labels = torch.tensor([[[0, 1, 255]]])
    one, two = np.log(2), np.log(4)
    assert CrossEntropy()(logits, labels).item() == pytest.approx((one + two) / 2)
    weight, pixels = torch.tensor([1.0, 3.0]), torch.tensor([[[2.0, 0.5, 9.0]]])
    assert CrossEntropy()(logits, labels, weight).item() == pytest.approx((one + 3 * two) / 4)
    assert CrossEntropy()(logits, labels, None, pixels).item() == pytest.approx((2 * one + 0.5 * two) / 2.5)
    both = CrossEntropy()(logits, labels, weight, pixels).item()
    assert both == pytest.approx((2 * one + 3 * 0.5 * two) / (2 + 1.5))
    assert CrossEntropy()(logits[..., :1], labels[..., :1]).item() == pytest.approx(one), "one pixel counts whole"
    assert CrossEntropy().smoothing == 0


def test_focal_loss_by_hand():
    """One pixel of two classes that are each right with 3/4, and the mean over classes."""
    logits, labels = one_pixel(np.log(3), -np.log(3)), torch.tensor([[[0]]])
    plain = np.log(4 / 3)
    assert Focal(0.0)(logits, labels).item() == pytest.approx(plain)
    assert Focal()(logits, labels).item() == pytest.approx(plain / 16), "gamma 2: a quarter, squared"
    assert Focal(0.0, 0.25)(logits, labels).item() == pytest.approx((0.25 + 0.75) * plain / 2)
    harder = one_pixel(np.log(3), np.log(3))  # the second is wrong with 3/4
    weighted = Focal(0.0)(harder, labels, torch.tensor([1.0, 3.0])).item()
    assert weighted == pytest.approx((plain + 3 * np.log(4)) / 4)
    assert Focal(0.0)(torch.cat([logits, logits], 3), torch.tensor([[[0, 255]]])).item() == pytest.approx(plain)


def test_each_term_gets_what_it_can_use():
    logits, labels = scores()
    weight, pixels = [1.0, 2.0, 0.5, 3.0], torch.rand(labels.shape)
    loss = SegmentationLoss(4, {"cross_entropy": 2.0, "focal": 1.0, "dice": 1.0, "lovasz": 0.5}, class_weights=weight)
    found = loss(logits.half(), labels, pixels)
    exact, classes = logits.half().float(), torch.tensor(weight)
    assert found["cross_entropy"].item() == pytest.approx(2 * CrossEntropy()(exact, labels, classes, pixels).item())
    assert found["focal"].item() == pytest.approx(Focal()(exact, labels, classes).item())
    assert found["dice"].item() == pytest.approx(LOSSES["dice"]()(exact, labels).item())
    assert found["lovasz"].item() == pytest.approx(0.5 * LOSSES["lovasz"]()(exact, labels).item())


def test_nothing_is_counted_without_a_balance_and_what_was_counted_adds_up():
    labels = torch.tensor([[[0, 0, 1, 255]]])
    plain = SegmentationLoss(2, {"cross_entropy": 1.0})
    plain.count(labels)
    assert plain.class_weights() is None and plain.seen.tolist() == [0, 0] and plain.state_dict() == {}
    log = SegmentationLoss(3, {"focal": 1.0}, balance="log")
    assert log.class_weights().tolist() == [1, 1, 1], "nothing was seen yet"
    for _ in range(2):
        log.count(labels)
    assert log.seen.tolist() == [4, 2, 0]
    assert log.class_weights().tolist() == pytest.approx([1 / np.log(1.02 + 2 / 3), 1 / np.log(1.02 + 1 / 3), 1])
    median = SegmentationLoss(3, {"focal": 1.0}, balance="median")
    assert median.class_weights().tolist() == [1, 1, 1]
    median.count(torch.tensor([[[0] * 6 + [1] * 2 + [2] * 2]]))
    assert median.class_weights().tolist() == pytest.approx([0.2 / 0.6, 1, 1])
    fixed = SegmentationLoss(2, {"focal": 1.0}, class_weights=[0.5, 2.0])
    assert fixed.class_weights().tolist() == [0.5, 2]


def test_a_loss_of_no_name_no_weight_or_no_kind_is_refused():
    for arguments, line in (
        (({},), "at least one loss"),
        (({"dice": -1.0},), "above 0"),
        (({"dice": 0.0},), "above 0"),
        (({"dice": 1.0}, {"dize": {}}), "'dize'.*did you mean 'dice'"),
        (({"dice": 1.0}, None, "mean"), "class_balance 'mean': allowed are none, median, log"),
    ):
        with pytest.raises(UsageError, match=line):
            SegmentationLoss(2, *arguments)
