"""A training that hangs is ended with status 5 and shows where it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.visionkit.callbacks.test_callbacks import fit
from visionkit.callbacks import HangWatch
from visionkit.errors import UsageError

HANGS = """
import sys, time
from pathlib import Path
from lightning import Callback
from tests.visionkit.callbacks.test_callbacks import fit
from visionkit.callbacks import HangWatch

class Stuck(Callback):
    def on_train_batch_start(self, trainer, *args):
        if trainer.global_step == 2:
            time.sleep(60)

fit(Path(sys.argv[1]), [HangWatch(1.5), Stuck()])
"""


def test_a_training_that_hangs_is_ended(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 5, ended.stderr
    last = ended.stderr.strip().splitlines()[-1]
    assert "has made no step for 1.5 s (--hang_timeout) after step 2" in last and last.startswith("visionkit: error:")
    assert "in on_train_batch_start" in ended.stderr


def test_a_training_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    watch = HangWatch(600)
    fit(tmp_path, [watch])
    assert watch._over.is_set()
    with pytest.raises(UsageError, match="above 0"):
        HangWatch(-1)
