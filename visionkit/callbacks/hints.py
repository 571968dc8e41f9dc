"""Reports epochs of few steps, in which little is trained between two validations, and images that no step takes."""

from __future__ import annotations

import sys
from collections.abc import Sized
from typing import Any

from lightning import Callback, LightningModule, Trainer

from visionkit.wording import counted

FEW_STEPS = 10


class Hints(Callback):
    """Prints one line when training starts where an epoch has fewer than `FEW_STEPS` steps."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loop: Any = trainer
        steps = loop.num_training_batches
        loader = loop.train_dataloader
        size, sampler = getattr(loader, "batch_size", None), getattr(loader, "sampler", None)
        whole = loop.limit_train_batches == 1.0 and not loop.overfit_batches and not loop.fast_dev_run
        known = isinstance(size, int) and isinstance(sampler, Sized)
        if not trainer.is_global_zero or not known or not whole or steps >= FEW_STEPS:
            return
        assert isinstance(size, int) and isinstance(sampler, Sized)
        images = len(sampler)  # of this process, as the batch size
        ranks = trainer.world_size
        rest = ranks * (images - steps * size) if loader.drop_last else 0
        total = counted(ranks * images, "image")
        left_out = f" and leaves {rest} of {total} out (--data.drop_last false takes them)" if rest else ""
        smaller = max(2, images // FEW_STEPS)  # batch norm needs two
        advice = f"; --data.batch_size {smaller} gives {images // smaller}" if smaller < size else ""
        an_epoch = f"{counted(steps, 'step')} of {counted(ranks * min(size, images), 'image')}"
        print(f"an epoch has only {an_epoch}{left_out}{advice}", file=sys.stderr)
