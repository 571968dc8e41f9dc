"""Writes what lies in a run's folder for people, see `visionkit.run_report`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy

from visionkit.bundle import versions
from visionkit.inputs import reference_images
from visionkit.run_report import summary
from visionkit.run_report.history import History
from visionkit.sharding import is_sharded
from visionkit.task import VisionTask
from visionkit.types import Batch

if TYPE_CHECKING:
    from visionkit.run_report.evaluation import Evaluation

log = logging.getLogger(__name__)

REPORT = "report"
CURVES, TRAINING_IMAGES = "curves.png", "training-images.png"

_IMAGES = 16
_REDRAW = 10.0  # seconds between two drawings of the curves


class RunReport(Callback):
    """Writes `summary.json` and the folder `report` of a run, whatever the logger.

    While it trains: `curves.csv` and `curves.png` after each validation, and `training-images.png`, the first batch as
    the network saw it. When a split is evaluated (`trainer.validate`, `trainer.test`): a folder named after the split
    with `images.csv`, `images.png`, the task's tables as csv and its charts as png. Every checkpoint gets the facts of
    the model card. Nothing here waits for the device within a step, and a report that cannot be written is a warning.

    Args:
        folder: Folder of the run.
        command: The command line, for the model card.
        config: The configuration in plain types, for the model card.
        weights: Names what is evaluated: a checkpoint, relative to the folder where it lies in it.
    """

    def __init__(
        self, folder: str | Path, command: str = "", config: Mapping[str, Any] | None = None, weights: str = ""
    ) -> None:
        self.folder, self.command, self.config, self.weights = Path(folder), command, config, weights
        self.history = History(self.report / "curves.csv")
        self._latest: Mapping[str, float] | None = None
        self._before: dict[str, Any] = {}
        self._measured: dict[str, float] = {}
        self._measured_at = -1
        self._first: Batch | None = None
        self._began = self._drawn = 0.0
        self._evaluation: Evaluation | None = None

    @property
    def report(self) -> Path:
        """The folder of figures and tables."""
        return self.folder / REPORT

    # ------------------------------------------------------------------ training

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began, self._drawn, self._latest = time.time(), time.monotonic(), getattr(pl_module, "latest", None)
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self.history.go_on(trainer.global_step)
        if isinstance(pl_module, VisionTask) and not (
            trainer.global_step and (self.report / TRAINING_IMAGES).is_file()
        ):
            _watch_first_batch(pl_module, self._keep)

    def _keep(self, batch: Batch) -> None:
        """Keeps some images of the first batch as the network gets them, mixing and augmentation included."""
        rows = range(min(len(batch["id"]), _IMAGES))
        kept = {name: each[: len(rows)].detach().cpu() for name, each in batch["inputs"].items()}
        targets = [target_of(batch, row) for row in rows]
        self._first = {
            "inputs": {name: each.float().clamp(0, 255).round().to(torch.uint8) for name, each in kept.items()},
            "target": targets,
            "geometry": batch["geometry"][: len(rows)],
            "id": batch["id"][: len(rows)],
        }
        self._try(lambda: self._sheet_of_training(None))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._take_latest(trainer, pl_module)

    def _take_latest(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes what the task has logged since; the numbers are on the host already."""
        latest = getattr(pl_module, "latest", None)
        if latest is not self._latest and latest:
            self._latest = latest
            values = {name: value for name, value in latest.items() if name != "epoch"}
            self.history.add(trainer.global_step, trainer.current_epoch, values)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._first is not None and trainer.state.fn == "fit" and not trainer.sanity_checking:
            first, self._first = self._first, None
            if isinstance(pl_module, VisionTask):
                self._try(lambda: self._draw_training(trainer, pl_module, first))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._close(trainer, pl_module, "val")
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self._take_latest(trainer, pl_module)
        metrics = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        self._measured = {name: float(value) for name, value in metrics.items()}
        self._measured_at = trainer.global_step
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.history.add(trainer.global_step, trainer.current_epoch, self._measured)
            soon = time.monotonic() - self._drawn < _REDRAW
            self._try(lambda: self._write_curves(pl_module, draw=not soon))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._take_latest(trainer, pl_module)
        self._finish(trainer, pl_module, "stopped early" if summary.stopped_early(trainer) else "finished")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if trainer.state.fn == "fit" and self._began:
            self._finish(trainer, pl_module, f"ended by {type(exception).__name__}: {exception}")

    def _finish(self, trainer: Trainer, task: LightningModule, status: str) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run or not isinstance(task, VisionTask):  # type: ignore[attr-defined]
            return
        self._try(lambda: self._write_curves(task, draw=True))
        facts = {
            "task": task.name,
            "status": status,
            **({"reason": reason} if (reason := summary.stopped_early(trainer)) else {}),
            "seconds": round(time.time() - self._began, 1),
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            **summary.best_of(trainer, task, self.folder),
            **{key: value for key, value in self._card(trainer, task).items() if key not in ("results", "step")},
            "versions": versions(),
        }
        self._try(lambda: summary.update_summary(self.folder, facts))

    def _write_curves(self, task: LightningModule, draw: bool) -> None:
        self.history.write()
        if draw and isinstance(task, VisionTask):
            from visionkit.run_report.curves import draw_curves

            self._drawn = time.monotonic()
            if (drawn := draw_curves(self.history.series(), *task.monitor)) is not None:
                drawn.save(self.report / CURVES, compress_level=1)

    # ------------------------------------------------------------------ the training images

    @torch.inference_mode()
    def _draw_training(self, trainer: Trainer, task: VisionTask, first: Batch) -> None:
        """Draws the truth on the images, in the form of what the network states about them; it states it in passing."""
        from visionkit.geometry import Geometry, InputSpec

        if is_sharded(trainer) or (trainer.world_size > 1 and not isinstance(trainer.strategy, DDPStrategy)):
            return  # a sharded network runs on all processes or not at all
        with trainer.precision_plugin.forward_context():
            decoded = task.decode(task.run(task.transfer_batch_to_device(first, task.device, 0)))
        height, width = reference_images(first["inputs"]).shape[-2:]
        plan = Geometry.plan(InputSpec(size=(height, width), resize_mode="stretch"), (height, width))
        panels = []
        predictions = task.restore(decoded, [plan] * len(first["id"]))
        for pixels, target, prediction in zip(_pixels(first), first["target"], predictions, strict=True):
            truth = prediction.truth(target)
            panels.append(pixels if truth is None else truth.draw(pixels))
        self._sheet_of_training(panels, first)

    def _sheet_of_training(self, panels: list[Any] | None, first: Batch | None = None) -> None:
        from visionkit.run_report.sheets import sheet

        batch = first or self._first
        assert batch is not None
        height, width = reference_images(batch["inputs"]).shape[-2:]
        message = f"{width} x {height} pixels, augmented{', with their labels' if panels else ''}"
        shown = [((panel,), Path(name).name) for panel, name in zip(panels or _pixels(batch), batch["id"], strict=True)]
        self.report.mkdir(parents=True, exist_ok=True)
        sheet("Training images as the network saw them", message, shown, 4).save(
            self.report / TRAINING_IMAGES, compress_level=1
        )

    # ------------------------------------------------------------------ an evaluation

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._begin(trainer, trainer.val_dataloaders, trainer.num_val_batches)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, trainer.test_dataloaders, trainer.num_test_batches)

    def _begin(self, trainer: Trainer, loaders: Any, batches: Any) -> None:
        from visionkit.run_report.evaluation import Evaluation

        loader = loaders[0] if isinstance(loaders, (list, tuple)) else loaders
        dataset, size = getattr(loader, "dataset", None), getattr(loader, "batch_size", None) or 1
        seen = int(sum(batches)) * size * trainer.world_size if np.isfinite(sum(batches)) else 0
        total = min(seen, len(dataset)) if isinstance(dataset, Sized) else 0
        self._evaluation = Evaluation(dataset, trainer.global_rank, trainer.world_size, total)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if trainer.state.fn == "validate":
            self._add(pl_module, outputs, batch, dataloader_idx)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._add(pl_module, outputs, batch, dataloader_idx)

    def _add(self, task: Any, decoded: Any, batch: Any, loader: int) -> None:
        evaluation = self._evaluation
        if evaluation is not None and not loader and isinstance(task, VisionTask):
            self._try(lambda: evaluation.add(task.predictions(decoded, batch), batch))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close(trainer, pl_module, "test")

    def _close(self, trainer: Trainer, task: LightningModule, split: str) -> None:
        evaluation, self._evaluation = self._evaluation, None
        if evaluation is None or not isinstance(task, VisionTask) or (whole := evaluation.gathered()) is None:
            return
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(f"{split}/")}
        weights = self.weights or "the weights as they are"
        facts: dict[str, Any] = {
            "task": task.name,
            split: {
                "checkpoint": self.weights,
                "step": task.card.get("step"),
                "images": len(whole.rows),
                "images_of_split": whole.total,
                "protocol": task.whole_protocol,
                "metrics": metrics,
            },
        }

        def write() -> None:
            files = whole.write(self.report / split, split, task.tables(), task.charts(), weights)
            facts[split]["files"] = [f"{REPORT}/{split}/{name}" for name in files]
            summary.update_summary(self.folder, facts)

        self._try(write)

    # ------------------------------------------------------------------ what checkpoints are reported

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._before = dict(checkpoint.get("visionkit", {}).get("card") or {})

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if isinstance(pl_module, VisionTask) and trainer.state.fn == "fit":
            pl_module.card = self._card(trainer, pl_module)

    def _card(self, trainer: Trainer, task: VisionTask) -> dict[str, Any]:
        config = self.config or {}
        facts: dict[str, Any] = {"data": summary.data_text(trainer, self.config)}
        if command := summary.commands(str(self._before.get("command", "")), self.command):
            facts["command"] = command
        if config.get("seed_everything") is not None:
            facts["seed"] = config["seed_everything"]
        facts["training"] = summary.training_text(trainer)
        facts["trained_with"] = ", ".join(f"{name} {number}" for name, number in versions().items())
        facts["step"] = trainer.global_step
        stale = "" if self._measured_at == trainer.global_step else f" (at step {self._measured_at})"
        facts["results"] = summary.result_rows(self._measured, task.whole_protocol, stale)
        return facts

    def _try(self, work: Callable[[], None]) -> None:
        """A report is never worth a training: what goes wrong while it is written is a warning."""
        try:
            work()
        except Exception as error:
            message = (str(error).splitlines() or [""])[0] or repr(error)
            log.warning("report: not all of it could be written: %s", message)


