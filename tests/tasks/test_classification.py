"""Classification: known numbers, one label and many, mixing, public names."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
)

from tasks.classification import ClassificationTask
from tasks.classification.loss import ClassificationLoss
from tasks.classification.metrics import ClassificationCounts, build_metrics, class_table
from visionkit.confusion import largest_confusions
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.optim import OptimConfig, parameter_groups

SPEC = InputSpec(size=(64, 64))


def tiny(**arguments):
    defaults = {"backbone": "test_resnet", "classes": ["a", "b", "c"], "input": SPEC}
    return ClassificationTask(**{**defaults, **arguments})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("mobilenetv3_large_100", 5_483_032),
        ("convnext_tiny", 28_589_128),
        ("vit_tiny_patch16_224", 5_717_416),
        ("swin_tiny_patch4_window7_224", 28_288_354),
    ],
)
def test_parameter_counts_are_the_published_ones(name, parameters):
    with torch.device("meta"):
        task = ClassificationTask(name, classes=[str(k) for k in range(1000)])
    assert sum(p.numel() for p in task.parameters()) == parameters


def test_counts_equal_torchmetrics_over_batches():
    generator = torch.Generator().manual_seed(0)
    classes = 12
    ours = ClassificationCounts(classes)
    reference = {
        "top1": MulticlassAccuracy(classes, average="micro"),
        "top5": MulticlassAccuracy(classes, average="micro", top_k=5),
        "f1_macro": MulticlassF1Score(classes, average="macro"),
        "calibration_error": MulticlassCalibrationError(classes, n_bins=15),
        "confusion": MulticlassConfusionMatrix(classes),
    }
    for size in (64, 1, 37):
        scores = (torch.randn(size, classes, generator=generator) * 2).softmax(dim=1)
        labels = torch.randint(classes, (size,), generator=generator)
        ours.update(scores, labels)
        for metric in reference.values():
            metric.update(scores, labels)
    values = ours.compute()
    for name, metric in reference.items():
        assert torch.allclose(values[name].float(), metric.compute().float(), atol=1e-6), name


def test_many_classes_are_counted_by_the_pairs_that_occur(monkeypatch: pytest.MonkeyPatch):
    generator = torch.Generator().manual_seed(0)
    dense = ClassificationCounts(12)
    monkeypatch.setattr("tasks.classification.metrics.LARGEST_TABLE", 11)
    monkeypatch.setattr("tasks.classification.metrics.MERGED", 3)
    sparse = ClassificationCounts(12)
    for size in (64, 1, 37, 5, 5, 8, 2):
        scores = (torch.randn(size, 12, generator=generator) * 2).softmax(dim=1)
        labels = torch.randint(12, (size,), generator=generator)
        dense.update(scores, labels)
        sparse.update(scores, labels)
    assert len(sparse.pairs) < 3
    ours, theirs = sparse.compute(), dense.compute()
    matrix = theirs.pop("confusion")
    assert ours.pop("confusion").to_dense().equal(matrix)
    assert ours == theirs
    names = [f"c{k}" for k in range(12)]
    assert class_table(matrix.to_sparse(), names) == class_table(matrix, names)
    listed = largest_confusions(matrix.to_sparse(), names, limit=3)
    wrong = matrix - matrix.diag().diag()
    assert [row["count"] for row in listed] == wrong.flatten().sort(descending=True).values[:3].tolist()
    first = listed[0]
    row = names.index(first["truth"])
    assert first["fraction"] == first["count"] / int(matrix[row].sum())
    sparse.reset()
    assert sparse.compute()["top1"] == 0


def test_a_million_classes_take_no_matrix():
    metric = ClassificationCounts(10**6)  # as a matrix of counts: 8 TB
    metric.update(torch.eye(3, 10**6), torch.tensor([0, 1, 999_999]))
    found = metric.compute()
    assert float(found["top1"]) == pytest.approx(2 / 3) and found["confusion"].values().sum() == 3


def test_a_constant_output_earns_no_top5():
    metric = ClassificationCounts(10)
    metric.update(torch.full((4, 10), 0.1), torch.tensor([0, 3, 6, 9]))
    assert metric.compute()["top5"] == 0


def test_class_table_by_hand():
    rows = class_table(torch.tensor([[3, 1], [2, 4]]), ["x", "y"])
    assert rows[0] == {"class": "x", "precision": 0.6, "recall": 0.75, "f1": pytest.approx(2 / 3), "support": 4}
    assert rows[1]["support"] == 6


def test_losses_equal_torch():
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    weights = [1.0, 2.0, 0.5]
    ours = ClassificationLoss(smoothing=0.1, class_weights=weights)(logits, labels)
    theirs = torch.nn.functional.cross_entropy(logits, labels, torch.tensor(weights), label_smoothing=0.1)
    assert torch.equal(ours, theirs)
    many = torch.tensor([[1.0, 0.0, 1.0]]).repeat(5, 1)
    assert torch.allclose(
        ClassificationLoss(multilabel=True)(logits, many),
        torch.nn.functional.binary_cross_entropy_with_logits(logits, many),
    )


def test_smoothed_labels_that_may_all_hold_lie_symmetrically_between_no_and_yes():
    labels = torch.tensor([[1.0, 0.0]])
    logits = torch.logit(torch.tensor([[0.95, 0.05]]))
    at_smoothed = ClassificationLoss(multilabel=True, smoothing=0.1)(logits, labels)
    entropy = -(0.95 * math.log(0.95) + 0.05 * math.log(0.05))
    assert float(at_smoothed) == pytest.approx(entropy, abs=1e-6), "0.95 and 0.05 are what is asked for"


@pytest.mark.parametrize("kind", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
@pytest.mark.parametrize("multilabel", [False, True])
def test_mixing_keeps_the_labels_mass_and_trains(kind, multilabel):
    np.random.seed(1)  # noqa: NPY002  (timm draws from the global generator)
    task = tiny(multilabel=multilabel, **kind)
    labels = torch.randint(0, 2, (4, 3)).float() if multilabel else torch.tensor([0, 1, 2, 0])
    image = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    batch = {"inputs": {"image": image}, "target": {"labels": labels}, "geometry": [], "id": list("abcd")}
    # A CutMix box may come out empty; one of a few draws does change the image.
    mixed = next(
        m for m in (task.train_batch(batch) for _ in range(9)) if not torch.equal(m["inputs"]["image"], image.float())
    )
    assert mixed["target"]["labels"].shape == (4, 3)
    if not multilabel:
        assert torch.allclose(mixed["target"]["labels"].sum(dim=1), torch.ones(4))
    assert torch.equal(batch["target"]["labels"], labels), "the batch itself is not changed"
    loss = task.training_step(batch, 0)
    loss.backward()
    assert torch.isfinite(loss)


def test_mixing_an_odd_batch_states_what_to_change():
    task = tiny(mixup=0.5)
    batch = {
        "inputs": {"image": torch.zeros(3, 3, 64, 64, dtype=torch.uint8)},
        "target": {"labels": torch.tensor([0, 1, 2])},
        "id": [],
    }
    with pytest.raises(UsageError, match="batch_size 3 must be even"):
        task.train_batch(batch)


def test_several_labels_may_hold():
    task = tiny(multilabel=True, threshold=0.4)
    prediction = task.restore(torch.tensor([[0.9, 0.3, 0.45]]), [])[0]
    assert [label.name for label in prediction.labels] == ["a", "c"]
    assert task.monitor == ("val/map", "max")


@pytest.mark.parametrize("classes", [1, 4])
def test_several_labels_equal_scikit_learn_over_the_classes_that_occur(classes, recwarn):
    from sklearn.metrics import accuracy_score, average_precision_score, f1_score

    rng = np.random.default_rng(3)
    scores = rng.random((40, classes)).round(1).astype(np.float32)  # with ties
    truth = (rng.random((40, classes)) < scores).astype(int)
    truth[:, 2:3] = 0  # a class without a positive label
    metrics = build_metrics(classes, multilabel=True, threshold=0.5)
    for half in (slice(20), slice(20, 40)):
        metrics.update(torch.tensor(scores[half]), torch.tensor(truth[half]))
    found = {name: float(value) for name, value in metrics.compute().items() if value.numel() == 1}
    present = [k for k in range(classes) if truth[:, k].any()]
    said = (scores >= 0.5).astype(int)
    assert found["map"] == pytest.approx(np.mean([average_precision_score(truth[:, k], scores[:, k]) for k in present]))
    assert found["f1_macro"] == pytest.approx(np.mean([f1_score(truth[:, k], said[:, k]) for k in range(classes)]))
    assert found["exact_match"] == pytest.approx(accuracy_score(truth, said))
    assert not [warning for warning in recwarn if "No positive" in str(warning.message)]


def test_without_any_positive_label_there_is_still_a_number():
    metrics = build_metrics(2, multilabel=True)
    metrics.update(torch.zeros(3, 2), torch.zeros(3, 2))
    assert {name: float(value) for name, value in metrics.compute().items() if value.numel() == 1} == {
        "map": 0.0,
        "f1_macro": 0.0,
        "exact_match": 1.0,
    }


def test_one_class_alone_is_refused_before_training():
    with pytest.raises(UsageError, match=r"one class alone \('only'\) leaves nothing to choose between"):
        tiny(classes=["only"]).setup("fit")
    tiny(classes=["only"], multilabel=True).setup("fit")


def test_data_of_the_other_kind_states_what_to_set():
    image = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    several = {"inputs": {"image": image}, "target": {"labels": torch.ones(2, 3)}, "id": ["x", "y"]}
    with pytest.raises(UsageError, match=r"set --model\.multilabel true"):
        tiny().training_step(several, 0)
    one = {"inputs": {"image": image}, "target": {"labels": torch.tensor([0, 1])}, "id": ["x", "y"]}
    with pytest.raises(UsageError, match="one label per image"):
        tiny(multilabel=True).training_step(one, 0)


def test_bad_arguments_are_one_line():
    with pytest.raises(UsageError, match="at least one class"):
        ClassificationTask("test_resnet", input=SPEC)
    with pytest.raises(UsageError, match="class_weights: 3 classes need as many"):
        tiny(class_weights=[1.0])
    with pytest.raises(UsageError, match="did you mean 'resnet18'"):
        ClassificationTask("resnet81", classes=["a"])


def test_config_rebuilds_the_same_task():
    task = tiny(optim=OptimConfig(name="sgd", lr=0.1), label_smoothing=0.1)
    again = ClassificationTask.from_config(task.config)
    assert again.config == task.config
    assert again.input == SPEC and again.optim.name == "sgd"
    again.load_state_dict(task.state_dict())


def test_parameter_groups_cover_every_parameter_once():
    task = tiny(backbone="test_vit", optim=OptimConfig(layer_decay=0.5, backbone_lr_scale=0.1))
    groups = parameter_groups(task.network, task.optim)
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in task.network.parameters())
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates["head"] == 1e-3
    layers = sorted({name.split("/")[0] for name in rates if name.startswith("backbone.")})
    depth_rates = [rates.get(name, rates.get(name + "/no_decay")) for name in layers]
    assert depth_rates == sorted(depth_rates), "deeper layers learn faster"
    for group in groups:
        assert group["weight_decay"] == (0.0 if group["name"].endswith("/no_decay") else 0.05)


def test_a_frozen_backbone_keeps_weights_and_statistics():
    task = tiny(optim=OptimConfig(freeze="backbone"))
    task.freeze_backbone()
    task.train()
    before = {key: value.clone() for key, value in task.network.backbone.state_dict().items()}
    batch = {
        "inputs": {"image": torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)},
        "target": {"labels": torch.tensor([0, 1])},
        "id": ["a", "b"],
    }
    task.training_step(batch, 0).backward()
    assert all(torch.equal(value, before[key]) for key, value in task.network.backbone.state_dict().items())
    assert all(p.grad is None for p in task.network.backbone.parameters())
    assert any(p.grad is not None for p in task.network.head.parameters())
