"""A sharded training: curves, weights and checkpoints are those of DDP, for any number of processes to go on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import LightningModule

from tests.ranks import on_ranks
from tests.tiny_training import Killed
from tests.visionkit.sharding.trained import trained
from ui.cli import main
from visionkit.callbacks import Unfreezing
from visionkit.callbacks.inspection import InspectionLogger
from visionkit.checkpoint import describe, find_last, load_task, read_checkpoint
from visionkit.checkpoint_files import check_whole
from visionkit.errors import CheckpointError, UsageError
from visionkit.sharding.refusals import refuse

LAST = "checkpoints/last.ckpt"


def close(one: Path, other: Path, weights: float = 1e-5) -> None:
    """Compares all tensors of two checkpoints."""
    first, second = read_checkpoint(one), read_checkpoint(other)
    for key in ("state_dict", "current_model_state"):
        assert first[key].keys() == second[key].keys()
        for name, value in first[key].items():
            torch.testing.assert_close(second[key][name], value, rtol=weights, atol=weights, msg=f"{key} {name}")
    states = [each["optimizer_states"][0]["state"] for each in (first, second)]
    assert states[0].keys() == states[1].keys()
    for number, values in states[0].items():
        for name, value in values.items():
            torch.testing.assert_close(states[1][number][name], value, rtol=1e-4, atol=1e-5, msg=name)


def _both(rank: int, folder: str, options: dict[str, Any]) -> list[Any]:
    return [trained(rank, f"{folder}/{name}", 2, how, **options) for name, how in (("ddp", "ddp"), ("fsdp2", {}))]


def equal(ranks: list[Any]) -> None:
    for (losses, metrics), (own, measured) in ranks:
        assert len(losses) > 2 and own == pytest.approx(losses, abs=1e-5)
        assert measured == pytest.approx(metrics, abs=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("backbone", "optimizer"), [("test_vit", "adamw"), ("resnet18", "sgd")])
def test_the_loss_curve_is_that_of_ddp_and_so_is_what_is_exported(
    backbone: str, optimizer: str, tmp_path: Path
) -> None:
    options = {"backbone": backbone, "optimizer": optimizer, "max_epochs": 2, "ema": 0.9}
    equal(on_ranks(2, _both, str(tmp_path), options))
    close(tmp_path / "ddp" / LAST, tmp_path / "fsdp2" / LAST)
    run = tmp_path / "fsdp2"
    assert describe(run / LAST)["bytes"] > 0.9 * describe(tmp_path / "ddp" / LAST)["bytes"]
    assert 1 <= len(list((run / "checkpoints" / "shards").iterdir())) <= 2, "of the last and the best one"
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    outputs = []
    for name in ("ddp", "fsdp2"):
        out = tmp_path / f"model-{name}"
        assert main(["export", str(tmp_path / name / LAST), "--out", str(out)]) == 0
        outputs.append(load_task(out)(image).logits)
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
    facts = json.loads((tmp_path / "model-fsdp2" / "model.json").read_text())
    assert facts["task"] == "classification"


def _go_on(rank: int, run: str, world: int, how: Any) -> Any:
    return trained(rank, run, world, how, max_epochs=2, ema=0.9)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_are_followed_by_one_three_or_another_strategy(tmp_path: Path) -> None:
    on_ranks(2, _both, str(tmp_path), {"ema": 0.9})
    for world, how in ((1, {}), (3, {}), (2, "ddp")):
        ends = []
        for begun, strategy in (("fsdp2", how), ("ddp", "ddp")):
            run = tmp_path / f"{begun}-{world}-{strategy or 'fsdp2'}"
            shutil.copytree(tmp_path / begun, run)
            ends.append((run / LAST, on_ranks(world, _go_on, str(run), world, strategy)))
        for (losses, metrics), (own, measured) in zip(ends[1][1], ends[0][1], strict=True):
            assert own == pytest.approx(losses, abs=1e-5) and measured == pytest.approx(metrics, abs=1e-5)
        close(ends[1][0], ends[0][0])
    back = tmp_path / "back"
    shutil.copytree(tmp_path / "ddp", back)
    losses = on_ranks(2, _go_on, str(back), 2, {})[0][0]
    shutil.rmtree(back)
    shutil.copytree(tmp_path / "ddp", back)
    assert losses == pytest.approx(on_ranks(2, _go_on, str(back), 2, "ddp")[0][0], abs=1e-5)


def _killed(rank: int, run: str) -> list[float]:
    with pytest.raises(RuntimeError, match="killed"):
        trained(rank, run, 2, {}, max_epochs=2, ema=0.9, callbacks=[Killed(4)])
    return trained(rank, run, 2, {}, max_epochs=2, ema=0.9)[0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_that_was_killed_within_an_epoch_ends_as_one_that_was_not(tmp_path: Path) -> None:
    (losses, _), *_ = on_ranks(2, _go_on, str(tmp_path / "whole"), 2, {})
    rest = on_ranks(2, _killed, str(tmp_path / "killed"))[0]
    assert rest == losses[4:]
    close(tmp_path / "whole" / LAST, tmp_path / "killed" / LAST, weights=0)


def _options(rank: int, folder: str) -> list[list[float]]:
    found = []
    for number, (how, options) in enumerate(
        (
            ({"activation_checkpointing": True, "cpu_offload": True}, {}),
            ({"gather_dtype": "bfloat16"}, {"precision": "bf16-mixed"}),
            ({}, {"optimizer": "lamb", "callbacks": [InspectionLogger(count=1)]}),
            ("ddp", {}),
            ({}, {"accumulate_grad_batches": 2}),
            ("ddp", {"accumulate_grad_batches": 2}),
        )
    ):
        found.append(trained(rank, f"{folder}/{number}", 2, how, **options)[0])
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_options_train_as_without_them(tmp_path: Path) -> None:
    for recomputed, gathered, lamb, plain, accumulated, by_ddp in on_ranks(2, _options, str(tmp_path)):
        assert recomputed == pytest.approx(plain, abs=1e-5) and accumulated == pytest.approx(by_ddp, abs=1e-5)
        for each in (gathered, lamb):
            assert len(each) == len(plain) and each[0] == pytest.approx(plain[0], rel=0.02)


# ---------------------------------------------------------------------- one process is enough for these


def _saved(rank: int, run: str) -> None:
    trained(rank, run, 1, {}, ema=0.9, train_images=8)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sharded_checkpoint_is_opened_whole_and_damage_is_named(tmp_path: Path) -> None:
    on_ranks(1, _saved, str(tmp_path))
    last = tmp_path / LAST
    assert find_last(tmp_path) == last and load_task(last).classes == ("dark", "light")
    (folder,) = (tmp_path / "checkpoints" / "shards").iterdir()
    (file,) = folder.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for read in (load_task, check_whole):
        with pytest.raises(CheckpointError, match="wrong checksum"):
            read(last)
    file.write_bytes(content[:-9])
    with pytest.raises(CheckpointError, match="cut off"):
        load_task(last)
    assert find_last(tmp_path) is None
    shutil.copy(last, tmp_path / "alone.ckpt")
    with pytest.raises(CheckpointError, match="copy that folder too"):
        load_task(tmp_path / "alone.ckpt")


def _refused(rank: int, run: str) -> list[str]:
    said = []
    for how, options in (
        ({"gather_dtype": "bfloat16"}, {}),
        ({}, {"callbacks": [Unfreezing({1: ["backbone"]})]}),
        ({"activation_checkpointing": True}, {"backbone": "resnet18"}),
        ({"activation_checkpointing": True, "min_num_params": 10**9}, {}),
        ({"gather_dtype": "float8"}, {}),
        ({"min_num_params": -1}, {}),
    ):
        with pytest.raises(UsageError) as caught:
            trained(rank, run, 1, how, **options)
        said.append(str(caught.value))
    return said


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_cannot_be_sharded_is_refused(tmp_path: Path) -> None:
    (said,) = on_ranks(1, _refused, str(tmp_path))
    for text, expected in zip(
        said, ("needs trainer.precision", "use ddp", "has batch norm", "no blocks", "allowed", "at least 0"),
        strict=True,
    ):  # fmt: skip
        assert expected in text


def test_gradients_of_16_bits_and_weights_of_no_dimension_are_refused() -> None:
    class Task(One):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(1.0))

    trainer: Any = SimpleNamespace(precision="32-true", strategy=None, callbacks=[])
    refuse(One(), trainer)
    with pytest.raises(UsageError, match="scale is a single number"):
        refuse(Task(), trainer)
    trainer.precision = "16-mixed"
    with pytest.raises(UsageError, match="use bf16-mixed"):
        refuse(One(), trainer)
    trainer.precision = "32-true"
    for change, expected in (({"pcgrad": True}, "pcgrad"), ({"compile_network": True}, "compile_network")):
        task: Any = One()
        vars(task).update(change)
        with pytest.raises(UsageError, match=expected):
            refuse(task, trainer)


class One(LightningModule):
    """What a refusal asks a task."""

    name, compile_network = "one", False

    def parts(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("strategy", ["fsdp", "fsdp_cpu_offload"])
def test_the_first_version_is_refused_by_the_name_of_the_second(strategy: str) -> None:
    from visionkit.trainer_options import check_trainer

    with pytest.raises(UsageError, match="use fsdp2"):
        check_trainer({"strategy": strategy, "max_epochs": 1}, learning=True)
