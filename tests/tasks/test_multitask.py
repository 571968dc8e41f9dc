from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning import Callback, Trainer

from datamodules.joint import JointData
from datamodules.scene_data import SceneData
from tasks.classification import ClassificationTask
from tasks.depth import DepthTask
from tasks.multitask import MultiTask
from tasks.multitask.balancing import GradNorm, Uncertainty, WeightAverage, project_conflicts
from tasks.multitask.joining import join, name_models, split
from tasks.multitask.loss import with_pcgrad
from tests.processes import SERVER
from tests.ranks import on_two_ranks
from ui.cli import main
from visionkit.backbones import Backbone
from visionkit.callbacks import default_callbacks
from visionkit.checkpoint import find_last, load_task, save_checkpoint
from visionkit.errors import CheckpointError, UsageError
from visionkit.geometry import InputSpec
from visionkit.loading import SampleDataset, collate
from visionkit.optim import OptimConfig, build_optimizer
from visionkit.predictor import Predictor
from visionkit.preprocess import Preprocessor
from visionkit.synthetic import OBJECT_CLASSES, SEMANTIC_CLASSES

SPEC = InputSpec(size=(64, 64), resize_mode="stretch")
WHAT = {"task": "classification", "arguments": {"classes": list(OBJECT_CLASSES)}}
FAR = {"task": "depth", "arguments": {"architecture": "segformer", "segformer": {"channels": 8}}}
OBJECTS = {
    "task": "detection",
    "arguments": {
        "classes": list(OBJECT_CLASSES),
        "fcos": {"neck_channels": 16, "convs": 1, "strides": [8, 16, 32], "extra_levels": "none"},
    },
}
_ARGUMENTS = {"neck_channels": 16, "strides": [8, 16, 32]}
LOCALIZER = {"classes": list(OBJECT_CLASSES), "architecture": "localizer", "localizer": _ARGUMENTS}
POSES = {
    "task": "pose",
    "arguments": {"architecture": "openpose", "openpose": {"stride": 16, "deconvs": 1, "width": 16, "stages": 1}},
}


def joint(heads: dict[str, Any] | None = None, **arguments: Any) -> MultiTask:
    torch.manual_seed(0)
    return MultiTask(
        "test_resnet", heads={"what": WHAT, "far": FAR} if heads is None else heads, input=SPEC, **arguments
    )


def scenes(counts: dict[str, int], mix: str = "shuffled", apart: bool = False, **options: Any) -> JointData:
    """Scenes with labels for some heads; a part of fewer leaves the other scenes without its label."""
    targets = {"what": "labels", "far": "depth", "objects": "boxes", "poses": "keypoints"}
    targets |= {"masks": "masks", "regions": "label_map"}
    parts: dict[str, Any] = {
        name: SceneData(targets[name], count=count, eval_count=count, size=(64, 64), people=0.5)
        for name, count in counts.items()
    }
    together = None if apart else [list(parts)]
    return JointData(parts, together=together, mix=mix, input=SPEC, **{"batch_size": 4, "seed": 3, **options})


def batch_of(data: JointData, rows: list[int]) -> Any:
    dataset = SampleDataset(data.samples("train"), Preprocessor(SPEC))
    return collate([dataset[row] for row in rows])


def state_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


# ---------------------------------------------------------------------- one backbone


def test_every_heads_loss_gives_the_backbone_a_gradient():
    task = joint({"what": WHAT, "far": FAR, "objects": OBJECTS, "poses": POSES}).train()
    batch = batch_of(scenes({"what": 4, "far": 4, "objects": 4, "poses": 4}), [0, 1, 2, 3])
    felt: list[torch.Tensor] = []
    stem = next(iter(task.network.backbone.parameters()))
    stem.register_hook(felt.append)
    for name in task.tasks:
        felt.clear()
        terms = task.losses(task.run(batch), batch["target"])
        sum(value for key, value in terms.items() if key.startswith(f"{name}/")).backward()
        assert felt and felt[0].abs().sum() > 0, name


