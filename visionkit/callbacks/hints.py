"""Reports how much of a network is trained, epochs of few steps, and images that no step takes."""

from __future__ import annotations

import sys
from collections.abc import Sized
from typing import Any

from lightning import Callback, LightningModule, Trainer

from visionkit.wording import counted

FEW_STEPS = 10


class Hints(Callback):
    """Prints one line when training starts where a part of the network is frozen, and one where epochs are short.

    In a short epoch of fewer than `FEW_STEPS` steps little is trained between two validations.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            _report_trained(pl_module)
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
        rest = images - steps * size if loader.drop_last else 0
        left_out = (
            f" and leaves {rest} of {counted(images, 'image')} out (--data.drop_last false takes them)" if rest else ""
        )
        smaller = max(2, images // FEW_STEPS)  # batch norm needs two
        advice = f"; --data.batch_size {smaller} gives {images // smaller}" if smaller < size else ""
        an_epoch = f"{counted(steps, 'step')} of {counted(min(size, images), 'image')}"
        print(f"an epoch has only {an_epoch}{left_out}{advice}", file=sys.stderr)


def _report_trained(module: LightningModule) -> None:
    whole = sum(each.numel() for each in module.parameters())
    trained = sum(each.numel() for each in module.parameters() if each.requires_grad)
    if trained < whole:
        print(f"{trained:,} of {counted(whole, 'parameter')} are trained", file=sys.stderr)
