"""An interrupted epoch that goes on with more or fewer processes than it began with."""

from __future__ import annotations

import sys
from typing import Any

from lightning import Callback, LightningModule, Trainer

from visionkit.resume import settle, settled
from visionkit.wording import counted, epoch_text


class Resharding(Callback):
    """Deals what is left of an interrupted epoch to the processes that there are now, each sample once.

    The data module knows the samples, see `EpochSampler`; here Lightning's counters, which count the batches of a
    process, are brought to the same place before they are loaded.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        loops = (checkpoint.get("loops") or {}).get("fit_loop")
        if trainer.state.fn != "fit" or loops is None or not hasattr(data, "go_on_from"):
            return
        before = settled(loops)
        now = data.go_on_from(before)
        if now == before:
            return
        settle(loops, now)
        if trainer.is_global_zero:
            state = checkpoint[type(data).__qualname__]
            print(
                f"{epoch_text(now.epoch, trainer.max_epochs)} was begun by {counted(state['world'], 'process')} of "
                f"batch size {state['batch_size']}, and goes on with {trainer.world_size} of {data.batch_size}: of its "
                f"samples {state.get('samples', state['world'] * state['batch_size'] * state['batches'])} were seen, "
                "and the others are left",
                file=sys.stderr,
                flush=True,
            )
