import json
from dataclasses import fields
from pathlib import Path

import pytest

from visionkit.checkpoint import read_model
from visionkit.cli import _load
from visionkit.input_spec import InputSpec
from visionkit.registry import task_class
from visionkit.renamed import ARGUMENTS, EVERY_TASK, renamed, stored_names
from visionkit.skeleton import Skeleton

BUNDLES = [
    path
    for path in sorted(Path(__file__).parents[2].glob("ui/starters/*/*/model.json"))
    if "fit" in json.loads(path.read_text("utf-8"))["config"]["input"]
]
"""Example models whose files were written under the old names."""


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.parent.name)
def test_a_bundle_with_the_old_names_is_read_under_those_of_today(path):
    stored = json.loads(path.read_text("utf-8"))["config"]
    config = read_model(path.parent).config
    assert "resize_mode" in config["input"] and "fit" not in config["input"]
    for old, new in ARGUMENTS.get(json.loads(path.read_text("utf-8"))["task"], {}).items():
        assert old not in config
        assert "." in old or old not in stored or config[new] == stored[old]


def test_the_old_bundles_are_known_and_the_nested_one_is_built():
    assert len(BUNDLES) == 6
    (joint,) = (path for path in BUNDLES if path.parent.parent.name == "multitask")
    assert read_model(joint.parent).blank().name == "multitask"


def test_nested_names_are_fields_of_today():
    known = {"input": {each.name for each in fields(InputSpec)}, "skeleton": {each.name for each in fields(Skeleton)}}
    for old, new in EVERY_TASK.items():
        outer, _, name = new.partition(".")
        assert name in known[outer] and old.partition(".")[2] not in known[outer]


def test_names_inside_heads_follow_the_task_of_the_head():
    skeleton = {"name": "pair", "mirrored": [["left", "right"]]}
    body = {"architecture": "openpose", "joint_threshold": 0.2, "skeleton": skeleton}
    heads = {"body": {"task": "pose", "arguments": body}}
    old = {"heads": heads, "surgery": True, "vocabulary": {"body": {"skeleton": skeleton}}, "input": {"fit": "stretch"}}
    new = renamed("multitask", old)
    assert new["pcgrad"] is True and new["input"] == {"resize_mode": "stretch"}
    assert new["heads"]["body"]["arguments"]["keypoint_threshold"] == 0.2
    assert new["heads"]["body"]["arguments"]["skeleton"]["flip_pairs"] == [["left", "right"]]
    assert new["vocabulary"]["body"]["skeleton"]["flip_pairs"] == [["left", "right"]]
    assert old["heads"] is heads and "surgery" in old and "mirrored" in skeleton, "what was read is not changed"


def test_what_identifies_a_model_keeps_its_names():
    config = {"flip_tta": True, "input": {"resize_mode": "stretch"}, "embedding": 8}
    assert stored_names("face_recognition", config) == {"mirror": True, "input": {"fit": "stretch"}, "embedding": 8}
    assert renamed("face_recognition", stored_names("face_recognition", config)) == config


def test_the_configuration_of_an_older_run_is_read_and_a_foreign_one_stays() -> None:
    task = "tasks.semantic_segmentation.SemanticSegmentationTask"
    model = (
        f"model:\n  class_path: {task}\n  init_args: {{decoder: fpn, decoder_options: {{channels: 64}}, mirror: 16}}\n"
    )
    data = "data:\n  class_path: SceneData\n  init_args: {workers: 2, input: {fit: stretch}}\n"
    task_class("semantic_segmentation")
    read = _load(f"{model}{data}run: runs/a\n")
    assert read["model"]["init_args"] == {"architecture": "fpn", "fpn": {"channels": 64}, "reflect_padding": 16}
    assert read["data"]["init_args"] == {"num_workers": 2, "input": {"resize_mode": "stretch"}}
    assert _load(model + data)["model"]["init_args"]["decoder"] == "fpn", "what somebody writes is refused by its name"
    assert _load(f"{model}{data}run: runs/a\n".replace(task, "Other"))["model"]["init_args"]["decoder"] == "fpn"
    assert _load("run: 1") == {"run": 1} and _load("[1]") == [1]