def test_the_backbone_runs_once_and_is_stored_once():
    task = joint({"what": WHAT, "far": FAR, "objects": OBJECTS}).eval()
    runs: list[int] = []
    task.network.backbone.register_forward_hook(lambda *_: runs.append(1))
    Predictor(task)(np.zeros((50, 60, 3), np.uint8))
    assert len(runs) == 1
    keys = list(task.state_dict())
    assert all(key.startswith("network.backbone.") for key in keys if "backbone" in key)
    assert len(keys) == len({value.data_ptr() for value in task.state_dict().values() if value.dim()}) + sum(
        not value.dim() for value in task.state_dict().values()
    ), "no tensor lies there twice"


def test_a_head_states_what_its_own_task_states():
    task = joint().eval()
    alone = split(task)
    image = np.random.default_rng(0).integers(0, 256, (48, 72, 3), dtype=np.uint8)
    predictions = Predictor(task)(image)
    assert list(predictions) == ["what", "far"]
    assert isinstance(alone["what"], ClassificationTask) and isinstance(alone["far"], DepthTask)
    assert np.allclose(predictions["what"].probabilities, Predictor(alone["what"])(image).probabilities, atol=1e-6)
    assert np.allclose(predictions["far"].values, Predictor(alone["far"])(image).values, atol=1e-6)


def test_an_image_without_a_label_has_no_loss_and_is_not_processed():
    task = joint().train()
    data = scenes({"what": 6, "far": 3})
    batch = batch_of(data, [1, 4, 2, 5])
    assert batch["target"]["heads"]["far"]["rows"].tolist() == [0, 2]
    outputs = task(batch["inputs"]["image"], task._rows(batch))
    assert outputs.what_logits.shape[0] == 4 and outputs.far_depth.shape[0] == 2
    none = batch_of(data, [3, 4])
    assert list(none["target"]["heads"]) == ["what"]
    loss = task.training_step(none, 0)
    loss.backward()
    grads = {key: p.grad for key, p in task.named_parameters()}
    assert all(grad is not None for grad in grads.values()), "other processes wait for every weight"
    assert all(not grad.any() for key, grad in grads.items() if key.startswith("network.heads.far"))


def test_metrics_count_labeled_images_alone():
    task = joint().eval()
    data = scenes({"what": 6, "far": 3})
    with torch.inference_mode():
        task._evaluate(batch_of(data, [0, 1, 3, 4]))
        task._evaluate(batch_of(data, [5]))
    mixed = task.metrics.compute()
    alone = joint({"far": FAR}).eval()
    alone.load_state_dict({key: value for key, value in task.state_dict().items() if "what" not in key}, strict=False)
    with torch.inference_mode():
        alone._evaluate(batch_of(scenes({"far": 3}), [0, 1]))
    assert torch.allclose(mixed["far/abs_rel"], alone.metrics.compute()["far/abs_rel"])
    assert 0 <= float(mixed["score"]) <= 1


# ---------------------------------------------------------------------- learning


def steps(task: MultiTask, batch: Any, count: int = 3) -> None:
    task.setup("fit")
    task.train()
    optimizer = build_optimizer(task.parameter_groups(), task.optim)
    for _ in range(count):
        optimizer.zero_grad()
        task.training_step(batch, 0).backward()
        optimizer.step()


@pytest.mark.parametrize("backbone", ["none", "backbone"])
def test_a_frozen_head_stays_bit_equal(backbone):
    far = {**FAR, "freeze": True}
    task = joint({"what": WHAT, "far": far}, optim=OptimConfig(lr=1e-2, freeze=backbone))
    before = state_of(task)
    steps(task, batch_of(scenes({"what": 4, "far": 4}), [0, 1, 2, 3]))
    after = task.state_dict()
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert not any(key.startswith("network.heads.far") for key in changed)
    assert any(key.startswith("network.heads.what") for key in changed)
    assert any(key.startswith("network.backbone") for key in changed) == (backbone == "none")


def test_a_head_has_its_own_rate_and_schedule():
    what = {**WHAT, "optim": {"lr": 0.5, "schedule": "constant", "warmup": 0}}
    task = joint({"what": what, "far": FAR}, optim=OptimConfig(lr=1e-3, warmup=0.5))
    rates = {group["name"].partition(".")[0]: group["lr"] for group in task.parameter_groups()}
    assert rates["what"] == 0.5 and rates["far"] == 1e-3
    trainer = _train(task, scenes({"what": 8, "far": 8}), max_steps=2)
    now = {group["name"].partition(".")[0]: group["lr"] for group in trainer.optimizers[0].param_groups}
    assert now["what"] == 0.5 and now["far"] != 1e-3


