"""Architectures are objects: chosen by name, with arguments of their own, and one more is one file."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from tasks.detection import DetectionTask
from tests.contracts.cases import CASES, build
from tests.toy_detector import Cells
from ui.cli import main
from visionkit import load
from visionkit.architecture_options import settle
from visionkit.checkpoint import save_checkpoint
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.model_help import blocks
from visionkit.registry import task_class, task_names
from visionkit.renamed import RENAMED, renamed
from visionkit.signatures import complete
from visionkit.task import VisionTask

TASKS = [name for name in task_names() if getattr(task_class(name), "architectures", None) is not None]
SMALL = ["--model.backbone", "test_resnet", "--model.input.size", "[64,64]", "--trainer.max_epochs", "1"]
DATA = ["-c", "scenes", "--data.target", "boxes", "--data.count", "4", "--data.eval_count", "2"]


def two(task: str) -> tuple[str, str, str]:
    """The first architecture of a task, another one, and an argument that the other one alone has."""
    kinds = task_class(task).architectures
    first = complete(task_class(task)).parameters["architecture"].default
    own = {each.name for each in kinds.fields(first)}
    for other in kinds:
        if extra := [each.name for each in kinds.fields(other) if each.name not in own]:
            return first, other, extra[0]
    return first, "", ""


def test_a_detector_in_one_file_is_trained_from_the_command_line(tmp_path: Path, capsys) -> None:
    DetectionTask.architectures.register("cells", Cells)
    try:
        _train_the_toy(tmp_path, capsys)
    finally:
        DetectionTask.architectures.unregister("cells")
    assert main(["fit", "-c", "detection", *DATA, "--model.cells.largest_side", "48"]) == 2, "nothing remembers it"
    assert "unknown option" in capsys.readouterr().err


def _train_the_toy(folder: Path, capsys) -> None:
    run = folder / "run"
    options = ["--model.architecture", "cells", "--model.cells.largest_side", "48"]
    assert main(["fit", "-c", "detection", *DATA, *SMALL, *options, "--run", str(run)]) == 0
    config = yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]
    assert config["cells"] == {"strides": [16], "largest_side": 48.0} and "fcos" not in config
    predictor = load(run / "checkpoints" / "last.ckpt")
    assert isinstance(predictor.task.architecture, Cells) and predictor.task.architecture.largest_side == 48.0
    predictor(np.zeros((60, 70, 3), np.uint8), score_threshold=0.0)
    assert main(["fit", "-c", str(run / "config.yaml"), "--run", str(folder / "again")]) == 0
    capsys.readouterr()
    assert main(["fit", "-c", str(run / "config.yaml"), "--model.cells.levels", "3"]) == 2
    assert "cells.levels: Cells has no such argument; it has largest_side, strides" in capsys.readouterr().err
    assert main(["fit", "-c", "detection", "--model.cells.help"]) == 0
    assert "--model.cells.largest_side" in capsys.readouterr().out


@pytest.mark.parametrize("name", TASKS)
def test_what_another_architecture_has_is_refused(name: str, capsys) -> None:
    first, other, argument = two(name)
    with pytest.raises(UsageError, match=rf"model\.{first}\.nonsense: architecture {first} has no such .*; it has "):
        build(name, **{first: {"nonsense": 1}})
    with pytest.raises(UsageError, match=r"model\.nonsense: .* has no such argument"):
        build(name, nonsense=1)
    if not other:
        return
    with pytest.raises(UsageError, match=rf"model\.{first}\.{argument}: architecture {first} has no such"):
        build(name, **{first: {argument: 1}})
    with pytest.raises(UsageError, match=rf"model\.{argument}: .* belongs to an architecture: .*model\.{other}\."):
        build(name, **{argument: 1})
    with pytest.raises(UsageError, match=rf"model\.{other}: the architecture is {first}, whose arguments are"):
        build(name, **{other: {}})


@pytest.mark.parametrize("name", TASKS)
def test_the_command_line_refuses_it_too(name: str, tmp_path: Path, capsys) -> None:
    first, other, argument = two(name)
    if not other:
        first, other, argument = first, first, "nonsense"
    kind = task_class(name).__name__
    options = ["--model", kind, "--data", "SceneData", f"--model.{first}.{argument}", "1"]
    assert main(["fit", *options]) == 2
    message = capsys.readouterr().err
    assert (
        f"{first}.{argument}: " in message
        and "has no such argument; it has " in message
        and len(message.splitlines()) == 1
    )
    content = {"model": {"class_path": kind, "init_args": {first: {argument: 1}}}}
    (tmp_path / "a.yaml").write_text(json.dumps(content))
    assert main(["fit", "-c", str(tmp_path / "a.yaml"), "--data", "SceneData"]) == 2
    assert f"{argument}: " in (message := capsys.readouterr().err) and "has no such argument; it has " in message


def test_a_later_layer_chooses_and_the_same_or_a_later_one_is_refused(tmp_path: Path) -> None:
    def settled(architecture: str, *argv: str, **own: Any) -> dict[str, Any]:
        arguments = {"architecture": architecture, **own}
        settle(DetectionTask, arguments, argv)
        return arguments

    for number, given in enumerate(({"fcos": {"convs": 2}}, {"architecture": "ssd"}, {"fcos": {"convs": 2}})):
        (tmp_path / f"{number}.yaml").write_text(json.dumps({"model": {"class_path": "D", "init_args": given}}))
    first, second, third = (str(tmp_path / f"{number}.yaml") for number in range(3))
    fcos = {"fcos": SimpleNamespace(convs=2)}
    assert settled("ssd", "-c", first, "--model.architecture", "ssd", **fcos)["fcos"] is None
    assert settled("ssd", "-c", first, "-c", second, **fcos)["fcos"] is None
    for argv in (
        ["-c", second, "-c", third],
        ["--model.architecture", "ssd", "--model.fcos.convs", "2"],
        ["-c", second, "--model.fcos.convs=2"],
    ):
        with pytest.raises(UsageError, match=r"model\.fcos: the architecture is ssd, whose arguments are model\.ssd\."):
            settled("ssd", *argv, **fcos)


@pytest.mark.parametrize("name", sorted(RENAMED))
def test_old_names_are_read_and_new_ones_stay(name: str, tmp_path: Path) -> None:
    """Every new key of the table is an argument of today, and a stored task of today is not changed."""
    cls, kinds = task_class(name), task_class(name).architectures
    for new in (key for keys in RENAMED[name].values() for key in keys):
        block, _, rest = new.partition(".")
        if rest:
            for each in kinds if block == "*" else [block]:
                assert rest in [field.name for field in kinds.fields(each)], f"{each}.{rest}"
        elif block != "*":
            assert block in complete(cls).parameters
    task = build(name)
    assert renamed(name, task.config) == task.config
    save_checkpoint(task, tmp_path / "a.ckpt")
    assert load(tmp_path / "a.ckpt").task.architecture == task.architecture


def test_an_old_name_on_the_command_line_gets_the_new_one() -> None:
    for task, old, new in (
        ("semantic_segmentation", "decoder", "model.architecture"),
        ("depth", "decoder_options", "model.<architecture>"),
        ("detection", "width", "model.<architecture>.neck_channels"),
        ("semantic_segmentation", "mirror", "model.reflect_padding"),
    ):
        with pytest.raises(UsageError, match=rf"model\.{old}: .* it is called {re.escape(new)} today"):
            build(task, **{old: 1})


def test_old_dense_networks_are_read() -> None:
    old = {"decoder": "fcn", "decoder_options": {"width": 3, "finest": 4}, "mirror": 16, "dropout": 0.1}
    found = renamed("semantic_segmentation", old)
    assert found == {"architecture": "fcn", "fcn": {"finest": 4}, "reflect_padding": 16, "dropout": 0.1}
    assert renamed("depth", {"decoder_options": None}) == {}
    head = {"task": "depth", "arguments": {"decoder": "segformer", "decoder_options": {"channels": 8}}}
    joint = renamed("multitask", {"heads": {"far": head}})["heads"]["far"]["arguments"]
    assert joint == {"architecture": "segformer", "segformer": {"channels": 8}}


def test_an_old_detector_is_read() -> None:
    old = {"architecture": "faster_rcnn", "width": 64, "extra": "conv", "strides": None, "levels": 6, "tile": 0}
    found = renamed("detection", {**old, "rcnn": {"canonical": 112.0, "candidates": 7}})
    block = {"canonical_box_size": 112.0, "pre_nms_top_n": 7, "neck_channels": 64}
    assert found == {"architecture": "faster_rcnn", "tile": 0, "faster_rcnn": block}
    joint = renamed("multitask", {"heads": {"a": {"task": "detection", "arguments": {"width": 8}}}})
    assert joint["heads"]["a"]["arguments"] == {"fcos": {"neck_channels": 8}}


@pytest.mark.parametrize("name", TASKS)
def test_every_argument_has_its_sentence(name: str) -> None:
    for other, kind in task_class(name).architectures.items():
        documented = "\n".join(base.__doc__ or "" for base in kind.__mro__)
        for each in dataclasses.fields(kind):
            assert f"\n        {each.name}: " in documented, f"{other}.{each.name}"


@pytest.mark.parametrize("name", task_names())
def test_the_help_of_a_task_lists_every_argument_with_its_sentence(name: str, capsys) -> None:
    """Those of its input, its optimizer and every architecture too."""
    cls = task_class(name)
    assert main(["fit", "--model.help", cls.__name__]) == 0
    page = capsys.readouterr().out
    inner = blocks(cls)
    assert {"input", "optim", *getattr(cls, "architectures", ())} <= inner.keys()
    wanted = [key for key in complete(cls).parameters if key not in ("self", *inner)]
    wanted += [f"{block}.{each.name}" for block, kind in inner.items() for each in dataclasses.fields(kind)]
    described: dict[str, list[str]] = {}
    for entry in re.split(r"^(?=  --)", page, flags=re.MULTILINE)[1:]:
        option, _, rest = entry.strip().removeprefix("--model.").partition(" ")
        described[option.rstrip(",")] = rest.partition("(type: ")[0].split()
    assert described.keys() == set(wanted)
    assert not [key for key in wanted if len(described[key]) < 4], "a value and a sentence"
    assert "Path to a configuration file" not in page and "See `" not in page
    sizes = list(cls.default_input().size)
    assert re.search(rf"--model\.input\.size.*?default:\s+\[{sizes[0]},\s+{sizes[1]}\]", page, re.DOTALL)


def test_the_help_of_one_block_and_what_has_none(capsys) -> None:
    assert main(["fit", "-c", "detection", "--model.fcos.help"]) == 0
    page = capsys.readouterr().out
    assert "--model.fcos.center_radius" in page and "--model.ssd" not in page and "--model.backbone" not in page
    for options, message in (
        (["--model.help"], "name a task"),
        (["--model.help", "DetectionTas"], "did you mean 'DetectionTask'"),
        (["-c", "detection", "--model.fco.help"], "did you mean 'fcos'"),
        (
            ["-c", "classification", "--model.fcos.help"],
            "of ClassificationTask there is --model.{conformal,adapters,distill,input,optim}.help",
        ),
    ):
        assert main(["fit", *options]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", task_names())
def test_constructors_are_short(name: str) -> None:
    for base in task_class(name).__mro__:
        code = getattr(vars(base).get("__init__"), "__code__", None)
        if issubclass(base, VisionTask) and code is not None:
            assert code.co_argcount + code.co_kwonlyargcount - 1 <= 12, base


def test_a_spec_of_the_input_still_reaches_every_task() -> None:
    for name in TASKS:
        spec = dataclasses.replace(CASES[name].input, fill=7)
        assert isinstance(spec, InputSpec) and build(name, input=spec).input == spec
