"""One suite that every registered task inherits."""

from __future__ import annotations

import io
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

from tests.contracts.cases import CASES, backbone_of, batch, build, given, images, samples
from tests.thrifty import first_of
from visionkit.callbacks.analysis import AnalysisReport
from visionkit.checkpoint import AtomicCheckpointIO, load_task, save_bundle
from visionkit.export import export_bundle
from visionkit.loading import SampleDataset
from visionkit.optim import OptimConfig, build_optimizer
from visionkit.predictions import Prediction
from visionkit.predictor import Predictor, load
from visionkit.preprocess import Preprocessor
from visionkit.registry import task_names

TASKS = task_names()
every_task = pytest.mark.parametrize("name", TASKS)
every_network = pytest.mark.parametrize(
    ("name", "network"),
    [
        (name, network)
        for name in TASKS
        if name in CASES
        for network in (*CASES[name].networks, *CASES[name].architectures)
    ],
)


def every_quick_task(*slow):
    """Every task; those that are named take long and are run by `make slow`."""
    marked = [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in TASKS]
    return pytest.mark.parametrize("name", marked)


def test_every_installed_task_has_a_case():
    assert set(TASKS) == set(CASES)


@every_network
def test_forward_returns_one_type_in_every_mode(name, network):
    task = build(name, network)
    data = batch(task)
    assert all(each.dtype == torch.uint8 for each in data["inputs"].values())
    for training in (True, False):
        task.train(training)
        outputs = task.run(data)
        assert type(outputs) is task.outputs
        assert hasattr(outputs, "_fields")


@every_network
def test_the_network_sees_the_values_of_timms_own_transform(name, network):
    """Nothing is scaled, shifted or reordered on the way from a served image to the network, save as timm does it."""
    task = build(name, network).eval()
    backbone = backbone_of(name, network)
    known = timm.is_model(backbone)
    statistics = (
        resolve_data_config(model=timm.create_model(backbone)) if known else {"mean": (0,) * 3, "std": (1,) * 3}
    )
    size = (3, *task.input.size)
    transform = create_transform(size, mean=statistics["mean"], std=statistics["std"], crop_pct=1.0)
    image = np.random.default_rng(0).integers(0, 256, (*task.input.size, 3), dtype=np.uint8)
    seen = []
    task.normalize.register_forward_hook(lambda _, before, values: seen.append(values))
    if known:
        task.network.backbone.register_forward_pre_hook(lambda _, values: seen.append(values[0]))
    Predictor(task)(given(name, image, shift=0))
    assert len(seen) >= 1 + known
    for values in seen:
        assert torch.allclose(values[0], transform(Image.fromarray(image)), atol=1e-5)


@every_network
def test_losses_are_finite_and_reach_every_parameter(name, network):
    task = build(name, network).train()
    data = batch(task, 4)
    terms = task.losses(task.run(data), data["target"])
    assert terms
    assert all(torch.isfinite(value) for value in terms.values())
    sum(terms.values()).backward()
    without = [key for key, p in task.named_parameters() if p.grad is None]
    assert not without, "an unused parameter stops distributed training"
    assert any(p.grad.abs().sum() > 0 for key, p in task.named_parameters() if key.startswith(CASES[name].steered))


LONG = (
    *("instance_segmentation", "super_resolution", "multitask", "detection", "camera_motion", "restoration"),
    *("depth", "optical_flow"),
)


@every_quick_task(*LONG)
def test_overfits_a_few_images(name):
    task, data, first, last = trained(name, CASES[name].overfit_steps)
    assert last < CASES[name].loss_left * first
    task.eval()
    task.measure(task.decode(task.run(data)), data)
    metric = task.monitor[0].partition("/")[2]
    reached = last if metric == "loss" else float(task.metrics.compute()[metric])
    assert reached >= CASES[name].overfit if task.monitor[1] == "max" else reached <= CASES[name].overfit


@pytest.mark.parametrize("name", LONG)
def test_a_few_steps_reduce_the_loss(name):
    _, _, first, last = trained(name, 12, lr=1e-3)
    assert last < 0.9 * first