def test_uncertainty_finds_the_weights_that_it_should():
    balance = Uncertainty(["a", "b"])
    optimizer = torch.optim.SGD(balance.parameters(), lr=0.2)
    for _ in range(300):
        optimizer.zero_grad()
        sum(balance({"a": torch.tensor(4.0), "b": torch.tensor(0.25)}).values()).backward()
        optimizer.step()
    # exp(-s) L + s / 2 is least at exp(-s) = 1 / (2 L)
    assert balance.weights()["a"].item() == pytest.approx(1 / 8, rel=1e-2)
    assert balance.weights()["b"].item() == pytest.approx(2.0, rel=1e-2)


def test_gradnorm_makes_gradients_alike():
    features = torch.ones(4, requires_grad=True)
    balance = GradNorm(["small", "large"], alpha=0.5, lr=0.05).train()
    for _ in range(200):
        balance({"small": features.sum(), "large": 9 * features.sum()}, [features])
    weights = balance.weights()
    assert weights["small"] / weights["large"] == pytest.approx(9.0, rel=0.3)
    assert float(sum(weights.values())) == pytest.approx(2.0)


def test_dynamic_weight_averaging_helps_what_falls_least():
    balance = WeightAverage(["falls", "stays"]).train()
    for falls in (4.0, 2.0, 1.0):
        for _ in range(2):
            balance({"falls": torch.tensor(falls), "stays": torch.tensor(3.0)})
        balance.end_epoch()
    falls, stays = np.exp(0.5 / 2), np.exp(1.0 / 2)
    assert balance.weights()["stays"].item() == pytest.approx(2 * stays / (falls + stays), rel=1e-5)


def test_pcgrad_takes_out_what_points_against_another_head():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])
    (both,) = project_conflicts([[a], [b]], step=0)
    # a loses its part along b and b its part along a
    assert torch.allclose(both, torch.tensor([0.5, 0.5]) + torch.tensor([0.0, 1.0]))
    (alike,) = project_conflicts([[a], [torch.tensor([1.0, 1.0])]], step=0)
    assert torch.allclose(alike, torch.tensor([2.0, 1.0]))
    weight = torch.nn.Parameter(torch.zeros(2))
    loss = with_pcgrad([(weight * a).sum() + 3, (weight * b).sum()], [weight], step=0)
    loss.backward()
    assert loss.item() == 3 and torch.allclose(weight.grad, both)


@pytest.mark.parametrize("options", [{"balance": "gradnorm"}, {"balance": "uncertainty", "pcgrad": True}])
def test_balancing_trains_with_heads_that_are_missing(options):
    task = joint(**options)
    data = scenes({"what": 6, "far": 3})
    for rows in ([0, 1, 2, 3], [3, 4]):
        steps(task, batch_of(data, rows), 2)
    assert all(torch.isfinite(value).all() for value in task.state_dict().values())
    assert task.served().balance.state_dict() == {}


