"""Heads and their data: what is joined, who takes turns, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.augmentation import PoseAugment
from datamodules.folders import FolderData
from datamodules.joint import JointData, read_vocabulary
from datamodules.scene_data import SceneData
from datamodules.set_sampler import SetSampler, interleave
from tasks.multitask import MultiTask
from tasks.multitask.heads import Head
from tests.tasks.test_multitask import FAR, OBJECTS, SPEC, WHAT, _train, batch_of, joint, scenes
from ui.cli import main
from visionkit.checkpoint import load_task, save_checkpoint
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.optim import OptimConfig
from visionkit.plain_values import plain
from visionkit.sampling import Stretch
from visionkit.skeleton import Skeleton
from visionkit.synthetic import OBJECT_CLASSES

# ---------------------------------------------------------------------- data


def test_parts_with_the_same_images_are_joined_and_a_missing_label_stays_missing():
    samples = scenes({"what": 3, "far": 5}).samples("train")
    assert len(samples) == 5
    assert [sorted(sample.target["heads"]) for sample in samples] == [["far", "what"]] * 3 + [["far"]] * 2
    apart = scenes({"what": 3, "far": 5}, apart=True)
    assert [list(sample.target["heads"]) for sample in apart.samples("train")] == [["what"]] * 3 + [["far"]] * 5


@pytest.mark.parametrize(
    ("mix", "batches"), [("round_robin", {0: 6, 1: 6}), ("proportional", {0: 2, 1: 10}), ("temperature", {0: 4, 1: 8})]
)
def test_sets_take_turns(mix, batches):
    exponent = {"round_robin": 0.0, "proportional": 1.0, "temperature": 0.5}[mix]
    sampler = SetSampler([8, 40], 4, exponent, seed=1)
    sampler.set_epoch(0)
    order = np.array([index for _, index in sampler]).reshape(-1, 4)
    owners = (order >= 8).all(axis=1)
    assert np.array_equal(owners, (order >= 8).any(axis=1)), "a batch is of one set"
    assert {0: int((~owners).sum()), 1: int(owners.sum())} == batches
    again = SetSampler([8, 40], 4, exponent, seed=1)
    again.set_epoch(0)
    again.seen = [Stretch(1, 4, 3)]
    assert [index for _, index in again] == order.ravel()[12:].tolist()
    again.set_epoch(1)
    assert [index for _, index in again] != order.ravel().tolist()
    ranks = [SetSampler([8, 40], 2, exponent, seed=1, rank=rank, world=2) for rank in range(2)]
    pair = [np.array([index for _, index in each]).reshape(-1, 2) for each in ranks]
    assert np.array_equal((pair[0] >= 8).all(axis=1), (pair[1] >= 8).all(axis=1)), "ranks are at the same set"


def test_turns_are_even():
    assert interleave([1, 1, 1], 6) == [0, 1, 2, 0, 1, 2]
    assert interleave([1, 1000], 5).count(0) == 1


def test_one_augmentation_serves_every_heads_labels():
    data = scenes({"far": 4, "poses": 4, "objects": 4}, augment=PoseAugment(rotate=0, horizontal_flip=1.0))
    sample = data.samples("train")[0]
    changed = data.augment(sample, np.random.default_rng(0))
    assert changed.view is not None and changed.view.flip
    heads = changed.target["heads"]
    assert sorted(heads) == ["far", "objects", "poses"]
    eyes = heads["poses"]["keypoints"][:, 1], sample.target["heads"]["poses"]["keypoints"][:, 2]
    assert np.array_equal(*eyes), "left and right change names"


# ---------------------------------------------------------------------- bad input


def vocabulary(**classes: list[str]) -> dict[str, Any]:
    return {name: {"classes": each} for name, each in classes.items()}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: joint({}), "model.heads: at least one is needed"),
        (lambda: joint({"a": {"task": "detektion"}}), "model.heads.a.task 'detektion': .* did you mean 'detection'"),
        (lambda: joint({"a": {**WHAT, "wieght": 2}}), "model.heads.a.wieght: unknown; .*did you mean 'weight'"),
        (lambda: joint({"keys": WHAT}), "no name for a head"),
        (lambda: joint({"a": {"task": "super_resolution"}}), "allowed are"),
        (
            lambda: joint({"a": {"task": "classification", "arguments": {"input": SPEC}}}),
            "arguments.input: belongs to all heads",
        ),
        (
            lambda: joint({"a": {"task": "detection", "arguments": {"classes": ["x"], "fcos": {"strides": [3, 8]}}}}),
            "model.heads.a: .*no map of stride 3; it has strides",
        ),
        (
            lambda: joint({"a": {"task": "pose", "arguments": {"architecture": "cpm"}}}),
            "model.heads.a: architecture cpm .* another image",
        ),
        (
            lambda: joint({"what": WHAT}, vocabulary=vocabulary(what=["cat", "dog"])),
            "model.heads.what.arguments.classes: the head knows 8 .* data states 2",
        ),
        (lambda: joint({"what": WHAT}, vocabulary=vocabulary(waht=["cat"])), "head 'waht' .*did you mean 'what'"),
        (
            lambda: MultiTask("test_resnet", heads={"far": FAR}, input=InputSpec(size=(70, 64), resize_mode="stretch")),
            "head far on backbone 'test_resnet' needs multiples of 32",
        ),
        (lambda: joint(balance="gradnrom"), "did you mean 'gradnorm'"),
        (lambda: joint(balance_options={"alpha": 1}), "fixed has no such option"),
        (lambda: joint(monitor="waht/top1"), "heads are what, far"),
        (lambda: JointData({}), "data.parts: at least one"),
        (lambda: scenes({"what": 2}, mix="roundrobin"), "did you mean 'round_robin'"),
        (lambda: JointData({"a": SceneData()}, together=[["b"]]), "no part 'b'"),
    ],
)
def test_bad_input_is_one_clear_line(build, message):
    with pytest.raises(UsageError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_data_without_the_labels_of_its_head_is_refused():
    task = joint({"what": {"task": "detection", "arguments": OBJECTS["arguments"]}})
    with pytest.raises(UsageError, match="what: detection trains on boxes, labels and its data has labels"):
        task.training_step(batch_of(scenes({"what": 2}), [0, 1]), 0)
    with pytest.raises(UsageError, match="the data has labels for a head 'far'"):
        task.training_step(batch_of(scenes({"far": 2}), [0, 1]), 0)


def test_classes_that_contradict_are_refused():
    part = {"class_path": "datamodules.scene_data.SceneData"}
    names = list(OBJECT_CLASSES)
    args = {
        "parts": {
            "one": {**part, "init_args": {"target": "boxes"}},
            "two": {**part, "init_args": {"target": "boxes", "classes": names[::-1]}},
        },
        "serves": {"one": "objects", "two": "objects"},
    }
    with pytest.raises(
        UsageError, match=r"two and one: both serve the head objects, and their classes differ .number 0"
    ):
        read_vocabulary(args)
    assert read_vocabulary({"parts": {"objects": args["parts"]["one"]}})["objects"]["classes"] == names


def test_two_heads_with_one_name_are_refused(tmp_path, capsys):
    file = tmp_path / "two.yaml"
    file.write_text(
        "model:\n  class_path: MultiTask\n  init_args:\n    heads:\n"
        "      a: {task: depth}\n      a: {task: detection}\n"
    )
    assert main(["fit", "-c", str(file)]) == 2
    assert "line 6: duplicate key model.init_args.heads.a" in capsys.readouterr().err


def test_a_head_is_checked_as_a_dataclass_too():
    assert Head.of("a", Head("depth", weight=2)).weight == 2
    for weight, message in ((-1.0, "-1"), (float("nan"), "nan"), (float("inf"), "inf")):
        with pytest.raises(UsageError, match=rf"a\.weight {message}: a number of at least 0"):
            Head.of("a", Head("depth", weight=weight))


def test_a_skeleton_is_the_same_by_its_name_and_written_out():
    stored = Head.of("poses", {"task": "pose", "arguments": {"skeleton": plain(Skeleton.of("coco17"))}})
    assert stored.with_vocabulary({"skeleton": "coco17"}, "poses").arguments == stored.arguments
    with pytest.raises(
        UsageError, match=r"poses\.arguments\.skeleton: the head knows coco17 and its data states mpii16"
    ):
        stored.with_vocabulary({"skeleton": "mpii16"}, "poses")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.heads.wht.freeze", "true"], r"model\.heads\.wht: it has no 'task'.*did you mean 'what'"),
        (["--model.heads.what.weight", "heavy"], r"model\.heads\.what\.weight: 'heavy' is not of the type float"),
        (["--model.heads.what.wieght", "2"], r"model\.heads\.what\.wieght: .*did you mean 'weight'"),
        (["--model.heads.what.arguments.dropout", "0.1"], r"give model\.heads\.what\.arguments whole, as json"),
        (["--model.heads", "[a,b]"], r"model\.heads: a mapping is required, not \['a', 'b'\]"),
        (["--model.heads.what", "depth"], r"model\.heads\.what: 'depth' is no mapping"),
        (
            ["--model.heads.what.arguments", '{"dropout": "much"}'],
            r"model\.heads\.what: dropout: 'much' is not a number",
        ),
        (["--model.heads", '{"what": {"task": "classification"}, "far": {"task": "depth"}}'], "no part .* serves it"),
    ],
)
def test_wrongs_of_a_head_on_the_command_line_name_the_head(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(
        "model:\n  class_path: MultiTask\n  init_args:\n    backbone: test_resnet\n    input: {size: [64, 64]}\n"
        "    heads: {what: {task: classification}}\n"
        "data:\n  class_path: JointData\n  init_args:\n    parts:\n"
        "      what: {class_path: SceneData, init_args: {count: 8, eval_count: 8, size: [64, 64]}}\n    batch_size: 4\n"
    )
    assert main(["fit", "-c", "a.yaml", "--trainer.max_steps", "1", *arguments]) == 2
    report = [line for line in capsys.readouterr().err.splitlines() if line.startswith("visionkit: error")]
    assert len(report) == 1 and re.search(message, report[0])


def test_a_head_that_stays_as_it_is_needs_no_data():
    stays = {"what": WHAT, "far": {**FAR, "freeze": True}}
    task = joint(stays, optim=OptimConfig(freeze="backbone"))
    trainer = _train(task, scenes({"what": 4}), max_steps=1)
    assert trainer.global_step == 1
    with pytest.raises(UsageError, match=r"freeze true and --model\.optim\.freeze backbone"):
        _train(joint(stays), scenes({"what": 4}), max_steps=1)
    with pytest.raises(UsageError, match=r"model\.heads\.far: no part of the data serves it \(they serve what\)"):
        _train(joint({"what": WHAT, "far": FAR}), scenes({"what": 4}), max_steps=1)


def test_one_head_of_a_trained_model_goes_on_training_and_the_others_stay(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trained = joint({"what": WHAT, "far": FAR})
    save_checkpoint(trained, tmp_path / "trained.ckpt")
    (tmp_path / "data.yaml").write_text(
        "data:\n  class_path: JointData\n  init_args:\n    parts:\n      far:\n        class_path: SceneData\n"
        "        init_args: {target: depth, count: 8, eval_count: 4, size: [64, 64]}\n    batch_size: 4\n"
    )
    frozen = ["--model.optim.freeze", "backbone", "--model.heads.what.freeze", "true"]
    given = ["fit", "--init_from", "trained.ckpt", "-c", "data.yaml", *frozen, "--run", "more"]
    assert main([*given, "--trainer.max_epochs", "1", "--trainer.limit_val_batches", "1"]) == 0
    assert "init_from trained.ckpt: all weights are taken" in capsys.readouterr().err
    before, after = trained.state_dict(), load_task("more/checkpoints/last.ckpt").state_dict()
    changed = {key.split(".")[2] for key, value in before.items() if not torch.equal(value, after[key])}
    assert changed == {"far"}
    text = (tmp_path / "more" / "config.yaml").read_text()
    assert "init_from: trained.ckpt" in text, "config.yaml states where the weights began"


def test_each_part_reports_what_it_holds(tmp_path, capsys):
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for k in range(3):
            Image.new("RGB", (32, 32), (k, 9, len(name))).save(tmp_path / name / f"{k}.png")
    parts = {
        "animals": FolderData(str(tmp_path), val_fraction=0.34),
        "drawn": SceneData("boxes", count=4, eval_count=2),
    }
    data = JointData(parts, serves={"animals": "what"}, input=InputSpec((32, 32)))
    data.report(("train", "val"))
    said = capsys.readouterr().out
    assert "head what, part animals:" in said and "classes: cat 2, dog 2" in said
    assert "head drawn, part drawn:" in said and "train  4 images" in said
    assert len(data.files("train")) == 4
