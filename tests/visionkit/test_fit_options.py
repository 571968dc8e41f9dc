"""`fit` with options that once crashed, and with mistakes that once were called defects; in one process."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning import Callback

from tests.tiny_training import tiny_task
from tests.toy_data import ToyData
from ui.cli import main
from visionkit.arguments import RUN_OPTIONS, RunOption, check_run_options
from visionkit.checkpoint import describe
from visionkit.errors import UsageError
from visionkit.sampling import EpochSampler
from visionkit.trainer_options import DEFAULT_EPOCHS, check_trainer

TOY = [
    *("--model", "ClassificationTask", "--model.backbone", "test_resnet", "--model.input.size", "[32,32]"),
    *("--data", "tests.toy_data.ToyData", "--data.batch_size", "7", "--trainer.accelerator", "cpu"),
]


class Breaks(Callback):
    """Does before the first step what a person or a cluster may do."""

    def __init__(self, number: int) -> None:
        self.number = number

    def on_sanity_check_start(self, *args: Any) -> None:
        os.kill(os.getpid(), self.number)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISIONKIT_ALLOW_IMPORTS", "tests")


def fit(*options: str, epochs: int | None = 1) -> int:
    length = ["--trainer.max_epochs", str(epochs)] if epochs else []
    return main(["fit", *TOY, *length, "--run", "r", *options])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--trainer.precision 16-true", "trainer.precision 16-true: weights and box coordinates need 32 bits"),
        ("--trainer.precision bf16-true", "use bf16-mixed"),
        ("--trainer.val_check_interval 100", "`val_check_interval` (100) must be less than or equal"),
        ("--trainer.check_val_every_n_epoch 0", "trainer.check_val_every_n_epoch 0: must be at least 1"),
        ("--trainer.accumulate_grad_batches 0", "trainer.accumulate_grad_batches 0: must be at least 1"),
        ("--trainer.log_every_n_steps -1", "trainer.log_every_n_steps -1: must be at least 0"),
        ("--trainer.gradient_clip_val -1", "must be at least 0"),
        ("--trainer.max_steps -5", "trainer.max_steps -5: must be at least -1"),
        ("--trainer.min_epochs -1", "trainer.min_epochs -1: must be at least 0"),
        ("--trainer.val_check_interval 0", "trainer.val_check_interval 0: must be above 0, a fraction of an epoch or"),
        ("--model.optim.weight_decay -1", "optim.weight_decay -1.0: must be at least 0"),
        ("--seed_everything -1", "seed_everything -1: a whole number from 0 to 4294967295"),
        ("--data.eval_batch_size -1", "data.eval_batch_size -1: must be at least 0"),
        ("--data.num_workers -1", "data.num_workers -1: must be at least 0"),
        ("--model.optim.momentum 1", "optim.momentum 1.0: allowed is from 0 to below 1"),
        ("--trainer.strategy fsdp", "use fsdp2"),
        ("--trainer.callbacks EarlyStopping --trainer.callbacks.monitor val/nothing", "monitor 'val/nothing' is not"),
        (
            "--trainer.callbacks EarlyStopping --trainer.callbacks.monitor val/top1 --trainer.callbacks.mode up",
            "`mode` can be min, max, got up",
        ),
        ("--ckpt_path best", "no best checkpoint here yet"),
    ],
)
def test_a_mistake_is_reported_in_one_line(options: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = fit(*options.split())
    message = capsys.readouterr().err
    assert status == (4 if "ckpt_path" in options else 2), message
    assert said in message and "defect" not in message and "Traceback" not in message
    assert "site-packages" not in message


@pytest.mark.parametrize("value", ["0", "-1", "-0.5", "1e9", "1"])
@pytest.mark.parametrize(
    "option", [each for each in RUN_OPTIONS if each.type in (int, float)], ids=lambda each: each.name
)
def test_every_number_of_a_run_has_a_range(option: RunOption, value: str) -> None:
    """0 is off and stated as such, or refused; negative numbers never pass."""
    number = option.type(float(value))
    allowed = (number > 0 and number <= option.maximum) or (number == 0 and option.zero)
    assert option.allowed, "each states its range"
    assert ("0 is off" in option.help) == option.zero
    if allowed:
        check_run_options({option.name: number})
        return
    with pytest.raises(UsageError, match=re.escape(f"{option.name} {number:g}: ") + ".*" + re.escape(option.allowed)):
        check_run_options({option.name: number})


@pytest.mark.parametrize("source", ["typed", "yaml", "Python"])
def test_a_number_out_of_range_is_refused_before_anything_is_made(source: str, capsys: Any) -> None:
    if source == "Python":
        from visionkit import fit as train

        with pytest.raises(UsageError, match="rank_timeout 0: seconds above 0"):
            train(tiny_task(), ToyData(batch_size=7), run="r", rank_timeout=0)
    else:
        Path("own.yaml").write_text("rank_timeout: 0\n")
        assert fit(*(["-c", "own.yaml"] if source == "yaml" else ["--rank_timeout", "0"])) == 2
        assert "rank_timeout 0: seconds above 0 and at most" in capsys.readouterr().err
    assert not Path("r").exists()


@pytest.mark.parametrize(
    ("options", "saved"),
    [
        ("--trainer.log_every_n_steps 0", "best: r/checkpoints/best-"),
        ("--trainer.barebones true", "no checkpoint was saved"),
        ("--trainer.enable_checkpointing false", "no checkpoint was saved"),
        ("--trainer.fast_dev_run true", "no checkpoint was saved"),
        ("--trainer.limit_val_batches 0", "last: r/checkpoints/last.ckpt"),
        ("--trainer.overfit_batches 1 --ema 0.9", "best: r/checkpoints/best-"),
        ("--trainer.precision 16-mixed", "best: r/checkpoints/best-"),
    ],
)
def test_options_that_once_crashed(options: str, saved: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(*options.split()) == 0
    message = capsys.readouterr()
    assert saved in message.out
    named = saved.startswith(("best", "last"))
    assert ("next: visionkit test --ckpt_path r" in message.out) == named
    assert "site-packages" not in message.err, "no line of a library as it is"


def test_overfitting_sees_one_batch_again_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--trainer.overfit_batches", "1", "--model.optim.lr", "0.01", epochs=15) == 0
    losses = [float(value) for value in re.findall(r"batch 1/1.*train/loss (\S+)", capsys.readouterr().out)]
    assert losses[-1] < losses[0] / 3
    sampler = EpochSampler(8, shuffle=True)
    sampler.frozen = True
    first = list(sampler)
    sampler.set_epoch(3)
    assert list(sampler) == first and [index for _, index in first] != list(range(8))


def test_the_order_of_options_does_not_matter() -> None:
    turned = ["--data.batch_size", "7", "--data.count", "14", "--model.input.size", "[32,32]"]
    classes = ["--data", "tests.toy_data.ToyData", "--model.backbone", "test_resnet", "--model", "ClassificationTask"]
    assert (
        main(["fit", *turned, *classes, "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1", "--run", "r"]) == 0
    )
    assert describe("r/checkpoints/last.ckpt")["step"] == 2


def test_the_same_words_begin_and_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--ckpt_path", "last") == 0
    assert "r has no checkpoint yet; training begins" in capsys.readouterr().err
    step = describe("r/checkpoints/last.ckpt")["step"]
    assert fit("--ckpt_path", "last", epochs=2) == 0
    assert "no checkpoint yet" not in capsys.readouterr().err
    assert describe("r/checkpoints/last.ckpt")["step"] == 2 * step
    # A model to begin with does not stand in the way: it is used by the first start alone.
    begins = ["--init_from", "r/checkpoints/last.ckpt", "--ckpt_path", "last", "--run", "b"]
    assert fit(*begins) == 0 and "init_from" in capsys.readouterr().err
    assert fit(*begins, epochs=2) == 0 and "init_from" not in capsys.readouterr().err
    for path in Path("r/checkpoints").glob("*.ckpt"):
        path.write_bytes(b"")
    assert fit("--ckpt_path", "last") == 4, "damaged checkpoints are not written over"


def test_last_without_a_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *TOY, "--trainer.max_epochs", "1", "--ckpt_path", "last"]) == 2
    assert "--run" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [(signal.SIGINT, 130, "visionkit: interrupted"), (signal.SIGTERM, 143, "visionkit: ended by SIGTERM")],
)
def test_a_signal_before_the_first_step_has_its_status(
    number: int, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        breaks = ["--trainer.callbacks", f"{__name__}.Breaks", "--trainer.callbacks.number", str(int(number))]
        assert fit(*breaks) == status
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    message = capsys.readouterr().err
    assert said in message and "Traceback" not in message and "Detected" not in message


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ({}, DEFAULT_EPOCHS),
        ({"min_epochs": 50}, 50),
        ({"max_steps": 10}, None),
        ({"max_time": "00:01:00:00"}, None),
        ({"fast_dev_run": True}, None),
        ({"max_epochs": -1}, -1),
    ],
)
def test_the_default_length_is_stated(
    options: dict[str, Any], epochs: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    check_trainer(options, learning=True)
    assert options.get("max_epochs") == epochs
    stated = f"trainer.max_epochs is not given: training for {epochs} epochs\n"
    assert capsys.readouterr().err == (stated if epochs and epochs > 0 else "")


def test_a_time_alone_gives_a_schedule_no_length(capsys: pytest.CaptureFixture[str]) -> None:
    timed = ["--trainer.max_time", "00:00:10:00", "--trainer.limit_train_batches", "1"]
    assert fit(*timed, epochs=None) == 2
    assert "optim.schedule cosine" in capsys.readouterr().err
    assert fit("--max_time", "1s", *timed, epochs=None) == 2
    assert "leave trainer.max_time out" in capsys.readouterr().err
    assert fit("--max_time", "1s", epochs=None) == 0
    message = capsys.readouterr().err
    assert re.search(r"--max_time 1s: [\d,]+ (epoch|step)s?\b", message) and "not given" not in message
    assert not yaml.safe_load(Path("r/config.yaml").read_text())["trainer"].get("max_epochs")
    shutil.rmtree("r")
    constant = ["--model.optim.schedule", "constant", "--model.optim.warmup", "0", "--trainer.max_time", "00:00:00:01"]
    assert fit(*constant, epochs=None) == 0


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            {"label_map": torch.zeros(2, 4, 4)},
            "needs labels for each image and NoneType gives label_map",
        ),
        ([{"boxes": torch.zeros(1, 4), "labels": torch.zeros(1)}], "gives boxes, labels for each object"),
        ([{}], "gives no labels for each object"),
    ],
)
def test_data_without_the_labels_of_a_task_is_refused(target: Any, said: str) -> None:
    task = tiny_task()
    task._trainer = type("T", (), {"datamodule": None})()  # type: ignore[assignment]
    with pytest.raises(UsageError, match=said):
        task._check_targets({"target": target})  # type: ignore[typeddict-item]
    assert isinstance(ToyData(), ToyData)