class _Dies(Callback):
    """`kill -9` before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def _train(task: MultiTask, data: JointData, run: Path | None = None, *extra: Callback, **options: Any) -> Trainer:
    lightning.seed_everything(5, verbose=False)
    callbacks = default_callbacks(task, run=run, ema=0.9, checkpoint_every=1, show_progress=False) if run else []
    trainer = Trainer(
        default_root_dir=run,
        callbacks=[*extra, *callbacks],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=bool(run),
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 2, "limit_val_batches": 1, "num_sanity_val_steps": 0, **options},
    )
    trainer.fit(task, datamodule=data, ckpt_path=find_last(run / "checkpoints") if run else None)
    return trainer


def _killed(heads: Any, balance: str, counts: dict[str, int], run: Path, moment: int) -> None:
    torch.set_num_threads(1)
    _train(joint(heads, balance=balance), scenes(counts, "round_robin", apart=True), run, _Dies(moment))


@pytest.mark.parametrize("balance", ["dwa", "gradnorm"])
def test_what_was_killed_goes_on_bit_for_bit(balance, tmp_path):
    heads = {"what": {**WHAT, "arguments": {**WHAT["arguments"], "dropout": 0.3}}, "far": FAR}
    counts = {"what": 12, "far": 8}
    ends = []
    for name, moments in (("whole", ()), ("broken", (2, 4))):
        run = tmp_path / name
        for moment in moments:
            process = SERVER.Process(target=_killed, args=(heads, balance, counts, run, moment))
            process.start()
            process.join(240)
            process.kill()
            assert process.exitcode == -signal.SIGKILL
        _train(joint(heads, balance=balance), scenes(counts, "round_robin", apart=True), run)
        ends.append(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True))
    whole, broken = ends
    assert whole["global_step"] == broken["global_step"] > 4
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, broken[part][key]) for key, value in whole[part].items()), part
    assert str(whole["optimizer_states"]) == str(broken["optimizer_states"])


# ---------------------------------------------------------------------- joint heads of the literature

RCNN = {
    "hidden": 16,
    "canonical_box_size": 56,
    "post_nms_top_n": 8,
    "train_post_nms_top_n": 8,
    "rpn_batch_size_per_image": 16,
    "box_batch_size_per_image": 8,
}
SMALL_RCNN = {**RCNN, "neck_channels": 16}
MASKS = {
    "task": "instance_segmentation",
    "arguments": {"classes": list(OBJECT_CLASSES), "mask_rcnn": {**SMALL_RCNN, "mask_hidden": 16}},
}
POSES = {"task": "pose", "arguments": {"architecture": "keypoint_rcnn", "keypoint_rcnn": SMALL_RCNN}}
REGIONS = {
    "task": "semantic_segmentation",
    "arguments": {"classes": list(SEMANTIC_CLASSES), "architecture": "segformer", "segformer": {"channels": 8}},
}


@pytest.mark.parametrize(
    "heads",
    [
        {"what": WHAT, "objects": {**OBJECTS, "arguments": LOCALIZER}},
        pytest.param({"masks": MASKS, "poses": POSES}, marks=pytest.mark.slow),
        {"regions": REGIONS, "far": FAR},
    ],
    ids=["classification and localisation", "Mask R-CNN with keypoints", "segmentation and depth"],
)
def test_known_keypoint_models_train_are_measured_and_predict(heads, tmp_path):
    task, data = joint(heads), scenes(dict.fromkeys(heads, 8))
    batch = batch_of(data, [0, 1, 2, 3])
    task.train()
    terms = task.losses(task.run(batch), batch["target"])
    assert {name.split("/")[0] for name in terms} == set(heads)
    own = {
        name: {key: p for key, p in head.named_parameters() if not key.startswith("backbone.")}
        for name, head in task.network.heads.items()
    }
    before = {name: {key: p.detach().clone() for key, p in parts.items()} for name, parts in own.items()}
    trainer = _train(task, data, tmp_path / "run", max_epochs=1)
    for name, head in task.tasks.items():
        assert any(not torch.equal(p, before[name][key]) for key, p in own[name].items()), f"{name} learns nothing"
        assert f"val/{name}/{head.monitor[0].removeprefix('val/')}" in trainer.callback_metrics
    predictor = Predictor(load_task(find_last(tmp_path / "run" / "checkpoints")))
    prediction = predictor(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    assert list(prediction) == list(heads)
    if "objects" in heads:
        assert len(prediction["objects"]) <= 1


# ---------------------------------------------------------------------- two processes


def _rank(rank: int) -> tuple[Any, Any]:
    return _work([[0, 1], [3]][rank], [[0, 1, 4], [2, 3, 5]][rank], distributed=True)


class _Step(torch.nn.Module):
    def __init__(self, task: MultiTask) -> None:
        super().__init__()
        self.task = task

    def forward(self, batch: Any) -> Any:
        return self.task.training_step(batch, 0)


def _work(trained: list[int], measured: list[int], distributed: bool = False) -> tuple[Any, Any]:
    """Gradients of one step on some images, and the metrics on others; of scene 3 on there is no depth."""
    task = joint().eval()  # batch norm of its own on every process would distinguish them
    data = scenes({"what": 6, "far": 3})
    step: Any = torch.nn.parallel.DistributedDataParallel(_Step(task)) if distributed else _Step(task)
    step(batch_of(data, trained)).backward()
    gradients = {key: p.grad.numpy().copy() for key, p in task.named_parameters()}
    with torch.inference_mode():
        task._evaluate(batch_of(data, measured))
    logged = task._eval_log.flush(reduce=True)
    # The loss of depth is a mean over the pixels of a batch, so it depends on who shares one; metrics do not.
    values = {**task.metrics.compute(), "loss": logged["what/loss"], "far": logged["far/loss"] * 0}
    return gradients, {key: float(value) for key, value in values.items() if value.numel() == 1}


@pytest.mark.timeout(300)
def test_two_ranks_equal_one_though_one_lacks_a_heads_labels():
    gradients, metrics = _work([0, 1, 3], [0, 1, 2, 3, 4, 5])
    for theirs, measured in on_two_ranks(_rank):
        assert measured.keys() == metrics.keys()
        assert all(measured[key] == pytest.approx(metrics[key], rel=1e-5, nan_ok=True) for key in metrics)
        for key, value in gradients.items():
            assert np.allclose(theirs[key], value, rtol=1e-3, atol=1e-6), key


# ---------------------------------------------------------------------- joining


@pytest.fixture
def apart() -> dict[str, Any]:
    """Two models on one frozen backbone, each of which reads another part of it."""
    torch.manual_seed(3)
    what = ClassificationTask("test_resnet", classes=["a", "b"], input=SPEC)
    far = DepthTask("test_resnet", architecture="segformer", segformer={"channels": 8}, input=SPEC)
    far.network.backbone.load_state_dict(what.network.backbone.state_dict())
    return {"what": what.eval(), "far": far.eval()}


def test_joined_models_predict_as_they_did_apart(apart, tmp_path, capsys):
    for name, task in apart.items():
        save_checkpoint(task, tmp_path / f"{name}.ckpt")
    files = [str(tmp_path / "what.ckpt"), f"distance={tmp_path / 'far.ckpt'}"]
    assert main(["join", *files, "--out", str(tmp_path / "joint.ckpt")]) == 0
    both = load_task(tmp_path / "joint.ckpt")
    for seed in range(3):
        image = np.random.default_rng(seed).integers(0, 256, (40 + seed, 70, 3), dtype=np.uint8)
        predictions = Predictor(both)(image)
        expected = {name: Predictor(task)(image) for name, task in apart.items()}
        assert np.abs(predictions["what"].probabilities - expected["what"].probabilities).max() <= 1e-6
        assert np.abs(predictions["distance"].values - expected["far"].values).max() <= 1e-6
    assert main(["split", str(tmp_path / "joint.ckpt"), "--out", str(tmp_path / "parts")]) == 0
    for name, file in (("what", "what"), ("far", "distance")):
        again = load_task(tmp_path / "parts" / f"{file}.ckpt").state_dict()
        assert all(torch.equal(value, again[key]) for key, value in apart[name].state_dict().items())
    assert main(["join", *files, "--out", str(tmp_path / "joint.ckpt")]) == 2
    assert "already exists" in capsys.readouterr().err


def test_other_backbones_are_refused_by_the_names_of_their_tensors(apart):
    with torch.no_grad():
        apart["far"].network.backbone.model.layer1[0].conv1.weight[0] += 1e-3
    with pytest.raises(CheckpointError, match=r"network\.backbone\.model\.layer1\.0\.conv1\.weight differ"):
        join(apart)
    other = ClassificationTask("test_resnet", classes=["a", "b"], input=InputSpec(size=(96, 96), resize_mode="stretch"))
    with pytest.raises(CheckpointError, match=r"its input is .*96"):
        join({"what": apart["what"], "more": other})
    with pytest.raises(UsageError, match="two models are called"):
        name_models(["runs/a/checkpoints/last.ckpt", "a=b.ckpt"])


def test_a_backbone_that_a_head_alone_would_prune_is_whole_for_the_others():
    task = joint({"poses": POSES, "what": WHAT})
    whole = Backbone("test_resnet", strides=(16,))
    assert {key for key in whole.state_dict() if not key.startswith("model.fc")} <= {
        key.removeprefix("network.backbone.") for key in task.state_dict()
    }
