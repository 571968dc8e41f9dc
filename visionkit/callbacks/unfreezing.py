"""Staged unfreezing: parts of the network stay as they are until their epoch comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightning import Callback, LightningModule, Trainer
from torch import nn

from visionkit.errors import UsageError, suggest


class Unfreezing(Callback):
    """Parts of the network begin to train at the epoch that is set for them; all others are trained from the start.

    The optimizer knows every weight from the beginning, so the schedule of rates and a resume are as without it. Under
    DDP the strategy must allow unused parameters (`ddp_find_unused_parameters_true`).

    Args:
        epochs: Number of epochs before that -> names of modules inside `network`, such as
            `{2: ["backbone.model.layer4"], 5: ["backbone"]}`.
    """

    def __init__(self, epochs: Mapping[int, Sequence[str]]) -> None:
        self.epochs = {int(epoch): tuple(parts) for epoch, parts in sorted(epochs.items())}
        if not self.epochs or min(self.epochs) < 1:
            raise UsageError(
                "unfreezing: give at least one number of epochs, each 1 or more, with the parts that begin to train "
                "after them"
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        modules = dict(pl_module.network.named_modules())  # type: ignore[union-attr]
        kept = getattr(getattr(pl_module, "effective_optim", None), "freeze_stride", 0)
        if kept or getattr(getattr(pl_module.network, "backbone", None), "has_adapters", False):
            what = f"optim.freeze_stride {kept}" if kept else "model.adapters"
            raise UsageError(
                f"unfreezing: {what} keeps layers as they are, and unfreezing would train them; leave one out"
            )
        for parts in self.epochs.values():
            for part in parts:
                if part not in modules or not part:
                    near = suggest(part, modules)
                    raise UsageError(f"unfreezing: the network has no part {part!r}{near}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._apply(pl_module, trainer.current_epoch)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._apply(pl_module, trainer.current_epoch)

    def _apply(self, pl_module: LightningModule, epoch: int) -> None:
        modules: dict[str, nn.Module] = dict(pl_module.network.named_modules())  # type: ignore[union-attr]
        # Later parts first: a part within a later one may already be trained.
        for begins, parts in sorted(self.epochs.items(), reverse=True):
            for part in parts:
                learns = epoch >= begins
                modules[part].requires_grad_(learns)
                modules[part].train(learns)
        for module in getattr(pl_module, "_kept_in_eval", ()):  # by optim.freeze_norm
            module.train(False)
