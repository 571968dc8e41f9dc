"""Two processes measure what one does and stop together; the batch script goes on where it was stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.kill_resume import start
from tests.real_data import ROOT
from visionkit.callbacks import agreement
from visionkit.checkpoint import describe


def training(run: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.tiny_training", str(run), *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 300
    while not path.exists():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail(process.communicate()[0])
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGINT, 130)],
    ids=["SIGTERM", "SIGUSR1", "SIGINT"],
)
@pytest.mark.parametrize("whole_group", [False, True], ids=["to the process", "to its workers too"])
def test_a_signal_saves_and_ends_with_its_status(number: int, status: int, whole_group: bool, tmp_path: Path) -> None:
    process = start(tmp_path, 2 * whole_group, tempfile.gettempdir(), slowly=0.2)
    last = tmp_path / "checkpoints" / "last.ckpt"
    while not last.exists() and process.is_alive():
        time.sleep(0.01)
    (os.killpg if whole_group else os.kill)(process.pid or 0, number)
    process.join()
    said = (tmp_path / "log.txt").read_text()
    assert process.exitcode == status, said
    step = describe(last)["step"]
    assert f"after step {step}: saved {last}; go on with --run {tmp_path} --ckpt_path last" in said
    assert {path.name for path in last.parent.glob(".*")} <= {".lock"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    """Eleven images in batches of four on two ranks: nothing is padded, nothing counted twice."""
    first = training(tmp_path / "a", "--val-images", "11", "--epochs", "1")
    assert first.wait() == 0, first.communicate()[0]
    # The same weights, measured again by two: no epoch is left, so the last checkpoint is validated as it is.
    script = """
import sys, torch
from pathlib import Path
from lightning import Trainer
from tests.tiny_training import NoiseData
from visionkit.checkpoint import load_task
task = load_task(Path(sys.argv[1]) / "checkpoints" / "last.ckpt")
data = NoiseData(val=11, input=task.input, classes=task.classes, batch_size=4)
trainer = Trainer(accelerator="cpu", devices=int(sys.argv[2]), strategy="ddp", logger=False, enable_progress_bar=False)
results = trainer.validate(task, datamodule=data, verbose=False)[0]
if trainer.is_global_zero:
    torch.save(results, Path(sys.argv[1]) / f"{sys.argv[2]}.pt")
