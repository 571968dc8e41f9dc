"""`visionkit` in a process of torchrun whose second rank is killed in each of its first three starts.

Run by `tests/visionkit/test_cluster.py` under torchrun; where KILLED is not set nobody is killed.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from lightning import Callback, LightningModule, Trainer

import visionkit.cli as cli
from ui.cli import main
from visionkit.elastic import RESTART


class Killer(Callback):
    """Ends rank 1 two steps after each of the first three starts, as a machine that loses power would."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        start = int(os.environ.get(RESTART, "0"))
        if "KILLED" in os.environ and trainer.global_rank == 1 and start < 3 and trainer.global_step == 2 * start + 3:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    default = cli.default_callbacks
    cli.default_callbacks = lambda *given, **named: [*default(*given, **named), Killer()]
    sys.exit(main(sys.argv[1:]))
