"""A teacher's features and logits: what is compared, what is refused, and that nothing of the teacher is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests import tiny_training
from tests.contracts.cases import batch, build
from visionkit.backbone_task import BackboneTask
from visionkit.checkpoint import read_checkpoint, read_model, save_checkpoint
from visionkit.distillation import DistillConfig
from visionkit.errors import CheckpointError, UsageError
from visionkit.geometry import InputSpec
from visionkit.nn.normalize import Normalize
from visionkit.optim import OptimConfig

LITE = "tf_efficientnet_lite0"


def saved(folder: Path, name: str = "classification", network: str = "", **arguments: Any) -> str:
    torch.manual_seed(7)
    path = save_checkpoint(build(name, network, **arguments), folder / f"{name}-{len(list(folder.iterdir()))}.ckpt")
    return str(path)


def student(teacher: str, name: str = "classification", network: str = "", **options: Any) -> BackboneTask:
    torch.manual_seed(1)
    terms = {key: options.pop(key) for key in ("features", "logits", "temperature") if key in options}
    task: Any = build(name, network, distill=DistillConfig(teacher, **terms), **options)
    task.setup("fit")
    return task


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": 0.0}, "features and logits are both 0"),
        ({"features": -1.0}, "features -1: must be at least 0"),
        ({"logits": float("nan")}, "logits nan: must be at least 0"),
        ({"temperature": 0.0}, "temperature 0: must be above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DistillConfig("teacher", **options)


def test_what_cannot_be_learned_is_refused_before_the_teacher_is_opened() -> None:
    distill = DistillConfig("there/is/none.ckpt")
    with pytest.raises(UsageError, match="keeps the features as they are"):
        build("classification", distill=distill, optim=OptimConfig(freeze="backbone"))
    with pytest.raises(UsageError, match="compiled network"):
        build("classification", distill=distill, compile_network=True)


def test_teachers_that_do_not_belong_to_the_student_are_refused(tmp_path: Path) -> None:
    classifier = saved(tmp_path)
    detector = saved(tmp_path, "detection")
    others = saved(tmp_path, classes=("stripe", "disc", "noise"))
    enlarger = saved(tmp_path, "super_resolution")
    gray = saved(tmp_path, input=InputSpec(size=(64, 64), resize_mode="stretch", channels=1))
    for teacher, options, message in (
        (detector, {"logits": 1.0}, "a model of detection, and logits are learned from one of classification"),
        (others, {"logits": 1.0}, "the teacher's class 0 is 'stripe'.*features do not"),
        (enlarger, {}, "super_resolution has no backbone to learn from"),
        (gray, {}, "takes image of 1 channels, and the student image of 3"),
        ("resnet18", {}, "no such file; timm's is timm:resnet18"),
    ):
        with pytest.raises(UsageError, match=message):
            student(teacher, **options)
    with pytest.raises(CheckpointError, match="nowhere"):
        student(str(tmp_path / "nowhere.ckpt"))
    student(others)  # features belong to no classes
    student(classifier, "detection")


def test_strides_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    fine = {"architecture": "fcos", "fcos": {"strides": [4], "extra_levels": "none", "neck_channels": 16, "convs": 1}}
    coarse = {
        "architecture": "fcos",
        "fcos": {"strides": [16], "extra_levels": "none", "neck_channels": 16, "convs": 1},
    }
    with pytest.raises(UsageError, match="the student's maps have strides 4 and the teacher's 16; at least one"):
        student(saved(tmp_path, "detection", **coarse), "detection", **fine)
    both = {**fine, "fcos": {**fine["fcos"], "strides": [4, 8]}}  # type: ignore[dict-item]
    found = student(saved(tmp_path, "detection", **both), "detection", **fine).distillation
    assert found is not None and list(found.projections) == ["stride4"]


def test_a_network_of_one_size_teaches_at_that_size_alone(tmp_path: Path) -> None:
    teacher = saved(tmp_path, network="test_vit")
    spec = InputSpec(size=(96, 96), resize_mode="stretch")
    with pytest.raises(UsageError, match=r"its network takes 64x64 alone; set model\.input\.size \[64,64\]"):
        student(teacher, input=spec)


@pytest.mark.parametrize(
    ("name", "network"), [("classification", "test_resnet"), ("semantic_segmentation", "test_vit")]
)
def test_public_weights_teach_by_their_own_normalization(name: str, network: str) -> None:
    task = student(f"timm:{LITE}", name, network)
    held: Any = task.distillation and task.distillation.teacher
    assert isinstance(held.normalize, Normalize) and held.normalize.mean != task.normalize.mean
    data = batch(task, 2)
    seen: list[torch.Tensor] = []
    held.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    terms = task.train().training_losses(data)
    assert torch.equal(seen[0], held.normalize(data["inputs"]["image"])) and not seen[0].requires_grad
    assert 0 < float(terms["distill_features"].detach()) <= 4


def test_the_loss_of_features_is_the_distance_of_vectors_of_length_one(tmp_path: Path) -> None:
    task: Any = student(saved(tmp_path, network="test_convnext"), features=2.0)
    task.eval()
    data = batch(task, 3)
    image = data["inputs"]["image"]
    with torch.no_grad():
        found = task.training_losses(data)["distill_features"]
        teacher = task.distillation._teacher[0]
        own, other = (each.network.backbone for each in (task, teacher))
        mine = own.pool(own(task.normalize(image)).final)
        theirs = other.pool(other(teacher.normalize(image)).final)
        cosine = F.cosine_similarity(task.distillation.projections["pooled"](mine), theirs)
    assert float(found) == pytest.approx(float(2 * (2 - 2 * cosine).mean()), rel=1e-5)


def test_several_labels_are_compared_one_by_one(tmp_path: Path) -> None:
    task: Any = student(saved(tmp_path, multilabel=True), multilabel=True, features=0.0, logits=1.0)
    task.eval()
    data = batch(task, 2)
    data["target"]["labels"] = F.one_hot(data["target"]["labels"], 3).float()
    with torch.no_grad():
        found = task.training_losses(data)["distill_logits"]
        teacher = task.distillation._teacher[0]
        q, p = (torch.distributions.Bernoulli(logits=each.run(data).logits / 4) for each in (task, teacher))
        expected = 16 * torch.distributions.kl_divergence(p, q).sum(1).mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-3, abs=1e-6)


def test_the_teacher_moves_with_the_student_and_belongs_to_no_state(tmp_path: Path) -> None:
    task: Any = student(saved(tmp_path))
    count = len(task.distillation._teacher[0].state_dict())
    assert count and len(task.distillation.state_dict()) == 2
    task.double()
    assert {each.dtype for each in task.distillation._teacher[0].parameters()} == {torch.float64}
    task.train()
    assert not any(each.training for each in task.distillation._teacher[0].modules())


def test_a_training_with_a_teacher_goes_on_bit_for_bit(tmp_path: Path) -> None:
    teacher = str(save_checkpoint(tiny_training.tiny_task(), tmp_path / "teacher.ckpt"))

    def task() -> Any:
        torch.manual_seed(3)
        return tiny_training.tiny_task(distill=DistillConfig(teacher, features=1.0, logits=1.0))

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    tiny_training.train(whole, task=task(), max_epochs=2)
    with pytest.raises(RuntimeError, match="killed"):
        tiny_training.train(parts, task=task(), max_epochs=2, extra=[tiny_training.Killed(7)])
    tiny_training.train(parts, task=task(), max_epochs=2)
    assert tiny_training.end_state(whole) == tiny_training.end_state(parts)
    last = read_checkpoint(whole / "checkpoints" / "last.ckpt")
    names = {name for name in last["state_dict"] if name.startswith("distillation.")}
    assert names == {"distillation.projections.pooled.weight", "distillation.projections.pooled.bias"}
    Path(teacher).unlink()
    assert read_model(whole / "checkpoints" / "last.ckpt").build().config["distill"] is None
