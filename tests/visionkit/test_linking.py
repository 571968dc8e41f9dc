"""What model and data share is stated once; the far side cannot be set to something else in silence."""

from dataclasses import asdict

import pytest

from tasks.classification import ClassificationTask
from tests.toy_data import ToyData
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.linking import _input, link
from visionkit.registry import task_class, task_names


def links(model=None, data=None):
    return link({"backbone": "test_resnet", **(model or {})}, data or {}, ClassificationTask, ToyData)


def test_input_comes_from_the_backbone_where_nobody_states():
    values = links()
    assert values["input"]["size"] == ClassificationTask.default_input("test_resnet").size
    assert values["classes"] == ["dark", "light"]


def test_input_of_the_model_reaches_the_data():
    assert links({"input": {"size": [32, 48]}})["input"]["size"] == (32, 48)


@pytest.mark.parametrize("name", task_names())
def test_a_size_alone_changes_the_size_alone(name):
    task = task_class(name)
    usual = task.default_input()
    values = link({"input": {"size": [48, 80]}}, {}, task, ToyData)
    assert values["input"] == {**asdict(usual), "size": (48, 80)}
    whole = {"size": [48, 80], "resize_mode": "crop"}
    assert link({"input": whole}, {}, task, ToyData)["input"] == asdict(InputSpec((48, 80)))


def test_setting_the_far_side_names_the_option_to_set():
    with pytest.raises(UsageError, match=r"set --model\.input instead"):
        links({"input": {"size": [32, 32]}}, {"input": {"size": [64, 64]}})


def test_an_equal_value_on_both_sides_is_no_contradiction():
    assert links({"input": {"size": [32, 32]}}, {"input": {"size": [32, 32]}})["input"]["size"] == (32, 32)


def test_the_same_names_in_another_order_are_read_by_name():
    assert links({"classes": ["light", "dark"]})["classes"] == ["light", "dark"]


def test_other_names_of_the_same_number_are_refused():
    with pytest.raises(UsageError, match="class 0 is 'cat' and the data's is 'dark'"):
        links({"classes": ["cat", "dog"]})


def test_another_number_of_classes_is_refused():
    with pytest.raises(UsageError, match="knows 2 classes and the data has 3"):
        links({"classes": ["dark", "light"]}, {"classes": ["dark", "light", "gray"]})


@pytest.mark.parametrize(
    ("given", "fraction"),
    [({"size": [32, 32]}, 1.0), ({"size": [128, 128]}, 0.95), ({"size": [32, 32], "crop_fraction": 0.9}, 0.9)],
)
def test_a_small_input_is_not_cut_by_default(given, fraction):
    assert _input(given, {"backbone": "test_resnet"}, ClassificationTask)["crop_fraction"] == fraction
