"""Models from elsewhere: what they state of themselves is checked before anything is built, opened or computed."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny_training import tiny_task
from tests.visionkit import hostile_models
from ui.model_registry import EXAMPLE_MODELS, find_models
from visionkit.checkpoint import AtomicCheckpointIO, load_task, read_model, save_bundle
from visionkit.construction import Budget, Justified
from visionkit.errors import CheckpointError, UsageError
from visionkit.geometry import MAX_INPUT_PIXELS, InputSpec
from visionkit.predictor import Predictor, load

CLASSIFIER = Path("classifier")
"""A small bundle that `changed` writes."""
DETECTOR = EXAMPLE_MODELS / "detection" / "people_and_things"
ALL = sorted(path.parent for path in EXAMPLE_MODELS.glob("*/*/model.json"))
IMAGE = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)


def given(task: Any) -> Any:
    """What a model is asked with: the image, as each of its inputs where it takes several."""
    return dict.fromkeys(task.inputs, IMAGE) if len(task.inputs) > 1 else IMAGE


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        model = load(path)
        model(given(model.task))
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700
    return message


def changed(source: Path, folder: Path, **config: Any) -> Path:
    if source == CLASSIFIER:
        save_bundle(tiny_task(), folder / "model", card={})
    else:
        shutil.copytree(source, folder / "model", ignore=shutil.ignore_patterns("examples"))
    facts = json.loads((folder / "model" / "model.json").read_text())
    facts["config"].update(config)
    (folder / "model" / "model.json").write_text(json.dumps(facts))
    return folder / "model"


@pytest.mark.parametrize(
    ("source", "config", "words"),
    [
        (CLASSIFIER, {"backbone": 5}, "backbone: 5 is not a text"),
        (CLASSIFIER, {"color": {"net": "hf-hub:user/two"}}, "names another file"),
        (CLASSIFIER, {"backbone": "hf-hub:timm/resnet18"}, "it names another file"),
        (CLASSIFIER, {"backbone": "vit_giant_patch14_224"}, "more memory than its weights"),
        (CLASSIFIER, {"classes": 10_000_000}, "config.classes: should be a list of names"),
        (CLASSIFIER, {"classes": ["a", 5]}, "config.classes: should be a list of names"),
        (CLASSIFIER, {"classes": [str(number) for number in range(200_000)]}, "model: its"),
        (CLASSIFIER, {"classes": [str(number) for number in range(10**6)]}, "a list of 1,000,000 values"),
        (CLASSIFIER, {"multilabel": "no"}, "multilabel: 'no' is not true or false"),
        (CLASSIFIER, {"threshold": True}, "threshold: True is not a number"),
        (CLASSIFIER, {"class_weights": [1, None]}, "class_weights.1: None is not a number"),
        (CLASSIFIER, {"input": {"size": [100_000, 100_000], "resize_mode": "stretch"}}, "input.size"),
        (CLASSIFIER, {"input": {"size": [32], "resize_mode": "stretch"}}, "input.size: 2 values are needed"),
        (CLASSIFIER, {"input": {"size": [32, 32], "resize_mode": "fill"}}, "input.resize_mode: 'fill' is not one of"),
        (CLASSIFIER, {"input": {"size": [32, 32], "shape": 3}}, "input.shape: this version does not know it"),
        (CLASSIFIER, {"optim": {"lr": [1]}}, "optim.lr: a list of 1 is not a number"),
        (CLASSIFIER, {"color": 1}, "color"),
        (DETECTOR, {"fcos": {"neck_channels": -4}}, "fcos.neck_channels: -4 is not a whole number from 0"),
        (DETECTOR, {"fcos": {"neck_channels": 4.5}}, "neck_channels: 4.5 is not a whole number"),
        (DETECTOR, {"fcos": {"neck_channels": 10**9}}, "neck_channels: 1000000000 is not a whole number"),
        (DETECTOR, {"fcos": {"neck_channels": 65_536}}, "more memory than its weights"),
        (DETECTOR, {"fcos": {"convs": 100_000}}, "than its weights have"),
        (DETECTOR, {"fcos": {"neck_channels": 0}}, "model: its"),
        (DETECTOR, {"fcos": {"strides": []}}, "model: its"),
        (DETECTOR, {"fcos": {"convs": "x"}}, "fcos.convs: 'x' is not a whole number"),
        (CLASSIFIER, {"weights": "/dev/zero"}, "names another file"),
        (EXAMPLE_MODELS / "pose" / "people", {"skeleton": "/dev/zero.yaml"}, "names another file"),
        (EXAMPLE_MODELS / "multitask" / "scenes", {"heads": {"a": {"task": "depth", "arguments": {"bins": "x"}}}},
        "bins"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else None,
)  # fmt: skip
def test_a_configuration_is_checked_before_it_is_built(
    source: Path, config: dict[str, Any], words: str, tmp_path: Path
) -> None:
    message = refusal(changed(source, tmp_path, **config))
    assert words in message, message


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"card": [1]}, "card: should be an object, not a list of 1"),
        ({"card": {"results": [{"value": float("nan")}]}}, "nan is not a finite number"),
        ({"versions": 5}, "versions: should be an object"),
        ({"format": True}, "format True"),
        ({"format": 10**30}, "a number of more than 64 bits is newer"),
        ({"task": ["classification"]}, "`task` and `config` are not there"),
        ({"config": {"backbone": "a" * 100_000}}, "a text of 100,000 characters"),
        ({"config": {"x": json.loads("[" * 40 + "]" * 40)}}, "deeper than 16 levels"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else None,
)  # fmt: skip
def test_a_description_holds_plain_values_of_the_right_types(facts: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = changed(CLASSIFIER, tmp_path)
    whole = json.loads((path / "model.json").read_text())
    (path / "model.json").write_text(json.dumps({**whole, **facts}))
    assert words in refusal(path)
    (listed,) = find_models(tmp_path)
    assert words in listed.fault and str(tmp_path) not in listed.fault


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "{", "", '{"format": ' + "9" * 5000 + "}", "[1]"])
def test_a_description_that_cannot_be_parsed_stops_nothing(text: str, tmp_path: Path) -> None:
    path = changed(CLASSIFIER, tmp_path)
    (path / "model.json").write_text(text)
    refusal(path)
    assert [bool(entry.fault) for entry in find_models(tmp_path)] == [True]


@pytest.mark.parametrize("name", ["model.json", "model.safetensors", "run.ckpt"])
@pytest.mark.parametrize("kind", ["fifo", "/dev/zero", "/dev/urandom", "/nonexistent", "folder"])
def test_what_is_no_file_is_never_opened(kind: str, name: str, tmp_path: Path) -> None:
    path = changed(CLASSIFIER, tmp_path) / name
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(kind)
    refusal(path if name.endswith(".ckpt") else path.parent)
    if name.endswith(".ckpt"):
        (path.parent / "model.json").unlink()
    listed = find_models(tmp_path)
    assert all(entry.fault for entry in listed)
    assert len(listed) == (0 if kind == "folder" and name == "model.json" else 1)


def checkpoint(folder: Path, **changes: Any) -> Path:
    task = tiny_task().eval()
    content: dict[str, Any] = {"state_dict": task.state_dict(), "global_step": 3, "epoch": 1}
    task.on_save_checkpoint(content)
    AtomicCheckpointIO().save_checkpoint({**content, **changes}, folder / "run.ckpt")
    return folder / "run.ckpt"


def first_weight() -> str:
    return next(name for name, value in tiny_task().state_dict().items() if value.is_floating_point())


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (torch.zeros(1).expand(10**6, 10**6), "(1000000, 1000000) instead of"),
        (torch.zeros(2, 2).to_sparse(), "no dense tensor"),
        (torch.empty(2, 2, device="meta"), "no dense tensor"),
        ([1.0], "no dense tensor"),
    ],
    ids=["strided", "sparse", "meta", "list"],
)
def test_weights_are_dense_tensors(weight: Any, words: str, tmp_path: Path) -> None:
    state = {**tiny_task().state_dict(), first_weight(): weight}
    assert words in refusal(checkpoint(tmp_path, state_dict=state))


def test_a_checkpoint_that_fractions_parts_without_end_is_refused(tmp_path: Path) -> None:
    laughs: Any = ["l"] * 10
    for _ in range(12):
        laughs = [laughs] * 10
    header = {"format": 1, "task": "classification", "config": {"classes": laughs}}
    path = checkpoint(tmp_path, visionkit=header)
    assert "deeper than 16 levels" in refusal(path)
    assert "levels" in refusal(checkpoint(tmp_path, visionkit={**header, "config": {"optim": laughs}}))


@pytest.mark.parametrize("way", ["compressed", "bomb", "lies"])
def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(way: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    hostile_models.repack(path, way)
    assert {"compressed": "compressed", "bomb": "compressed", "lies": "damaged"}[way] in refusal(path)


def test_entries_that_lie_over_each_other_are_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
        for number in range(3000):
            twin = zipfile.ZipInfo(f"archive/data/more{number}")
            twin.header_offset, twin.file_size, twin.compress_size = (
                largest.header_offset,
                largest.file_size,
                largest.file_size,
            )
            twin.CRC = largest.CRC
            archive.filelist.append(twin)
        archive._didModify = True  # type: ignore[attr-defined]
    assert "state more bytes than the file has" in refusal(path)


def test_the_part_that_is_unpickled_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint(tmp_path, more=[[] for _ in range(50_000)])
    load(path)
    monkeypatch.setattr("visionkit.checkpoint_files.MAX_PICKLE", 100_000)
    assert "describe its tensors" in refusal(path)


@pytest.mark.parametrize("folder", ALL, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_weights_that_are_no_numbers_are_named_in_one_line(folder: Path, tmp_path: Path) -> None:
    path = changed(folder, tmp_path)
    state = load_file(path / "model.safetensors")
    name = sorted(key for key, value in state.items() if value.is_floating_point() and value.numel() > 1)[-1]
    state[name].view(-1)[0] = float("nan")
    save_file(state, path / "model.safetensors")
    message = refusal(path)
    assert "not finite" in message and str(path) in message and name in message
    # Weights that are finite and far too large give outputs that are not.
    huge = {k: torch.full_like(v, 1e38) if v.dtype == torch.float32 and v.dim() > 1 else v for k, v in state.items()}
    save_file(
        {key: torch.nan_to_num(v) if v.is_floating_point() else v for key, v in huge.items()},
        path / "model.safetensors",
    )
    message = refusal(path)
    assert "NaN or infinity" in message and str(path) in message


@pytest.mark.parametrize("folder", ALL, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_a_network_never_trained_that_gives_nan_is_refused_too(folder: Path) -> None:
    task = load_task(folder)
    engine: Callable[..., Any] = Predictor(task).engine

    def broken(*images: Any) -> Any:
        outputs = engine(*images)
        first = outputs._fields[0]
        return outputs._replace(**{first: torch.full_like(outputs[0], float("nan"))})

    with pytest.raises(CheckpointError, match="NaN or infinity"):
        Predictor(task, broken)(given(task))


def test_a_model_of_a_file_that_fails_on_an_image_is_named(tmp_path: Path) -> None:
    task = load_task(save_bundle(tiny_task(), tmp_path / "model", card={}))
    task.decode = lambda outputs: 1 // 0  # type: ignore[assignment, method-assign]
    with pytest.raises(CheckpointError, match=r"model: the model fails on an image \(integer"):
        Predictor(task)(IMAGE)
    task.source = ""  # never in a file: a defect of the program stays one
    with pytest.raises(ZeroDivisionError):
        Predictor(task)(IMAGE)


def test_a_card_with_a_metric_of_nan_can_be_read_again(tmp_path: Path) -> None:
    card = {"results": [{"metric": "top1", "value": float("nan"), "split": "test", "protocol": "p"}]}
    path = save_bundle(tiny_task(), tmp_path / "model", card=card)
    assert "NaN" not in (path / "model.json").read_text()
    assert "| top1 | n/a |" in (path / "README.md").read_text()
    read_model(path)


def test_a_budget_stops_what_would_take_memory_or_time() -> None:
    for build in (
        lambda: torch.zeros(10**12),
        lambda: torch.arange(10**12),
        lambda: torch.linspace(0, 1, 10**12),
        lambda: torch.zeros(1).repeat(10**12),
        lambda: torch.zeros(10**6, 1) + torch.zeros(1, 10**6),
        lambda: torch.nn.Linear(10**6, 10**6),
        lambda: torch.nn.Sequential(*(torch.nn.Identity() for _ in range(10**4))),
    ):
        with pytest.raises(CheckpointError, match="than its weights have"), Budget(Justified(1000, 10)):
            build()
    with Budget(Justified(1000, 10)):
        torch.nn.Linear(1000, 1000)
    torch.nn.Sequential(*(torch.nn.Identity() for _ in range(10**4)))  # the hook is gone


@pytest.mark.parametrize("folder", ALL, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_an_example_model_stays_far_below_its_budget(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionkit.construction._BYTES", 128 * 2**20)
    load(folder)


def test_a_convolution_in_a_constructor_does_not_broadcast() -> None:
    image, weights = torch.zeros(1, 64, 256, 256), torch.zeros(64, 64, 1, 1)
    with Budget(Justified(1000, 10)) as budget:
        left = budget.bytes
        torch.nn.functional.conv2d(image, weights)
        assert budget.bytes == left


def test_an_input_of_a_fixed_size_has_a_limit() -> None:
    InputSpec(size=(1024, 2048), resize_mode="letterbox")
    with pytest.raises(UsageError, match=f"at most {MAX_INPUT_PIXELS:,}"):
        InputSpec(size=(2048, 2048), resize_mode="letterbox")


@pytest.mark.parametrize("seed", range(8))
def test_the_command_changes_something(seed: int, tmp_path: Path) -> None:
    path, message = hostile_models.make(seed, tmp_path, str(tmp_path / "executed"))
    assert message and path.parent == tmp_path
    again, same = hostile_models.make(seed, tmp_path / "again", str(tmp_path / "executed"))
    assert same == message and again.name == path.name
