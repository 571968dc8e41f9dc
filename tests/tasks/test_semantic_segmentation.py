"""Semantic segmentation: losses, metrics, label maps, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tasks.semantic_segmentation import SemanticSegmentationTask
from tasks.semantic_segmentation.loss import LOSSES, CrossEntropy, SegmentationLoss
from tasks.semantic_segmentation.metrics import (
    SegmentationCounts,
    boundary_counts,
    boundary_f1,
    class_table,
    confusion,
)
from tests.ranks import on_two_ranks
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.predictor import Predictor

CLASSES = ("sky", "road", "tree")
SMALL = {"channels": (8, 8, 8, 8, 8)}


def build(**arguments):
    own = {"unet": SMALL} if arguments.get("architecture", "unet") == "unet" else {}
    defaults = {"classes": CLASSES, "input": InputSpec(size=(64, 64), resize_mode="stretch"), **own}
    return SemanticSegmentationTask("test_resnet", **{**defaults, **arguments})


def scores(seed=0, classes=4, batch=2, ignored=True):
    generator = torch.manual_seed(seed)
    logits = torch.randn(batch, classes, 12, 10, generator=generator, requires_grad=True)
    labels = torch.randint(0, classes, (batch, 12, 10), generator=generator)
    if ignored:
        labels[:, :3] = 255
    return logits, labels


# ---------------------------------------------------------------------- losses


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"losses": {"dise": 1.0}}, "did you mean 'dice'"),
        ({"losses": {"dice": 0.0}}, "above 0"),
        ({"loss_options": {"cross_entropy": {"gamma": 1}}}, "model.loss_options cross_entropy"),
        ({"class_weights": [1.0]}, "3 classes need as many weights"),
        ({"class_weights": [1.0, 1.0, 1.0], "class_balance": "log"}, "give one of them"),
        ({"classes": ()}, "at least one class"),
        ({"architecture": "unett"}, "did you mean 'unet'"),
        ({"input": InputSpec(resize_mode="native", divisor=8)}, "multiples of 32"),
    ],
)
def test_what_is_refused_when_built(arguments, message):
    with pytest.raises(UsageError, match=message):
        build(**arguments)


# ---------------------------------------------------------------------- metrics


def test_every_number_of_a_set_by_hand():
    """Two images of three classes and a fourth that never occurs; a row is ignored."""
    first, second = [[0, 0, 1, 1], [0, 0, 1, 1], [255] * 4], [[2] * 4, [0] * 4, [0] * 4]
    truth = torch.tensor([first, second])
    said = torch.tensor([[[0, 0, 0, 1], [0, 1, 1, 1], [1, 1, 2, 2]], [[2, 2, 2, 0], [0] * 4, [0] * 4]])
    metrics = SegmentationCounts(4)
    for pair in zip(said, truth, strict=True):
        metrics.update(*(each[None] for each in pair))
    values = metrics.compute()
    confusion = [[11, 1, 0, 0], [1, 3, 0, 0], [1, 0, 3, 0], [0, 0, 0, 0]]
    assert values["confusion"].tolist() == confusion
    iou, recall, dice = [11 / 14, 3 / 5, 3 / 4], [11 / 12, 3 / 4, 3 / 4], [22 / 25, 6 / 8, 6 / 7]
    assert values["mean_iou"].item() == pytest.approx(sum(iou) / 3)
    assert values["mean_accuracy"].item() == pytest.approx(sum(recall) / 3)
    assert values["dice"].item() == pytest.approx(sum(dice) / 3)
    assert values["pixel_accuracy"].item() == pytest.approx(17 / 20)

    boundary = torch.tensor([[4, 3, 6, 3], [1, 1, 1, 1], [0, 0, 4, 0], [0, 0, 0, 0]])
    f1, has = boundary_f1(boundary)
    assert f1.tolist() == pytest.approx([2 * 0.75 * 0.5 / 1.25, 1, 0, 0]) and has.tolist() == [True, True, True, False]
    rows = class_table(values["confusion"], boundary, ["a", "b", "c", "d"])
    assert [row["class"] for row in rows] == ["a", "b", "c", "d"]
    for row, *numbers in zip(rows, [*iou, 0], [*recall, 0], [*dice, 0], f1.tolist(), [0.6, 0.2, 0.2, 0], strict=True):
        assert [row[key] for key in ("iou", "accuracy", "dice", "boundary_f1", "fraction")] == pytest.approx(numbers)
    empty = SegmentationCounts(2)
    empty.update(torch.zeros(1, 2, 2, dtype=torch.long), torch.full((1, 2, 2), 255))
    for name, value in empty.compute().items():
        assert (value == 0).all(), f"{name} is 0 where no pixel counts"


def test_a_boundary_is_right_within_a_fraction_of_the_diagonal_and_at_least_a_pixel():
    truth = np.zeros((30, 40), np.int64)  # a diagonal of 50
    truth[:, 20:] = 1
    for shift, tolerance in ((2, 0.04), (3, 0.04), (3, 0.06), (1, 0.0), (2, 0.0)):
        said = np.zeros_like(truth)
        said[:, 20 + shift :] = 1
        # The column of each class beside the border is as far from the other map's as the border was moved.
        found = 30 * (shift <= max(1.0, 50 * tolerance))
        assert boundary_counts(said, truth, 2, tolerance).tolist() == [[30, found, 30, found]] * 2, (shift, tolerance)
    high = boundary_counts(truth.T.copy(), truth.T.copy(), 2, 0.01)
    assert high.tolist() == [[30] * 4] * 2, "borders between rows as well"


def test_confusion_equals_torchmetrics_on_every_path():
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    generator = torch.manual_seed(0)
    for classes in (2, 11, 150, 300):
        truth = torch.randint(0, classes, (3, 40, 50), generator=generator)
        truth[:, :5] = 255 if classes <= 255 else truth[:, :5]
        said = torch.randint(0, classes, (3, 40, 50), generator=generator)
        known = truth != 255
        wanted = multiclass_confusion_matrix(said[known], truth[known], classes)
        assert torch.equal(confusion(said if classes > 255 else said.to(torch.uint8), truth, classes), wanted)


def test_known_numbers():
    truth = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 255]]])
    said = torch.tensor([[[0, 1, 1, 1], [0, 0, 2, 2]]], dtype=torch.uint8)
    metric = SegmentationCounts(3)
    metric.update(said, truth)
    got = metric.compute()
    # Class 0: 3 of 4; class 1: 2 right, 1 missed, 1 wrong; class 2: predicted once, never true.
    assert got["mean_iou"].item() == pytest.approx((3 / 4 + 2 / 4 + 0) / 3, abs=1e-5)
    assert got["pixel_accuracy"].item() == pytest.approx(5 / 7, abs=1e-5)
    assert got["mean_accuracy"].item() == pytest.approx((3 / 4 + 2 / 3) / 2, abs=1e-5)
    assert got["dice"].item() == pytest.approx((6 / 7 + 4 / 6 + 0) / 3, abs=1e-5)


def test_the_mean_is_of_the_whole_set_not_of_images():
    one, two = torch.zeros(1, 1, 4, dtype=torch.long), torch.tensor([[[1, 1, 1, 0]]])
    metric = SegmentationCounts(2)
    metric.update(torch.tensor([[[0, 0, 0, 1]]], dtype=torch.uint8), one)
    metric.update(torch.tensor([[[1, 1, 1, 1]]], dtype=torch.uint8), two)
    assert metric.compute()["mean_iou"].item() == pytest.approx((3 / 5 + 3 / 5) / 2)


def test_nothing_known_is_zero_not_nan():
    metric = SegmentationCounts(3)
    metric.update(torch.zeros(1, 4, 4, dtype=torch.uint8), torch.full((1, 4, 4), 255))
    assert all(torch.isfinite(value).all() for value in metric.compute().values())
    assert metric.compute()["mean_iou"] == 0


def test_boundaries_match_within_the_tolerance():
    truth = np.zeros((100, 100), dtype=np.int64)
    truth[:, 50:] = 1
    moved = np.zeros_like(truth)
    moved[:, 51:] = 1
    far = np.zeros_like(truth)
    far[:, 60:] = 1
    assert boundary_counts(truth, truth, 2, 0.01).tolist() == [[100, 100, 100, 100]] * 2
    assert boundary_counts(moved, truth, 2, 0.01).tolist() == [[100, 100, 100, 100]] * 2, "1 px of 1.4"
    assert boundary_counts(far, truth, 2, 0.01).tolist() == [[100, 0, 100, 0]] * 2
    ignored = truth.copy()
    ignored[:, 40:60] = 255
    assert boundary_counts(truth, ignored, 2, 0.01).sum() == 0, "beside an ignored pixel nothing is known"


def _measured(rank):
    metric = SegmentationCounts(3)
    metric.update(*_images(rank))
    return {key: value.numpy() for key, value in metric.compute().items()}


@pytest.mark.timeout(600)
def test_two_ranks_state_what_one_states():
    alone = SegmentationCounts(3)
    for number in range(2):
        alone.update(*_images(number))
    wanted = alone.compute()
    for prediction in on_two_ranks(_measured):
        assert prediction.keys() == wanted.keys()
        assert all(np.array_equal(prediction[key], value.numpy()) for key, value in wanted.items())


def _images(number):
    generator = torch.manual_seed(number)
    truth = torch.randint(0, 3, (1, 20, 20), generator=generator)
    return torch.randint(0, 3, (1, 20, 20), generator=generator).to(torch.uint8), truth


# ---------------------------------------------------------------------- predictions


@pytest.mark.parametrize("fit", ["crop", "letterbox", "stretch", "pad", "native"])
@pytest.mark.parametrize("name", ["unet", "fpn"])
def test_a_prediction_has_exactly_the_images_size(fit, name):
    own = {name: SMALL if name == "unet" else {"pyramid_channels": 16, "channels": 64}}
    task = build(architecture=name, input=InputSpec(size=(64, 64), resize_mode=fit), **own).eval()
    predictor = Predictor(task)
    for size in ((1, 1), (37, 53), (64, 64), (97, 64), (3, 211)):
        labels = predictor(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)).labels
        assert labels.shape == size
        assert ((labels < 3) | (labels == 255)).all()
        if fit not in ("crop",):
            assert (labels < 3).all()


def test_batches_of_images_without_a_label_are_counted_and_reported(caplog):
    task = build()
    empty = {"inputs": {}, "target": {"label_map": torch.full((2, 8, 8), 255)}, "geometry": [], "id": []}
    task.train_batch(empty)
    task.on_train_epoch_end()
    assert "2 images of this epoch had nothing but ignored pixels" in caplog.text
    caplog.clear()
    task.on_train_epoch_end()
    assert not caplog.text
