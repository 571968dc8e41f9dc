"""Optical flow and stereo on two real ranks by the command line: trained, gone on with, and measured as by one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from visionkit.checkpoint import load_task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TASKS = {
    "optical_flow": [
        *("--config", "optical_flow", "--data", "PairSceneData", "--data.target", "flow"),
        *("--model.architecture", "flownet_s", "--model.flownet_s.width", "0.0625", "--model.input.size", "[64,64]"),
    ],
    "stereo": [  # without batch normalization, whose statistics each rank has of its own images
        *("--config", "stereo", "--data", "PairSceneData", "--data.target", "disparity"),
        *("--model.architecture", "mc_cnn_fast", "--model.input.size", "[48,64]"),
        *("--model.mc_cnn_fast.max_disparity", "8", "--model.mc_cnn_fast.width", "4"),
        *("--model.mc_cnn_fast.layers", "2", "--model.mc_cnn_fast.pairs", "64"),
    ],
}


def _run(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "ui.cli", *arguments], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def _fit(run: Path, task: str, devices: int, steps: int, *more: str) -> dict[str, Any]:
    _run(
        *("fit", *TASKS[task], "--data.clip.size", "[64,64]", "--data.count", "8", "--data.eval_count", "5"),
        *("--data.batch_size", str(4 // devices), "--data.eval_batch_size", "1", "--data.num_workers", "0"),
        *("--trainer.accelerator", "cpu", "--trainer.devices", str(devices), "--trainer.precision", "32-true"),
        *("--model.optim.name", "sgd", "--model.optim.lr", "1e-3", "--model.optim.schedule", "constant"),
        *("--trainer.max_epochs", "-1", "--trainer.max_steps", str(steps), "--run", str(run), *more),
        *(["--trainer.strategy", "ddp"] if devices > 1 else []),
    )
    return json.loads((run / "summary.json").read_text())


@pytest.mark.parametrize("task", TASKS)
def test_two_ranks_train_go_on_and_measure_as_one(task: str, tmp_path: Path) -> None:
    alone = _fit(tmp_path / "one", task, 1, 4)
    _fit(tmp_path / "two", task, 2, 2)
    together = _fit(tmp_path / "two", task, 2, 4, "--ckpt_path", "last")
    assert together["steps"] == alone["steps"] == 4
    ours, theirs = (load_task(tmp_path / name / "checkpoints" / "last.ckpt").state_dict() for name in ("one", "two"))
    if task == "optical_flow":  # the patches that MC-CNN is trained on are drawn by each rank
        for name, value in ours.items():
            torch.testing.assert_close(theirs[name], value, atol=1e-5, rtol=1e-4)
    measured = []
    for devices in (1, 2):
        strategy = ["--trainer.strategy", "ddp"] if devices > 1 else []
        out = tmp_path / f"test{devices}.json"
        _run(
            *("test", "--ckpt_path", str(tmp_path / "one"), "--trainer.accelerator", "cpu", "--data.num_workers", "0"),
            *("--trainer.devices", str(devices), *strategy),
        )
        out.write_text((tmp_path / "one" / "summary.json").read_text())
        measured.append(json.loads(out.read_text())["test"]["metrics"])
    assert measured[0] == pytest.approx(measured[1], rel=1e-5) and len(measured[0]) > 3
