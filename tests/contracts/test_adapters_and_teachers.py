"""Adapters and teachers, for every task that has a backbone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.multitask.joining import join, split
from tests.contracts.cases import CASES, batch, build, given, images
from ui.cli import main
from visionkit.backbone_task import BackboneTask
from visionkit.backbones import AdapterConfig
from visionkit.checkpoint import load_task, save_bundle, save_checkpoint
from visionkit.distillation import PREFIX, DistillConfig
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.optim import OptimConfig, build_optimizer
from visionkit.predictor import Predictor, load
from visionkit.registry import task_class, task_names
from visionkit.synthetic import OBJECT_CLASSES

TASKS = [name for name in task_names() if issubclass(task_class(name), BackboneTask)]
every_task = pytest.mark.parametrize("name", TASKS)
NETWORKS = [(name, CASES[name].networks[0]) for name in TASKS]
NETWORKS += [("classification", network) for network in CASES["classification"].networks[1:]]


def steps(task, data, count=1):
    """Some steps of a training, without a trainer."""
    task.setup("fit")
    task.train()
    optimizer = build_optimizer(task.parameter_groups(), task.optim)
    for _ in range(count):
        loss = task.training_step(data, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return optimizer


def close(a, b, images, tolerance):
    for image in images:
        one, two = a(image), b(image)
        if (found := one.difference(two)) is not None:
            assert found.largest <= tolerance
        else:
            assert str(one.to_json())[:40] == str(two.to_json())[:40]


def outputs_of(task, data):
    with torch.no_grad():
        return [each.float() for each in task.eval().run(data) if isinstance(each, torch.Tensor)]


# ---------------------------------------------------------------------- adapters


@pytest.mark.parametrize(("name", "network"), NETWORKS)
def test_adapters_alone_are_trained_and_are_merged_in_what_is_handed_out(name, network, tmp_path):
    torch.manual_seed(0)
    task = build(name, network, adapters=AdapterConfig(rank=2), optim=OptimConfig(lr=1e-2))
    before = {key: value.clone() for key, value in task.state_dict().items()}
    data = batch(task, 4)
    steps(task, data, 2)
    assert all(p.grad is not None for p in task.parameters() if p.requires_grad), "DDP would wait"
    changed = [key for key, value in task.state_dict().items() if not torch.equal(value, before[key])]
    ours = [key for key in changed if key.startswith("network.backbone.model.")]
    assert ours and all("adapter_" in key for key in ours), "weights and statistics of the backbone stay"
    assert any(not key.startswith("network.backbone.") for key in changed), "the head trains"

    expected = outputs_of(task, data)
    save_checkpoint(task, tmp_path / "a.ckpt")
    save_bundle(task, tmp_path / "bundle", card={})
    again, served = load_task(tmp_path / "a.ckpt"), load_task(tmp_path / "bundle")
    assert served.config["adapters"] is None and not any("adapter_" in key for key in served.state_dict())
    for mine, a, b in zip(expected, outputs_of(again, data), outputs_of(served, data), strict=True):
        for other in (a, b) if name != "instance_segmentation" else ():  # whose proposals may change places
            assert torch.allclose(mine, other, atol=1e-4, rtol=1e-4)


@every_task
def test_adapters_begin_as_the_network_itself(name):
    torch.manual_seed(0)
    plain = build(name)
    adapted = build(name, adapters=AdapterConfig(rank=1))
    new = adapted.load_state_dict(plain.state_dict(), strict=False)
    assert not new.unexpected_keys and all("adapter_" in key for key in new.missing_keys)
    data = batch(plain)
    for a, b in zip(outputs_of(plain, data), outputs_of(adapted, data), strict=True):
        assert torch.equal(a, b)


def test_heads_on_a_backbone_with_adapters_are_split_into_ordinary_models():
    torch.manual_seed(0)
    joint = build("multitask", adapters=AdapterConfig(rank=2)).eval()
    for key, parameter in joint.named_parameters():
        if key.endswith("adapter_up"):
            torch.nn.init.normal_(parameter, std=0.1)
    data = batch(joint)["inputs"]["image"]
    parts = split(joint)
    assert all(part.config["adapters"] is None for part in parts.values())
    with torch.no_grad():
        expected = joint(data)
        assert torch.allclose(parts["what"](data).logits, expected.what_logits, atol=1e-4)
        assert torch.allclose(join(parts)(data).far_depth, expected.far_depth, atol=1e-4)


# ---------------------------------------------------------------------- teachers


@every_task
def test_a_teacher_of_features_for_every_task(name, tmp_path):
    torch.manual_seed(0)
    teacher = build(name)
    save_checkpoint(teacher, tmp_path / "teacher.ckpt")
    distill = DistillConfig(str(tmp_path / "teacher.ckpt"), features=1.0)
    if name == "multitask":
        with pytest.raises(UsageError, match="several heads or parts"):
            build(name, distill=distill)
        return
    task = build(name, distill=distill, optim=OptimConfig(lr=1e-2))
    data = batch(task, 4)
    task.setup("fit")
    task.train()
    first = task.training_losses(data)
    assert {"distill_features"} == {key for key in first if key.startswith("distill_")}
    optimizer = steps(task, data, 3)
    assert all(p.grad is not None for p in task.parameters() if p.requires_grad)
    assert {"distillation"} < {group["name"] for group in optimizer.param_groups}
    assert task.training_losses(data)["distill_features"] < first["distill_features"]

    held = task.distillation._teacher[0]
    assert not held.training and not any(p.requires_grad for p in held.parameters())
    now = held.state_dict()
    assert all(torch.equal(value, now[key]) for key, value in teacher.state_dict().items() if "num_batches" not in key)
    projections = {key for key in task.state_dict() if key.startswith(PREFIX)}
    assert projections and len(projections) <= 2 * len(CASES) and not any("teacher" in key for key in projections)

    (tmp_path / "teacher.ckpt").rename(tmp_path / "elsewhere.ckpt")
    save_checkpoint(task, tmp_path / "student.ckpt")
    save_bundle(task, tmp_path / "bundle", card={})
    several = [given(task.name, image) for image in images(1)]
    ours = Predictor(task.eval())
    for path in (tmp_path / "student.ckpt", tmp_path / "bundle"):
        found = load(path)  # nobody asks for the teacher
        assert found.task.config["distill"] is None
        assert not any(key.startswith(PREFIX) for key in found.task.state_dict())
        close(ours, found, several, 1e-5)


@pytest.mark.parametrize("name", ["classification", "semantic_segmentation"])
def test_a_teacher_of_logits(name, tmp_path):
    torch.manual_seed(0)
    teacher = build(name, "test_convnext")
    save_bundle(teacher, tmp_path / "teacher", card={})
    task = build(name, distill=DistillConfig(str(tmp_path / "teacher"), features=0.0, logits=1.0, temperature=2.0))
    data = batch(task, 4)
    task.setup("fit")
    found = task.training_losses(data)["distill_logits"]
    with torch.no_grad():
        own, other = (each.eval().run(data).logits / 2 for each in (task, teacher))
        task.eval()
        found = task.training_losses(data)["distill_logits"]
    if other.shape != own.shape:
        other = torch.nn.functional.interpolate(other, size=own.shape[-2:], mode="bilinear", align_corners=False)
    p, q = other.softmax(1).numpy(), own.softmax(1).numpy()
    expected = 4 * (p * (np.log(p) - np.log(q))).sum(1).mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-4)
    assert not list(task.distillation.parameters())


@pytest.mark.parametrize(
    "name", [name for name in TASKS if name not in ("classification", "semantic_segmentation", "multitask")]
)
def test_tasks_without_such_logits_refuse_a_teacher_of_them(name, tmp_path):
    save_checkpoint(build(name), tmp_path / "teacher.ckpt")
    task = build(name, distill=DistillConfig(str(tmp_path / "teacher.ckpt"), logits=1.0))
    with pytest.raises(UsageError, match=r"no logits per image or pixel.*set features alone"):
        task.setup("fit")


def test_the_command_line_takes_both_and_measures_without_the_teacher(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    teacher = build("classification", classes=OBJECT_CLASSES, input=InputSpec(size=(32, 32), resize_mode="stretch"))
    save_checkpoint(teacher, tmp_path / "teacher.ckpt")
    given = [
        *("-c", "classification", "-c", "scenes", "--model.backbone", "test_resnet", "--model.input.size", "[32,32]"),
        *("--data.count", "8", "--data.eval_count", "4", "--data.batch_size", "4", "--trainer.accelerator", "cpu"),
        *("--model.adapters.rank", "2", "--model.adapters.layers", "convolution", "--run", "run"),
        *("--model.distill.teacher", "teacher.ckpt", "--trainer.max_epochs", "1", "--report", "false"),
    ]
    assert main(["fit", *given]) == 0
    assert "parameters are trained" in capsys.readouterr().out
    assert main(["fit", "-c", "run/config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", "2"]) == 0
    (tmp_path / "teacher.ckpt").unlink()
    assert main(["validate", "--ckpt_path", "run"]) == 0
    assert main(["export", "run/checkpoints/last.ckpt", "--out", "bundle"]) == 0
    served = load(tmp_path / "bundle").task
    assert served.config["adapters"] is None and served.config["distill"] is None
    capsys.readouterr()
    assert main(["fit", *given[:-6], "--run", "other", "--model.distill.teacher", "teacher.ckpt"]) == 4
    assert capsys.readouterr().err.strip().splitlines()[-1].count("teacher.ckpt") == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--model.adapters.rank", "0"), "model.adapters.rank 0: must be at least 1"),
        (("--model.adapters.ranks", "4"), "ranks"),
        (("--model.distill.features", "1"), "teacher"),
    ],
)
def test_the_command_line_refuses_in_one_line(option, message, tmp_path, capsys):
    given = ["-c", "classification", "-c", "scenes", "--model.backbone", "test_resnet", "--run", str(tmp_path / "run")]
    assert main(["fit", *given, *option]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1] and not any("Traceback" in line for line in said)
