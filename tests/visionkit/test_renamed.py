import json
from dataclasses import fields
from pathlib import Path

import pytest

from visionkit.checkpoint import read_model
from visionkit.input_spec import InputSpec
from visionkit.renamed import ARGUMENTS, EVERY_TASK, renamed, stored_names
from visionkit.skeleton import Skeleton

BUNDLES = sorted(Path(__file__).parents[2].glob("ui/starters/*/*/model.json"))


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.parent.name)
def test_a_bundle_with_the_old_names_is_read_under_those_of_today(path):
    stored = json.loads(path.read_text("utf-8"))["config"]
    config = read_model(path.parent).config
    assert "fit" in stored["input"], "the file itself is an old one"
    assert "resize_mode" in config["input"] and "fit" not in config["input"]
    for old, new in ARGUMENTS.get(json.loads(path.read_text("utf-8"))["task"], {}).items():
        assert old not in config
        assert "." in old or old not in stored or config[new] == stored[old]


def test_all_example_models_are_old_bundles_and_the_nested_one_is_built():
    assert len(BUNDLES) == 11
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
