"""`visionkit` in two processes, of which the second is killed in each of its first three starts, or hangs.

Run by `tests/visionkit/test_cluster.py`, `test_two_nodes.py` and `tests/node_kills.py`; where none of KILLED, HUNG,
SLOWLY and NOTES is set nothing happens.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

import visionkit.training as training
from tests.kills import Notes
from ui.cli import main
from visionkit.elastic import RESTART


class Killer(Callback):
    """Ends rank 1 two steps after each of the first three starts, as a machine that loses power would, or stops it."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        time.sleep(float(os.environ.get("SLOWLY", "0")))
        start = int(os.environ.get(RESTART, "0"))
        if "KILLED" in os.environ and trainer.global_rank == 1 and start < 3 and trainer.global_step == 2 * start + 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if "HUNG" in os.environ and trainer.global_rank == 1 and trainer.global_step == 3:
            os.kill(os.getpid(), signal.SIGSTOP)


if __name__ == "__main__":
    default = training.default_callbacks
    notes = [Notes(Path(os.environ["NOTES"]))] if "NOTES" in os.environ else []
    training.default_callbacks = lambda *given, **named: [*default(*given, **named), Killer(), *notes]
    sys.exit(main(sys.argv[1:]))
