"""One training a folder: a new one never lands in another's, and two never write into one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_data import ROOT
from visionkit import runs
from visionkit.errors import EnvironmentFault, UsageError
from visionkit.runs import CHECKPOINTS, claim, make_folder, release, run_folder

HOLD = """
import sys
from pathlib import Path
from visionkit.runs import run_folder
print(run_folder(sys.argv[1] if len(sys.argv) > 1 else None, "task", resuming=False), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    release()


def holder(*arguments: str) -> subprocess.Popen[str]:
    """Another process that trains, as far as folders are concerned."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None and process.stdout.readline()
    return process


def test_trainings_of_the_same_second_have_folders_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs.time, "strftime", lambda text: "20260301-101500")
    names = [run_folder(None, "depth", resuming=False).name for _ in range(3)]
    assert names == ["depth-20260301-101500", "depth-20260301-101500-2", "depth-20260301-101500-3"]


@pytest.mark.parametrize("resuming", [False, True])
def test_a_folder_that_is_trained_in_is_refused_until_the_other_ends(resuming: bool) -> None:
    other = holder("a")
    with pytest.raises(UsageError, match=rf"^a: another training writes there \(process {other.pid} on .*--run"):
        run_folder("a", "task", resuming)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    assert run_folder("a", "task", resuming) == Path("a")


def test_from_python_the_checkpoints_are_claimed_too(tmp_path: Path) -> None:
    from tests.tiny_training import train

    other = holder(str(tmp_path / "a"))
    with pytest.raises(UsageError, match="another training writes there"):
        train(tmp_path / "a", max_epochs=1)
    other.communicate("")
    train(tmp_path / "a", max_epochs=1)
    assert not runs._claimed, "given back when training has ended"


def test_one_process_may_train_again_and_again() -> None:
    for _ in range(2):
        claim(Path("a") / CHECKPOINTS)
    release(Path("a") / CHECKPOINTS)
    release(Path("a") / CHECKPOINTS)


def test_what_a_training_spawns_may_write_in_its_folder() -> None:
    run_folder("a", "task", resuming=False)
    code = "from pathlib import Path; from visionkit.runs import claim; claim(Path('a/checkpoints'))"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK"])
def test_other_ranks_make_and_claim_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    run_folder(None, "task", resuming=False)
    run_folder("b", "task", resuming=False)
    assert not list(Path().iterdir()) and not runs._claimed


def test_a_run_with_checkpoints_is_not_begun_again() -> None:
    folder = run_folder("a", "task", resuming=False)
    (folder / "config.yaml").touch()
    run_folder("a", "task", resuming=False)  # killed before its first checkpoint
    (folder / CHECKPOINTS / "last.ckpt").touch()
    with pytest.raises(UsageError, match="go on with it by --run a --ckpt_path last"):
        run_folder("a", "task", resuming=False)
    assert run_folder("a", "task", resuming=True) == folder


def test_a_folder_that_cannot_be_made_is_a_fault_of_the_machine() -> None:
    Path("file").touch()
    with pytest.raises(EnvironmentFault, match="file/run: cannot make"):
        make_folder("file/run", "task")
