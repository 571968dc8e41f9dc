"""The base of every task: it owns the steps, so a task is a network, its losses and the meaning of its outputs."""

from __future__ import annotations

import inspect
import typing
from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning import LightningModule
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn
from torchmetrics import MetricCollection

from visionkit.argument_types import check_arguments
from visionkit.errors import DataError, UsageError
from visionkit.finite import finite
from visionkit.geometry import Geometry, InputSpec
from visionkit.names import classes_differ
from visionkit.nn.normalize import Normalize
from visionkit.optim import OptimConfig, build_optimizer, build_scheduler, parameter_groups
from visionkit.out_of_distribution import FeatureStatistics
from visionkit.plain_values import plain as plain
from visionkit.plain_values import typed
from visionkit.predictions import Prediction
from visionkit.resume import epoch_ends
from visionkit.run_report.charts import Chart
from visionkit.serving import Served
from visionkit.target_check import check_targets
from visionkit.term_log import TermLog
from visionkit.types import Batch


class _RemembersArguments(ABCMeta):
    """Keeps what a task was built with, in plain types, because that is what a checkpoint stores.

    Lightning's `save_hyperparameters` puts dataclasses and its own keys there, which `weights_only=True` rejects.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        task = super().__call__(*args, **kwargs)
        bound = inspect.signature(cls.__init__).bind(task, *args, **kwargs)  # type: ignore[misc]
        bound.apply_defaults()
        given = {key: value for key, value in bound.arguments.items() if key != "self"}
        task._config = plain({**given, **task.resolved()})
        return task


class VisionTask(LightningModule, Served, ABC, metaclass=_RemembersArguments):
    """One vision task: steps, logging, optimiser and checkpoint contents are here, the rest in a subclass.

    A subclass sets the class variables, builds `network` (with a `backbone`), `normalize` and `metrics`, and writes
    `losses`, `decode` and `restore`. It does not draw, name a logger, or look at the data module.

    Args:
        input: What the network takes; part of every checkpoint.
        classes: Class names in label order.
        optim: How the weights are learnt.
        compile_network: Compile the network (not the module) with torch.compile when training starts.
        channels_last: Keep weights and pictures in channels-last memory, faster for convolutions on CPU and GPU.

    Attributes:
        name: What a checkpoint stores: "detection". Never a module path.
        title: Name of the task's page in the demo; by default made of `name`. This and the two below are plain values
            in the class's own body, since the demo reads them from its source.
        question: The question that its models answer, in a sentence.
        kinds: `kind` of the predictions that `restore` gives; a page without them is ready for all kinds.
        monitor: The metric that chooses the best checkpoint, and "min" or "max".
        inputs: Names of what a sample holds and the network takes, in order. The first is the reference: predictions
            are about its pixels. A single image is the case of one name.
        targets: Keys of `visionkit.types.Target` that training needs.
        outputs: The NamedTuple that `forward` returns; its fields name the outputs of an exported graph. Fields with a
            default are for `losses` alone, and a graph leaves them out. Where it depends on the arguments, an
            instance sets its own.
        source: Path or public name that its weights were read from, for messages; empty where they were not.
        latest: Mean losses of the epoch so far, and rates, as they were last logged, for whoever shows them.
        card: Facts for the model card, see `visionkit.bundle.save_bundle`; they travel in checkpoints and bundles.
        statistics: What the features of its own images are like, see `visionkit.out_of_distribution`; they travel too.
        public_schemes: Sources of public weights that `from_public` knows: `("timm",)`.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    question: ClassVar[str] = ""
    kinds: ClassVar[tuple[str, ...]] = ()
    monitor: ClassVar[tuple[str, str]]
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    targets: ClassVar[tuple[str, ...]]
    outputs: ClassVar[type[tuple[Any, ...]]]
    public_schemes: ClassVar[tuple[str, ...]] = ()

    network: nn.Module
    normalize: Normalize
    metrics: MetricCollection

    def __init__(
        self,
        *,
        input: InputSpec,
        classes: Sequence[str] = (),
        optim: OptimConfig | None = None,
        compile_network: bool = False,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.input = InputSpec.of(input)
        self.classes = tuple(classes)
        self.optim = optim or OptimConfig()
        self.compile_network, self.channels_last = compile_network, channels_last
        self.step_log = TermLog()
        self.latest: dict[str, float] = {}
        self.card: dict[str, Any] = {}
        self.statistics: FeatureStatistics | None = None
        self._eval_log = TermLog()
        self._tables: dict[str, list[dict[str, Any]]] = {}
        self.source = ""
        self._config: dict[str, Any] = {}
        self._backbone_frozen = self._logged = self._checked = False

    # ------------------------------------------------------------------ what a task writes

    @abstractmethod
    def losses(self, outputs: Any, target: Any) -> dict[str, Tensor]:
        """Named terms, already weighted; the base adds and logs them."""

    @abstractmethod
    def decode(self, outputs: Any) -> Any:
        """Network outputs to answers in input pixels, on the device: softmax, NMS, argmax."""

    @abstractmethod
    def restore(self, decoded: Any, geometry: Sequence[Geometry]) -> list[Prediction]:
        """Answers to predictions in file pixels, one per picture."""

    def measure(self, decoded: Any, batch: Batch) -> None:
        """Feeds the metrics with what would be served."""
        self.metrics.update(decoded, batch["target"])

    def train_batch(self, batch: Batch) -> Batch:
        """Changes a training batch on its device (mixup and the like); by default nothing."""
        return batch

    def tabulate(self, computed: Mapping[str, Tensor]) -> dict[str, list[dict[str, Any]]]:
        """Tables of the split just measured, by title; each row maps column to value. By default none.

        Args:
            computed: What the metrics gave, tensors of more than one value included.
        """
        return {}

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """The tables of the last evaluation, by title."""
        return self._tables

    def charts(self) -> dict[str, Chart]:
        """How tables are drawn, by title. A table of counts, truth by row, is drawn as a confusion matrix anyway."""
        return {}

    def predictions(self, decoded: Any, batch: Batch) -> list[Prediction]:
        """What is served of a batch that was evaluated, one prediction per image."""
        return self.restore(decoded, batch["geometry"])

    @property
    def protocol(self) -> str:
        """How the metrics are measured, in one sentence, logged with every run."""
        return ""

    @classmethod
    def default_input(cls, **init_args: Any) -> InputSpec:
        """The input where none is configured, from the facts of the backbone; builds no network."""
        return InputSpec()

    @classmethod
    def linked(cls, name: str, **init_args: Any) -> Any:
        """What this task says of an argument that the data shares with it, where the configuration leaves it out.

        Args:
            name: Of the argument, see `visionkit.linking`.
            **init_args: The arguments that the class would be built with.
        """
        return None

    @classmethod
    def from_public(cls, scheme: str, name: str) -> VisionTask:
        """Builds the task with public weights (`timm:resnet50`); the one place where a download may happen.

        Raises:
            UsageError: This task has no public weights under that name.
        """
        raise UsageError(f"{scheme}:{name}: {cls.name} has no public weights of that scheme")

    # ------------------------------------------------------------------ forward and the steps

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

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """Noise of the shapes that the network takes, (batch, C, H, W) uint8 each, or clips (batch, T, C, H, W)."""
        spec = self.input
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
        terms = self.losses(self.run(batch), batch["target"])
        values = torch.stack(list(terms.values()))
        loss = values.sum()
        self.step_log.add(terms, values.detach())
        return loss

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
        decoded = self.decode(finite(outputs))
        self.measure(decoded, batch)
        return decoded

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

    # ------------------------------------------------------------------ optimiser, modes, memory

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is learnt and at which rate: the network's weights; a task whose loss has weights adds them."""
        return parameter_groups(self.network, self.optim)

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.parameter_groups(), self.optim)
        scheduler = build_scheduler(optimizer, self.optim, self.trainer.estimated_stepping_batches)
        if scheduler and isinstance(scheduler["scheduler"], torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler["monitor"], scheduler["scheduler"].mode = self.monitor
            scheduler["scheduler"]._reset()  # the mode decides what the best so far begins with
        return {"optimizer": optimizer, "lr_scheduler": scheduler} if scheduler else optimizer

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
            self.network.to(memory_format=torch.channels_last)
        if stage == "fit":
            frozen = self.optim.freeze == "backbone" or self.optim.backbone_lr_scale == 0
            self.freeze_backbone(frozen)
            if self.compile_network:
                self.network.compile()

    def freeze_backbone(self, frozen: bool = True) -> None:
        """Stops, or lets go on, the learning of the backbone's weights and statistics."""
        backbone = getattr(self.network, "backbone", None)
        self._backbone_frozen = frozen
        if backbone is not None:
            backbone.requires_grad_(not frozen)
            backbone.train(self.training and not frozen)

    def train(self, mode: bool = True) -> VisionTask:
        super().train(mode)
        if self._backbone_frozen:
            self.network.get_submodule("backbone").eval()  # a frozen batch norm must not drift
        return self

    # ------------------------------------------------------------------ checkpoint

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments in plain types: with the weights, all that is needed to build the task again."""
        return self._config

    def set_input(self, spec: InputSpec) -> None:
        """Takes what the data has settled about the input, so that the checkpoint has it."""
        self.input = spec
        self._config |= {"input": plain(spec)}

    def resolved(self) -> dict[str, Any]:
        """Arguments that the constructor worked out (input, classes, ...), stored in place of what was given."""
        own = inspect.signature(type(self).__init__).parameters
        found = {"input": self.input, "classes": self.classes, "optim": self.optim}
        return {name: value for name, value in found.items() if name in own}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> VisionTask:
        """Builds the task that `config` describes; dataclass arguments are made from their mappings.

        Raises:
            UsageError: An argument that the task does not have, or a value that it does not take.
        """
        hints = typing.get_type_hints(cls.__init__)
        check_arguments(cls, config, "")
        return cls(**{key: typed(hints.get(key), value) for key, value in config.items()})

    def served(self) -> VisionTask:
        """The task as it is handed out, without what training alone needs; by default all of it is needed."""
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if made := getattr(getattr(self._trainer, "datamodule", None), "splits_made", None):
            self.card = {**self.card, "splits": made}
        known = {"card": plain(self.card)} if self.card else {}
        if self.statistics is not None:
            known["features"] = self.statistics.to_json()
        checkpoint["visionkit"] = {"format": 1, "task": self.name, "config": self.config, **known}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses weights that were trained for other classes, or on images that are used for evaluation now."""
        header = checkpoint.get("visionkit", {})
        stored = header.get("config", {}).get("classes")
        if stored is not None and tuple(stored) != self.classes:
            raise UsageError(classes_differ(tuple(stored), self.classes))
        trainer: Any = self._trainer
        data: Any = getattr(trainer, "datamodule", None)
        made = (header.get("card") or {}).get("splits")
        if made and hasattr(data, "check_trained") and (trainer.state.fn != "fit" or trainer.enable_validation):
            data.trained = made
            data.check_trained("test" if trainer.state.fn == "test" else "val")
