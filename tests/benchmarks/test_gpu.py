"""The script for a GPU: its rows run anywhere with tiny networks, each within its budget."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import torch

from benchmarks import gpu


@pytest.mark.parametrize(
    "name", ["pose", *(pytest.param(name, marks=pytest.mark.slow) for name in gpu.ROWS if name != "pose")]
)
def test_a_row_runs_on_the_cpu(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--device", "cpu", "--quick", "--here", "--rows", name]) == 0
    said = capsys.readouterr().out
    assert ("kept by 2 of 2 tasks" if name == "contracts" else "images per second") in said


def test_without_a_gpu_nothing_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 0 and "nothing was measured" in capsys.readouterr().out


def test_a_row_that_hangs_costs_its_budget_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, run = [0.0], []

    def ended(command: list[str], timeout: float, **how: Any) -> Any:
        name = command[command.index("--rows") + 1]
        run.append((name, timeout))
        now[0] += timeout if name == "detection" else 100.0
        if name == "detection":
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, int(name == "pose"))

    monkeypatch.setattr(gpu.subprocess, "run", ended)
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    assert gpu.main(["--device", "cpu", "--quick", "--minutes", "7"]) == 1
    # 420 s: rows use 100 each, the hanging one takes its 90, and pose finds 30 left.
    assert run == [("resnet", 200), ("detection", 90), ("queries", 110), ("segmentation", 80), ("pose", 30)]
    said = capsys.readouterr().out
    assert "detection: no result, ended after its 90 s" in said and "ddp: not run" in said
    assert said.splitlines()[-1] == "without a result, or with a fault: detection, pose, ddp, contracts"


def test_the_budgets_fit_into_the_time() -> None:
    assert sum(seconds for seconds, _ in gpu.ROWS.values()) <= 60 * gpu.MINUTES
    assert all(seconds > gpu.LEAST for seconds, _ in gpu.ROWS.values())
