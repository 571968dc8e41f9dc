from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny_training import SIZE, tiny_task
from ui.cli import main
from visionkit.atomic import atomic_file, atomic_folder, beside, remove_leftovers
from visionkit.checkpoint import (
    AtomicCheckpointIO,
    describe,
    find_last,
    load_task,
    read_bundle,
    read_model,
    save_bundle,
    save_checkpoint,
)
from visionkit.errors import CheckpointError, EnvironmentFault, UsageError
from visionkit.model_files import check_model
from visionkit.predictor import load

IMAGES = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def content(task: Any, step: int = 3, **changes: Any) -> dict[str, Any]:
    checkpoint: dict[str, Any] = {"state_dict": task.state_dict(), "global_step": step, "epoch": 1}
    task.on_save_checkpoint(checkpoint)
    return {**checkpoint, **changes}


@pytest.fixture(scope="module")
def task() -> Any:
    torch.manual_seed(0)
    return tiny_task().eval()


@pytest.fixture
def saved(task: Any, tmp_path: Path) -> Path:
    path = tmp_path / "model.ckpt"
    AtomicCheckpointIO().save_checkpoint(content(task), path)
    return path


def refusal(path: Path | str) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_task(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_checkpoint_gives_the_same_task(task: Any, saved: Path) -> None:
    loaded = load_task(saved)
    assert not loaded.training
    assert loaded.classes == task.classes and loaded.input == task.input
    assert torch.equal(loaded(IMAGES).logits, task(IMAGES).logits)


def test_loading_never_asks_for_public_weights(saved: Path, task: Any, tmp_path: Path) -> None:
    changed = content(task)
    changed["visionkit"]["config"] = {**changed["visionkit"]["config"], "pretrained": True}
    AtomicCheckpointIO().save_checkpoint(changed, tmp_path / "p.ckpt")
    load_task(tmp_path / "p.ckpt")  # the guard of the tests would refuse the network


@pytest.mark.parametrize("half", [False, True])
def test_a_bundle_gives_the_same_task(task: Any, tmp_path: Path, half: bool) -> None:
    card = {
        "data": "noise",
        "terms": "CC0",
        "command": "visionkit fit -c x.yaml",
        "seed": 3,
        "results": [{"metric": "top1", "value": 0.51234, "split": "test", "protocol": "one center crop"}],
        "note": "made for a test",
    }
    folder = save_bundle(task, tmp_path / "bundle", card=card, half=half)
    loaded = load_task(folder)
    difference = (loaded(IMAGES).logits - task(IMAGES).logits).abs().max()
    assert difference == 0 if not half else difference < 1e-2
    assert next(loaded.network.parameters()).dtype == torch.float32
    bundle = read_bundle(folder)
    assert (bundle.task, bundle.classes, bundle.card) == ("classification", task.classes, card)
    text = (folder / "README.md").read_text()
    for word in (
        "noise",
        "CC0",
        "`visionkit fit -c x.yaml`",
        "0.5123",
        "one center crop",
        "made for a test",
        "dark, light",
    ):
        assert word in text
    if half:
        size = (folder / "model.safetensors").stat().st_size
        assert size < 0.6 * (save_bundle(task, tmp_path / "full", card={}) / "model.safetensors").stat().st_size


def test_the_model_card_shows_its_figure(task: Any, tmp_path: Path) -> None:
    save_bundle(task, tmp_path / "shown", card={"figure": "ten photos.jpg"})
    text = (tmp_path / "shown" / "README.md").read_text("utf-8")
    assert "![predictions](ten%20photos.jpg)" in text and "Figure" not in text
    save_bundle(task, tmp_path / "bare", card={})
    assert "![" not in (tmp_path / "bare" / "README.md").read_text("utf-8")


def test_a_protocol_of_all_results_is_stated_once(task: Any, tmp_path: Path) -> None:
    rows = [{"metric": name, "value": None, "split": "test", "protocol": "one crop"} for name in ("top1", "top5")]
    text = (save_bundle(task, tmp_path / "same", card={"results": rows}) / "README.md").read_text()
    assert text.count("one crop") == 1 and "| top5 | n/a | test |\n\nProtocol: one crop\n" in text
    rows[1]["protocol"] = "ten crops"
    text = (save_bundle(task, tmp_path / "two", card={"results": rows}) / "README.md").read_text()
    assert "| top1 | n/a | test | one crop |\n| top5 | n/a | test | ten crops |" in text


def test_a_bundle_is_not_overwritten_unless_asked(task: Any, tmp_path: Path) -> None:
    save_bundle(task, tmp_path / "b", card={"data": "first"})
    with pytest.raises(UsageError, match="already exists"):
        save_bundle(task, tmp_path / "b", card={})
    save_bundle(task, tmp_path / "b", card={"data": "second"}, overwrite=True)
    assert read_bundle(tmp_path / "b").card == {"data": "second"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is no bundle"):
        save_bundle(task, tmp_path / "mine", card={}, overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_a_bundle_that_cannot_be_completed_does_not_appear(task: Any, tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        assert (folder / "model.safetensors").is_file()
        raise ValueError("no onnx")

    with pytest.raises(ValueError, match="no onnx"):
        save_bundle(task, tmp_path / "b", card={}, complete=fails)
    assert list(tmp_path.iterdir()) == []


def test_damaged_bundles_are_refused_in_one_line(task: Any, tmp_path: Path) -> None:
    folder = save_bundle(task, tmp_path / "b", card={})
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "damaged" in refusal(folder)
    (folder / "model.safetensors").unlink()
    assert "has no model.safetensors" in refusal(folder)
    facts = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**facts, "format": 7}))
    assert "newer" in refusal(folder)
    (folder / "model.json").write_text("{")
    assert "cannot be read" in refusal(folder)
    (tmp_path / "empty").mkdir()
    assert "no bundle" in refusal(tmp_path / "empty")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"inputs": ["left", "right"]}, "its inputs are left, right, and those of the classification task"),
        ({"inputs": "image"}, "inputs: should be a list of names"),
        ({"inputs": []}, "inputs: should be a list of names"),
        ({"inputs": None}, ""),
        ({"inputs": ["image"]}, ""),
    ],
)
def test_a_bundle_of_other_inputs_is_refused(task: Any, tmp_path: Path, change: dict[str, Any], line: str) -> None:
    folder = save_bundle(task, tmp_path / "b", card={})
    facts = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**facts, **change}))
    if line:
        assert line in refusal(folder)
    else:
        load_task(folder)