def report_best(trainer: Trainer, task: VisionTask) -> None:
    """Evaluates the best checkpoint of a training on the validation split, for its `RunReport`; loggers get nothing.

    The task holds the weights of that checkpoint afterwards. Without a report, a checkpoint or a validation split, and
    where the network is sharded, nothing happens.

    Args:
        trainer: Trainer that has trained.
        task: Task that was trained.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    report = next((each for each in callbacks if isinstance(each, RunReport)), None)
    best = trainer.strategy.broadcast(getattr(trainer.checkpoint_callback, "best_model_path", ""))
    whole = not is_sharded(trainer) and (trainer.world_size == 1 or isinstance(trainer.strategy, DDPStrategy))
    if report is None or not best or not Path(best).is_file() or not whole or not trainer.enable_validation:
        return
    from visionkit.checkpoint import read_model

    stored = read_model(best)
    stored.load_into(task)
    task.card, report.weights = dict(stored.card), summary.within(report.folder, best)
    loggers, trainer.loggers = trainer.loggers, []
    try:
        trainer.validate(task, datamodule=trainer.datamodule, verbose=False)  # type: ignore[attr-defined]
    finally:
        trainer.loggers, report.weights = loggers, ""


def _pixels(batch: Batch) -> list[Any]:
    """The images of a batch as (h, w, 3) uint8."""
    images = reference_images(batch["inputs"]).permute(0, 2, 3, 1).numpy()
    return [image.repeat(3, axis=2) if image.shape[2] == 1 else image[..., :3] for image in images]


def _watch_first_batch(task: VisionTask, keep: Callable[[Batch], None]) -> None:
    """Hands over the next batch as `train_batch` leaves it, once."""

    def watched(batch: Batch) -> Batch:
        del task.train_batch  # back to the method of the class
        batch = task.train_batch(batch)
        keep(batch)
        return batch

    task.train_batch = watched  # type: ignore[method-assign]


def target_of(batch: Mapping[str, Any], row: int) -> Any:
    """What is known of one image of a batch."""
    target = batch["target"]
    if isinstance(target, list):
        return _cpu(target[row])
    if "heads" in target:
        heads = {}
        for name, part in target["heads"].items():
            at = (part["rows"] == row).nonzero().flatten().tolist()
            if at:
                heads[name] = target_of({"target": part["target"]}, at[0])
        return {"heads": heads}
    return {key: _cpu(value[row]) for key, value in target.items()}


def _cpu(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    return {key: _cpu(item) for key, item in value.items()} if isinstance(value, dict) else value