def trained(name, steps, lr=3e-3):
    """A task after some steps on the same few images, these, and the loss of the first and of the last step."""
    torch.manual_seed(0)
    task = build(name, optim=OptimConfig(lr=lr, weight_decay=0.0)).train()
    data = batch(task, CASES[name].overfit_images)
    optimizer = build_optimizer(task.parameter_groups(), task.optim)
    losses = []
    for _ in range(steps):
        loss = task.training_step(data, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return task, data, losses[0], losses[-1]


@every_network
def test_checkpoint_and_bundle_give_equal_predictions(name, network, tmp_path):
    torch.manual_seed(1)
    task = build(name, network).eval()
    checkpoint = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    json.dumps(checkpoint["visionkit"])
    AtomicCheckpointIO().save_checkpoint(checkpoint, tmp_path / "a.ckpt")
    save_bundle(task, tmp_path / "bundle", card={"data": "noise"})
    shown = [given(name, image) for image in images(3)]
    expected = [Predictor(task)(image) for image in shown]
    for path, message in ((tmp_path / "a.ckpt", task), (tmp_path / "bundle", task.served())):
        again = load(path)
        assert again.task.config == message.config | ({"pretrained": False} if "pretrained" in task.config else {})
        assert [again(image) for image in shown] == expected


@every_task
def test_prediction_survives_json_and_can_be_drawn(name):
    task = build(name).eval()
    image = images(1)[0]
    prediction = Predictor(task)(given(name, image))
    assert prediction.kind in task.kinds, "the demo makes the task's page for these"
    record = json.loads(json.dumps(prediction.to_json()))
    assert Prediction.from_json(record) == prediction
    drawn = prediction.draw(image)
    assert drawn.dtype == np.uint8 and drawn.ndim == 3


@every_task
def test_a_list_equals_one_by_one_whatever_the_sizes(name):
    predictor = Predictor(build(name).eval())
    several = [given(name, image) for image in images(5)]
    for together, image in zip(predictor(several), several, strict=True):
        alone = predictor(image)
        if (found := together.difference(alone)) is not None:
            assert found.largest <= 1e-4
        else:
            assert json.dumps(_rounded(together.to_json())) == json.dumps(_rounded(alone.to_json()))


@every_task
def test_an_image_of_one_color_and_one_of_one_pixel_are_served(name):
    predictor = Predictor(build(name).eval())
    for image in (
        np.full((50, 30, 3), 114, np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((3, 500, 3), np.uint8),
    ):
        json.dumps(predictor(given(name, image)).to_json(), allow_nan=False)


@every_task
def test_what_is_validated_is_what_is_served(name):
    task = build(name).eval()
    several = samples(name, 3)
    example = SampleDataset(several, Preprocessor(task.input))
    for k, sample in enumerate(several):
        served, geometry = Preprocessor(task.input).prepare(sample.image)
        seen = example[k]["inputs"][task.inputs[0]]
        assert torch.equal(seen if task.input.frames == 1 else seen[-1], served)
        assert example[k]["geometry"] == geometry


# The quick ones hold every part of a graph: a backbone with its head, three heads of three tasks on one backbone
# (classes, boxes, a dense map), two inputs, keypoints. Those of the other tasks have the same parts, or quick tests of
# their own beside their networks (`tests/tasks`); clips are exported in `test_toys.py`, the second stage of masks
# alone in `tests/visionkit/test_export_parts.py`.
GRAPHS = ("classification", "multitask", "patch_matching", "pose")


@pytest.mark.parametrize("name", first_of(TASKS, GRAPHS))
def test_onnx_agrees(name, tmp_path):
    torch.manual_seed(2)
    task = build(name).eval()
    several = [given(name, image) for image in images(3, seed=5)]
    export_bundle(task, tmp_path / "bundle", onnx=True, card={"data": "noise"}, images=several)
    ours, exported = load(tmp_path / "bundle"), load(tmp_path / "bundle", engine="onnx")
    for image in several:
        predictions = ours(image), exported(image)
        if (found := predictions[0].difference(predictions[1])) is not None:
            assert found.largest <= 1e-4
        else:
            a, b = (_numbers(prediction.to_json()) for prediction in predictions)
            assert np.allclose(a, b, atol=1e-4)


@every_task
def test_other_classes_are_refused_not_relabelled(name, tmp_path):
    task = build(name)
    checkpoint = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    if len(task.classes) < 2:
        pytest.skip(f"{name} has no order of classes")
    other = build(name, classes=tuple(reversed(task.classes)))
    with pytest.raises(Exception, match="class 0 is"):
        other.on_load_checkpoint(checkpoint)


@every_task
def test_checkpoint_opens_with_weights_only(name):
    task = build(name)
    checkpoint = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    file = io.BytesIO()
    torch.save(checkpoint, file)
    file.seek(0)
    assert torch.load(file, weights_only=True)["visionkit"]["task"] == name


@every_task
def test_loading_a_checkpoint_never_downloads(name, tmp_path):
    task = build(name)
    config = {**task.config, **({"pretrained": True} if "pretrained" in task.config else {})}
    checkpoint = {"state_dict": task.state_dict(), "visionkit": {"format": 1, "task": name, "config": config}}
    AtomicCheckpointIO().save_checkpoint(checkpoint, tmp_path / "a.ckpt")
    load_task(tmp_path / "a.ckpt")  # the suite refuses every connection, see conftest


def _rounded(value):
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


def _numbers(value):
    if isinstance(value, (bool, str)) or value is None:
        return []
    if isinstance(value, (int, float)):
        return [float(value)]
    items = value.values() if isinstance(value, dict) else value
    return [number for item in items for number in _numbers(item)]


@every_task
def test_an_analysis_has_a_row_for_every_image_and_needs_no_other_file(name, tmp_path):
    task = build(name).eval()
    some = samples(name, 4)
    loader = SimpleNamespace(dataset=SampleDataset(some, Preprocessor(task.input)), sampler=range(4))
    trainer = SimpleNamespace(world_size=1, callback_metrics={}, loggers=[])
    report = AnalysisReport(tmp_path, worst=3)
    report.begin(trainer, loader, task)
    data = batch(task, 4)
    report.add(task, task.decode(task.run(data)), data)
    report.close(trainer, task, "test")
    record = json.loads((tmp_path / "analysis.json").read_text())
    assert record["images"] == 4 == len((tmp_path / "images.csv").read_text().splitlines()) - 1
    assert record["tables"], "every task states something of its errors, or of groups of images"
    page = (tmp_path / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:image/)', page)
    assert len(re.findall("<figure>", page)) >= len(record["worst images"])