def test_a_bundle_of_another_number_of_frames_is_refused(task: Any, tmp_path: Path, monkeypatch: Any) -> None:
    folder = save_bundle(task, tmp_path / "b", card={})
    one = type(task).from_config(task.config)
    facts = json.loads((folder / "model.json").read_text())
    facts["config"]["input"]["frames"] = 5
    (folder / "model.json").write_text(json.dumps(facts))
    monkeypatch.setattr(type(task), "from_config", lambda config: one)  # a task that settles the number itself
    assert "its inputs are image of 5 frames, and those of the classification task installed here are image;" in (
        refusal(folder)
    )


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, task: Any) -> None:
    trace = tmp_path / "ran"
    evil: Any = Evil(trace)
    torch.save(content(task, evil=evil), tmp_path / "zip.ckpt")
    assert "system" in refusal(tmp_path / "zip.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(evil))
    assert "nothing of it was run" in refusal(tmp_path / "plain.ckpt")
    torch.save({"visionkit": evil}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    refusal(tmp_path / "old.ckpt")
    assert find_last(tmp_path) is None
    with pytest.raises(CheckpointError):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "zip.ckpt", weights_only=False)
    with pytest.raises(CheckpointError):
        describe(tmp_path / "zip.ckpt")
    assert not trace.exists()
    torch.load(tmp_path / "zip.ckpt", weights_only=False)  # the trap does work
    assert trace.exists()


def test_damaged_checkpoints_are_refused_in_one_line(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    for name, data, words in (
        ("zero", b"", "0 bytes"),
        ("cut", whole[: len(whole) // 2], "cut off"),
        ("text", b"hello", "no checkpoint of visionkit"),
        (
            "bit",
            whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :],
            "checksum",
        ),
    ):
        path = tmp_path / f"{name}.ckpt"
        path.write_bytes(data)
        assert words in refusal(path), name
    assert "did you mean 'model.ckpt'" in refusal(tmp_path / "modl.ckpt")
    assert "a folder of checkpoints" in refusal(tmp_path)


def test_a_run_is_its_best_checkpoint_everywhere(task: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    assert "no best or last checkpoint" in refusal(tmp_path / "run")
    save_checkpoint(task, folder / "last.ckpt")
    assert read_model(tmp_path / "run").source == str(folder / "last.ckpt")
    save_checkpoint(task, folder / "best-step000002.ckpt")
    assert read_model(tmp_path / "run").source == str(folder / "best-step000002.ckpt")
    assert load(tmp_path / "run").task.config == task.config
    check_model(tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "bundle")]) == 0
    assert (tmp_path / "bundle" / "model.safetensors").is_file()


def test_foreign_and_newer_checkpoints_are_refused_in_one_line(task: Any, tmp_path: Path) -> None:
    whole = content(task)
    header = whole["visionkit"]
    weights = dict(whole["state_dict"])
    name = next(iter(weights))
    renamed = {("other" if key == name else key): value for key, value in weights.items()}
    reshaped = {**weights, name: weights[name].flatten()[:1]}
    for changes, words in (
        ({"visionkit": None}, "another program"),
        ({"visionkit": {**header, "format": 2}}, "newer"),
        ({"visionkit": {**header, "task": "clasification"}}, "did you mean 'classification'"),
        ({"visionkit": {**header, "config": {**header["config"], "color": 1}}}, "color"),
        ({"visionkit": {**header, "config": {**header["config"], "backbone": "resnet1"}}}, "resnet1"),
        ({"state_dict": renamed}, f"lacks {name}"),
        ({"state_dict": {**weights, "more": torch.zeros(1)}}, "unknown more"),
        ({"state_dict": reshaped}, f"{name} is (1,)"),
        ({"state_dict": None}, "no weights"),
    ):
        torch.save({**whole, **changes}, tmp_path / "x.ckpt")
        assert words in refusal(tmp_path / "x.ckpt"), words
    torch.save([1, 2], tmp_path / "x.ckpt")
    assert "holds a list" in refusal(tmp_path / "x.ckpt")


def test_weights_are_not_loaded_into_a_task_with_other_classes(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="'light'"):
        read_model(saved).load_into(tiny_task(classes=("dark", "bright")))


def test_unknown_public_names() -> None:
    with pytest.raises(UsageError, match="did you mean 'timm'"):
        load_task("tim:resnet18")
    with pytest.raises(UsageError, match="resnet_18x"):
        load_task("timm:resnet_18x")


def test_describe_reads_no_weights(task: Any, saved: Path, tmp_path: Path) -> None:
    facts = describe(saved)
    assert (facts["kind"], facts["task"], facts["classes"], facts["step"]) == (
        "checkpoint",
        "classification",
        ["dark", "light"],
        3,
    )
    assert facts["backbone"] == "test_resnet" and facts["bytes"] == saved.stat().st_size
    assert describe(save_bundle(task, tmp_path / "b", card={"data": "noise"}))["card"] == {"data": "noise"}


def test_the_newest_whole_checkpoint_is_found(task: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    io, folder = AtomicCheckpointIO(), tmp_path / "run" / "checkpoints"
    for step in (10, 30, 20):
        io.save_checkpoint(content(task, step), folder / f"s{step}.ckpt")
    assert find_last(folder) == find_last(tmp_path / "run") == folder / "s30.ckpt"
    data = (folder / "s30.ckpt").read_bytes()
    (folder / "s30.ckpt").write_bytes(data[:-100])
    (folder / "s40.ckpt").touch()
    assert find_last(folder) == folder / "s20.ckpt"
    assert "s30.ckpt" in caplog.text and "s40.ckpt" in caplog.text
    assert find_last(tmp_path / "nothing") is None


# ---------------------------------------------------------------------- writing


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({"n": 1}, path)
    with pytest.raises(ZeroDivisionError), atomic_file(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]
    assert AtomicCheckpointIO().load_checkpoint(path) == {"n": 1}


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may grow beyond 200,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing_truncated(tmp_path: Path, small_files: None) -> None:
    """A limit of file sizes fails a write in its middle, as a full disk does; torch's writer must not hide it."""
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"n": torch.zeros(10)}, path)
    with pytest.raises(EnvironmentFault) as message:
        AtomicCheckpointIO().save_checkpoint({"n": torch.ones(1_000_000)}, path)
    said = str(message.value)
    assert said.startswith(f"{path}: not saved: File too large (") and "bytes are free" in said and "\n" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    assert AtomicCheckpointIO().load_checkpoint(path)["n"].sum() == 0


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match=r"file/x\.ckpt: not saved"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "file" / "x.ckpt")


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").touch()
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "b") as part:
        (part / "new").touch()
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.rglob("*")] == ["b", "old"]
    with atomic_folder(tmp_path / "b") as part:
        (part / "new").touch()
    assert [p.name for p in tmp_path.rglob("*")] == ["b", "new"]


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    template = beside(tmp_path / "last.ckpt").name
    ours, living = tmp_path / template, tmp_path / template.replace(f".{os.getpid()}.", f".{child.pid}.")
    ours.touch()
    living.touch()
    try:
        assert remove_leftovers(tmp_path) == [ours]
        assert living.exists()
    finally:
        child.communicate(b"\n")
    assert remove_leftovers(tmp_path) == [living]
