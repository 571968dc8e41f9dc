"""The base of every task: it owns the steps, so a task is a network, its losses and the meaning of its outputs."""

from __future__ import annotations

from itertools import islice
from typing import Any, Self

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from torch.optim import Optimizer

from visionkit.backbones import Backbone
from visionkit.checkpoint_files import misfit
from visionkit.contract import RANDOM, TaskContract
from visionkit.errors import CheckpointError, DataError, UsageError
from visionkit.finite import finite
from visionkit.loading import collate, of_equal_size
from visionkit.names import classes_differ
from visionkit.nn.memory_format import to_channels_last
from visionkit.nn.norms import batch_norms
from visionkit.optim import OptimConfig, build_optimizer, build_scheduler, for_random_weights, parameter_groups
from visionkit.part_optimizers import PartOptimizers, build_part_optimizers, only
from visionkit.plain_values import plain
from visionkit.predictions import Prediction
from visionkit.resume import epoch_ends
from visionkit.target_check import check_targets
from visionkit.types import Batch


class VisionTask(TaskContract):
    """One vision task. Steps, logging, optimizers and the contents of checkpoints are here, the rest in a subclass.

    A subclass sets the class variables, builds `network` (with a `backbone`), `normalize` and `metrics`, and writes
    `losses`, `decode` and `restore`, see `visionkit.contract`. It does not draw, name a logger, or access the data
    module.
    """

    def forward(self, *inputs: Tensor) -> Any:
        """Inputs in the order of their names, (B, C, H, W) uint8 or clips (B, T, C, H, W), to raw outputs.

        One return type in every mode.
        """
        return self.network(*(self.normalize(self.in_memory_format(each)) for each in inputs))

    def in_memory_format(self, images: Tensor) -> Tensor:
        """Images in the memory format of the weights."""
        if self.channels_last and images.dim() == 4:
            return images.contiguous(memory_format=torch.channels_last)
        return images

    def run(self, batch: Batch) -> Any:
        """Runs the network on a batch; the one place that takes its inputs by name.

        Raises:
            DataError: The data has inputs under other names.
        """
        given = batch["inputs"]
        if given.keys() != set(self.inputs):
            raise DataError(f"{self.name} takes {', '.join(self.inputs)}, and the data gives {', '.join(given)}")
        return self(*(given[name] for name in self.inputs))

    def example_inputs(self, batch: int = 2, min_side: int = 0) -> tuple[Tensor, ...]:
        """Noise of the shapes that the network takes, (batch, C, H, W) uint8 each, or clips (batch, T, C, H, W).

        Args:
            batch: Images, or clips, of each input.
            min_side: Smallest side in pixels, where the network takes any size.
        """
        spec = self.input
        if spec.resize_mode == "native" and min(spec.size) < min_side:
            spec = spec.scaled(min_side / min(spec.size))
        clip = (spec.frames,) if spec.frames > 1 else ()
        shape = (batch, *clip, spec.channels, *spec.size)
        return tuple(torch.randint(0, 256, shape, dtype=torch.uint8) for _ in self.inputs)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        # Lightning looks for tensors in every number of every geometry, milliseconds in a batch of 256.
        moved = {key: move_data_to_device(batch[key], device) for key in ("inputs", "target")}
        return {**batch, **moved}  # type: ignore[typeddict-item]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self._check_targets(batch)
        batch = self.train_batch(batch)
        terms = self.training_losses(batch)
        values = torch.stack(list(terms.values()))
        loss = values.sum()
        self.step_log.add(terms, values.detach())
        return loss

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of a training step; with several parts those of each, as `<part>/<term>`."""
        parts = self.parts()
        if not parts:
            return self.losses(self.run(batch), batch["target"])
        terms: dict[str, Tensor] = {}
        for name in parts:
            with only(self.network, name, parts):
                terms |= {f"{name}/{term}": value for term, value in self.part_losses(name, batch).items()}
        return terms

    def validation_step(self, batch: Batch, batch_idx: int) -> Any:
        return self._evaluate(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Any:
        return self._evaluate(batch)

    def _check_targets(self, batch: Batch) -> None:
        if not self._checked:
            data = type(getattr(self._trainer, "datamodule", None)).__name__
            check_targets(batch["target"], self.name, self.targets, data)
        self._checked = True

    def _evaluate(self, batch: Batch) -> Any:
        self._check_targets(batch)
        outputs = self.run(batch)
        terms = self.losses(outputs, batch["target"])
        self._eval_log.add(terms, torch.stack(list(terms.values())).detach(), weight=len(batch["id"]))
        decoded = self.decode_batch(outputs, batch)
        self.measure(decoded, batch)
        return decoded

    def decode_batch(self, outputs: Any, batch: Batch) -> Any:
        """What the network's outputs on a batch state, in input pixels, for `predictions`.

        Args:
            outputs: What `run` gave.
            batch: The batch; where its images have further views, it gets what is served of them.
        """
        decoded = self.decode(finite(outputs))
        if "views" in batch:
            batch["predictions"] = self._with_views(decoded, batch)
        return decoded

    def _with_views(self, decoded: Any, batch: Batch) -> list[Prediction]:
        """What is served of the images of a batch: predictions on the whole and on further views, merged."""
        whole = self.restore(decoded, batch["geometry"])
        examples = [example for views in batch["views"] for example in views]
        found: dict[int, Prediction] = {}
        for some in of_equal_size(examples, max(1, len(whole))):
            part = self.transfer_batch_to_device(collate([examples[k] for k in some]), self.device, 0)
            each = self.decode(finite(self.run(part)))
            found.update(zip(some, self.restore(each, part["geometry"]), strict=True))
        rest = (found[k] for k in range(len(examples)))
        return [
            self.merge_views([first, *islice(rest, len(views))], geometry.source) if views else first
            for first, views, geometry in zip(whole, batch["views"], batch["geometry"], strict=True)
        ]

    def on_validation_epoch_end(self) -> None:
        self._log_epoch("val")

    def on_test_epoch_end(self) -> None:
        self._log_epoch("test")

    def _log_epoch(self, split: str) -> None:
        values = {f"{split}/{name}": value for name, value in self._eval_log.flush(reduce=True).items()}
        computed = self.metrics.compute()
        self._tables = self.tabulate(computed)
        broken = not all(torch.isfinite(value) for value in values.values())
        for name, value in computed.items():
            if value.numel() == 1:
                # Metrics of outputs that are not finite mean nothing, so they choose no checkpoint.
                values[f"{split}/{name}"] = torch.full_like(value, torch.nan, dtype=torch.float32) if broken else value
        self.metrics.reset()
        # Every rank computed the same numbers above; Lightning need not reduce them again. Within a training it does
        # not hand them to the loggers either: it would draw validation a step before the training that it measures.
        trainer: Any = self.trainer
        fitting = trainer.state.fn == "fit"
        self.log_dict(values, sync_dist=False, logger=not fitting)
        for logger in trainer.loggers if fitting and not trainer.sanity_checking else ():
            logger.log_metrics({name: float(value) for name, value in values.items()}, step=trainer.global_step)

    def on_train_epoch_start(self) -> None:
        self.step_log.begin_epoch()
        self._logged = False

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        trainer: Any = self.trainer
        every = max(0, trainer.log_every_n_steps)
        due = every and trainer.global_step % every == 0 and not trainer.fit_loop._should_accumulate()
        if not due and not epoch_ends(trainer, batch_idx):
            return
        # The only place of a training step that waits for the device.
        values: dict[str, float] = {f"train/{name}": float(value) for name, value in self.step_log.flush().items()}
        for group in trainer.optimizers[0].param_groups:
            values[f"lr/{group.get('name', 'all')}"] = group["lr"]
        values["epoch"] = trainer.current_epoch
        self.latest = values | {f"train/{name}": value for name, value in self.step_log.running().items()}
        if due or (every and not self._logged):  # an epoch may be shorter than the interval
            self._logged = True
            for logger in trainer.loggers:
                logger.log_metrics(values, step=trainer.global_step)
        if epoch_ends(trainer, batch_idx):  # for callbacks that watch it
            loss = torch.tensor(self.latest.get("train/loss", torch.nan), device=self.device)
            loss = trainer.strategy.reduce(loss, reduce_op="mean")
            self.log("train/loss", loss, on_step=False, on_epoch=True, logger=False, batch_size=1)

    # ------------------------------------------------------------------ optimizer, modes, memory

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is trained and at which rate: the network's weights; a task whose loss has weights adds them."""
        return parameter_groups(self.network, self.effective_optim)

    @property
    def effective_optim(self) -> OptimConfig:
        """`optim` as it applies to where the weights began: a random backbone is trained whole, at one rate."""
        return self.optim if self.started_from else for_random_weights(self.optim)

    def configure_optimizers(self) -> Any:
        parts = self.parts()
        if parts:
            optimizer: Optimizer = build_part_optimizers(self.network, parts, self.part_intervals())
        else:
            optimizer = build_optimizer(self.parameter_groups(), self.optim)
        steps = self.trainer.estimated_stepping_batches
        scheduler = build_scheduler(optimizer, self.optim, steps, others=parts or None)
        if scheduler and isinstance(scheduler["scheduler"], torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler["monitor"], scheduler["scheduler"].mode = self.monitor
            scheduler["scheduler"]._reset()  # the mode decides what the best so far begins with
        return {"optimizer": optimizer, "lr_scheduler": scheduler} if scheduler else optimizer

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        if not gradient_clip_val:
            return  # which Lightning would find after five more calls, in every step
        bare = getattr(optimizer, "optimizer", optimizer)
        if isinstance(bare, PartOptimizers):
            bare.clip(float(gradient_clip_val), str(gradient_clip_algorithm or "norm"))
            return
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler):
            super().lr_scheduler_step(scheduler, metric)
        elif self.optim.schedule_interval == "epoch":
            scheduler.step(self.current_epoch + 1, metric)
        else:
            scheduler.step_update(self.global_step, metric)

    def setup(self, stage: str) -> None:
        if self._trainer is not None and str(self.trainer.precision).startswith(
            ("16-true", "bf16-true", "transformer")
        ):
            raise UsageError(
                f"trainer.precision {self.trainer.precision}: weights and box coordinates need 32 bits; use "
                "bf16-mixed, or 16-mixed on older GPUs, which compute in 16 bits and keep the weights in 32"
            )
        if self.channels_last:
            to_channels_last(self.network)
        if stage == "fit":
            backbone = getattr(self.network, "backbone", None)
            stated = self.card.get("started_from", "")
            known = self.started_from or getattr(backbone, "started_from", "")
            self.started_from = known or ("" if stated == RANDOM else str(stated)) or self.source
            frozen = self.optim.freeze == "backbone" or self.optim.backbone_lr_scale == 0
            self.freeze_backbone(frozen)
            if isinstance(backbone, Backbone) and not frozen:
                optim = self.effective_optim
                early = backbone.freeze_to(optim.freeze_stride) if optim.freeze_stride else ()
                norms = batch_norms(backbone) if optim.freeze_norm else ()
                self._kept_in_eval = (*early, *norms)
                self.train(self.training)
            if self.compile_network:
                self.network.compile()

    def configure_model(self) -> None:
        """Lets a strategy that shards networks shard this one, before weights are loaded into it."""
        strategy: Any = self.trainer.strategy
        if hasattr(strategy, "shard"):
            strategy.shard(self)

    def freeze_backbone(self, frozen: bool = True) -> None:
        """Stops, or lets go on, the training of the backbone's weights and statistics."""
        backbone = getattr(self.network, "backbone", None)
        self._backbone_frozen = frozen
        if backbone is not None:
            backbone.requires_grad_(not frozen)
            backbone.train(self.training and not frozen)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self._backbone_frozen:
            self.network.get_submodule("backbone").eval()  # a frozen batch norm must not drift
        for module in self._kept_in_eval if mode else ():
            module.train(False)
        return self

    # ------------------------------------------------------------------ checkpoint

    def merged(self) -> VisionTask:
        """The task as an ordinary one, whose network has nothing that belongs to training alone; by default itself."""
        return self

    def served(self) -> VisionTask:
        """The task as it is handed out, without what training alone needs; by default all of it is needed."""
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._trainer is not None and self.trainer.state.fn == "fit":
            self.card = {**self.card, "started_from": self.started_from or RANDOM}
        if made := getattr(getattr(self._trainer, "datamodule", None), "splits_made", None):
            self.card = {**self.card, "splits": made}
        known = {"card": plain(self.card)} if self.card else {}
        if self.statistics is not None:
            known["features"] = self.statistics.to_json()
        checkpoint["visionkit"] = {
            "format": 1,
            "task": self.name,
            "inputs": list(self.inputs),
            "config": self.config,
            **known,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses weights that were trained for other classes, or on images that are used for evaluation now."""
        header = checkpoint.get("visionkit", {})
        stored = header.get("config", {}).get("classes")
        if stored is not None and tuple(stored) != self.classes:
            raise UsageError(classes_differ(tuple(stored), self.classes))
        state = checkpoint.get("state_dict")
        if state is not None and (why := misfit(self.state_dict(), state)):
            then, now = header.get("config", {}), plain(self.config)
            keys = sorted(key for key in {**then, **now} if then.get(key) != now.get(key))
            differ = f" (different now: {', '.join(f'model.{key}' for key in keys)})" if keys and then else ""
            raise CheckpointError(
                f"the checkpoint's weights do not fit this model: {why}{differ}; go on with the settings of its run, "
                "or begin a new training from its weights with --init_from"
            )
        trainer: Any = self._trainer
        data: Any = getattr(trainer, "datamodule", None)
        made = (header.get("card") or {}).get("splits")
        if made and hasattr(data, "check_trained") and (trainer.state.fn != "fit" or trainer.enable_validation):
            data.trained = made
            data.check_trained("test" if trainer.state.fn == "test" else "val")
