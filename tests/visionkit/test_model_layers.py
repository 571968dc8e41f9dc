"""What a command line states of the model is found as the parser finds it, without parsing a second time."""

import json

import pytest

from visionkit.errors import UsageError
from visionkit.model_layers import TYPED, model_layers, read_model, stated_fields


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "model:\n  class_path: ClassificationTask\n  init_args:\n    input: {size: [32, 32], divisor: 4}\n"
    )
    (tmp_path / "b.yaml").write_text("model:\n  init_args:\n    input: null\n    backbone: test_resnet\n")
    (tmp_path / "c.yaml").write_text("seed: 3\n")
    return {name: ["-c", str(tmp_path / f"{name}.yaml")] for name in "abc"}


def test_layers_in_order_and_what_is_typed_together(files):
    argv = [*files["a"], *files["c"], "--model", json.dumps({"class_path": "X", "init_args": {"fcos": {"convs": 1}}})]
    argv += ["--model.backbone", "z", "--data.root", "r", "--model.init_args.input.size=[9,9]"]
    found = list(model_layers(argv))
    assert [keys for _, keys in found if keys] == [
        {"input": {"size": ["32", "32"], "divisor": "4"}},
        {"fcos": {"convs": 1}},
        {"backbone": "z"},
        {"input": {"size": "[9,9]"}},
    ]
    typed = [number == TYPED for number, keys in found if keys]
    assert typed == [False, False, True, True]


@pytest.mark.parametrize(
    ("argv", "fields"),
    [
        ("a", {"size", "divisor"}),
        ("a b", set()),
        ("b a", {"size", "divisor"}),
        ("a b --model.input.resize_mode crop", {"resize_mode"}),
        ("a --model.input null", set()),
        ("--model.input {size:[8,8],divisor:2}", {"size", "divisor"}),
        ("a --model.input {divisor:2}", {"size", "divisor"}),
        ("c --model.input.size=[8,8]", {"size"}),
        ("c", set()),
        ("--model {class_path:ClassificationTask,init_args:{input:{divisor:2}}}", {"divisor"}),
    ],
)
def test_the_parser_finds_the_same_fields(files, parser, argv, fields):
    """Held against a parse without defaults: what the parser itself takes for given."""
    command = [part.replace(":", ": ") for each in argv.split() for part in files.get(each, [each])]
    assert stated_fields(command, "input") == fields
    parsed = parser.parse_args(["--model", "ClassificationTask", *command], defaults=False)
    assert set(((parsed.model.get("init_args") or {}).get("input") or {}).keys()) == fields


@pytest.mark.parametrize("value", ["X", '{"class_path": "X"}', "{class_path: X}", "class_path: X"])
def test_a_model_is_named_or_a_mapping(value):
    assert read_model(value) == {"class_path": "X"}
    with pytest.raises(UsageError, match="nor a mapping"):
        read_model("{class_path: X")


@pytest.fixture(scope="module")
def parser():
    from jsonargparse import ActionConfigFile
    from lightning.pytorch.cli import LightningArgumentParser

    from ui.commands.training import import_classes
    from visionkit.cli import set_up_parser
    from visionkit.task import VisionTask

    import_classes()
    set_up_parser()
    made = LightningArgumentParser(exit_on_error=False)
    made.add_lightning_class_args(VisionTask, "model", subclass_mode=True, required=False)
    made.add_argument("-c", "--config", action=ActionConfigFile)
    made.add_argument("--seed", type=int)
    return made