"""
    (tmp_path / "measure.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for devices in ("1", "2"):
        subprocess.run(
            [sys.executable, tmp_path / "measure.py", tmp_path / "a", devices], cwd=ROOT, check=True, env=environment
        )
    one, two = (torch.load(tmp_path / "a" / f"{devices}.pt") for devices in ("1", "2"))
    assert one.keys() == two.keys() and "val/top1" in one
    for name in one:
        assert one[name] == pytest.approx(two[name], rel=1e-6), name


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_signal_to_one_of_two_processes_stops_both_and_saves_once(tmp_path: Path) -> None:
    process = training(tmp_path, "--slowly", "0.2", "--epochs", "50", "--every", "1000", "--devices", "2")
    last = tmp_path / "checkpoints" / "last.ckpt"
    wait_for(last, process)  # the end of the first epoch
    saved = last.stat().st_mtime_ns
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 143, said
    assert said.count("ended by SIGTERM") == 2  # each process states this, of the same step
    assert said.count(f"after step {describe(last)['step']}: saved") == 2
    assert last.stat().st_mtime_ns > saved


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_of_two_processes_goes_on_exactly(tmp_path: Path) -> None:
    from tests.tiny_training import end_state

    whole = training(tmp_path / "whole", "--devices", "2", "--epochs", "2", "--every", "1")
    assert whole.wait() == 0, whole.communicate()[0]
    stopped = training(tmp_path / "stopped", "--devices", "2", "--epochs", "2", "--every", "1", "--slowly", "0.2")
    wait_for(tmp_path / "stopped" / "checkpoints" / "last.ckpt", stopped)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait() == 143, stopped.communicate()[0]
    resumed = training(tmp_path / "stopped", "--devices", "2", "--epochs", "2", "--every", "1")
    assert resumed.wait() == 0, resumed.communicate()[0]
    assert end_state(tmp_path / "stopped") == end_state(tmp_path / "whole")


def test_trainer_files_hold_trainer_keys_alone() -> None:
    import inspect

    from lightning import Trainer

    known = inspect.signature(Trainer.__init__).parameters
    files = sorted((ROOT / "configs" / "trainer").glob("*.yaml"))
    assert [path.stem for path in files] == ["cpu", "ddp", "fsdp", "gpu", "slurm"]
    for path in files:
        content = yaml.safe_load(path.read_text())
        assert list(content) == ["trainer"], path
        assert set(content["trainer"]) <= set(known), path


@pytest.mark.parametrize("status", [0, 3, 143])
def test_the_batch_script_goes_on_and_asks_for_the_queue_only_after_143(status: int, tmp_path: Path) -> None:
    """The script itself, with programs in place of SLURM's and of the training that write down how they were called."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, body in (
        ("srun", '"$@"'),
        ("scontrol", f'echo "$@" > {tmp_path}/scontrol'),
        ("visionkit", f'echo "$@" > {tmp_path}/visionkit; exit {status}'),
    ):
        (tools / name).write_text(f"#!/bin/bash\n{body}\n")
        (tools / name).chmod(0o755)
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "SLURM_JOB_ID": "17"}
    command = ["bash", str(ROOT / "configs/deploy/slurm.sh"), str(tmp_path / "run"), "--ema", "0.9"]

    def called() -> str:
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        return (tmp_path / "visionkit").read_text().strip()

    alone = subprocess.run(command[:2], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert alone.returncode and "usage: sbatch configs/deploy/slurm.sh RUN" in alone.stderr
    begins = f"fit -c configs/trainer/slurm.yaml --ema 0.9 --run {tmp_path / 'run'} --ckpt_path last"
    assert called() == begins
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.ckpt").touch()
    assert called() == begins
    assert (tmp_path / "scontrol").exists() == (status == 143)
    if status == 143:
        assert (tmp_path / "scontrol").read_text().strip() == "requeue 17"


_TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
_OPTIONS = (
    "-c classification -c scenes -c ddp --trainer.accelerator cpu --trainer.devices 2 --report false "
    "--trainer.precision 32-true --model.backbone test_resnet --model.input.size [64,64] --data.count 64 "
    "--data.batch_size 4 --data.eval_count 8 --trainer.max_epochs 1 --checkpoint_every 1"
)
_TWO_RANKS = ["tests.killed_rank", "fit", *_OPTIONS.split()]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("launcher", [[sys.executable, "-m"], [*_TORCHRUN, "-m", "--"]], ids=["lightning", "torchrun"])
def test_a_rank_that_hangs_ends_the_training_with_one_line(launcher: list[str], tmp_path: Path) -> None:
    command = [*launcher, *_TWO_RANKS, "--rank_timeout", "40", "--run", str(tmp_path)]
    environment = {**os.environ, "HUNG": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    status = (
        int(re.findall(r"rank +: 0 .*\n +exitcode +: (\d+)", done.stderr)[0]) if "--" in launcher else done.returncode
    )
    assert status == 5, done.stderr
    errors = [line for line in done.stderr.splitlines() if "error: " in line]
    assert len(errors) == 1 and "raise --rank_timeout" in errors[0] and "--ckpt_path last" in errors[0], done.stderr
    assert describe(tmp_path / "checkpoints" / "last.ckpt")["step"] == 3


def test_a_process_that_hangs_is_ended_after_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's observer, which would kill the main process, is released; nothing that was started stays behind."""
    leave: list[tuple[Any, list[Any]]] = []
    monkeypatch.setattr(agreement.atexit, "register", lambda function, children: leave.append((function, children)))
    monkeypatch.setattr(agreement, "_PATIENCE", 0.1)
    children = [subprocess.Popen(["sleep", "60"]), subprocess.Popen(["true"])]
    end = threading.Event()
    observer = threading.Thread(target=end.wait, name="child-process-observer")
    observer._child_processes = children  # type: ignore[attr-defined]
    observer.start()
    try:
        agreement.release_observer()
        agreement.release_observer()
    finally:
        end.set()
        observer.join()
    assert observer._child_processes == [] and len(leave) == 1  # type: ignore[attr-defined]
    leave[0][0](leave[0][1])
    assert [child.wait(5) for child in children] == [-signal.SIGKILL, 0]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_rank_killed_three_times_and_restarted_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    state = []
    for name, more in (("whole", {}), ("killed", {"KILLED": "1"})):
        command = [*_TORCHRUN, "--max-restarts", "3", "-m", "--", *_TWO_RANKS, "--ckpt_path", "last"]
        environment = {**os.environ, **more, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*command, "--run", str(tmp_path / name)], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr.count("exitcode: -9") == (3 if more else 0)
        last = tmp_path / name / "checkpoints" / "last.ckpt"
        state.append(torch.load(last, weights_only=True)["state_dict"])
    assert all(torch.equal(value, state[1][key]) for key, value in state[0].items())
