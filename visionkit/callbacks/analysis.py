"""Analyzes the errors of a split while it is evaluated, see `visionkit.analysis`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from visionkit.analysis.base import Case, Tables, even
from visionkit.analysis.collected import WORST, Collected
from visionkit.analysis.metadata import read_facts
from visionkit.analysis.report import PAGE, Described, write_report
from visionkit.callbacks.run_report import target_of
from visionkit.errors import UsageError
from visionkit.inputs import reference_images
from visionkit.loading import SampleDataset
from visionkit.loggers import LoggedImage, trackers
from visionkit.run_report.sheets import drawn_pair
from visionkit.task import VisionTask
from visionkit.types import Batch, Sample
from visionkit.uncertainty.by_image import picked


class AnalysisCollector(Callback):
    """Collects the analysis of a split that is validated or tested, on one process; `visionkit view` ranks by it.

    Args:
        slices: A csv with further columns by the name of the image, see `visionkit.analysis.metadata.read_facts`.
        worst: Images of each ranking that are drawn.

    Attributes:
        collected: What was collected, once the split has begun.
    """

    def __init__(self, slices: str | None = None, worst: int = WORST) -> None:
        self.worst, self.slices = worst, slices
        self.given = read_facts(slices) if slices else {}
        self.collected: Collected | None = None
        self._samples: Any = None
        self.order: list[int] = []
        """Positions of the images in their split, in the order in which they are evaluated."""
        self._metrics: Any = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begin(trainer, trainer.test_dataloaders, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "validate":
            self.begin(trainer, trainer.val_dataloaders, pl_module)

    def begin(self, trainer: Trainer, loaders: Any, task: Any) -> None:
        """Begins a split."""
        if trainer.world_size > 1:
            raise UsageError(f"--trainer.devices {trainer.world_size}: an analysis runs on one; give 1")
        loader = loaders[0] if isinstance(loaders, (list, tuple)) else loaders
        dataset = getattr(loader, "dataset", None)
        self._samples = dataset.samples if isinstance(dataset, SampleDataset) else None
        self.order = [item if isinstance(item, int) else item[1] for item in getattr(loader, "sampler", ())]
        self._metrics = task.metrics.clone() if hasattr(task.metrics, "clone") else None
        self.collected = Collected(task.analysis(), self.given, self.worst)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not dataloader_idx:
            self.add(pl_module, outputs, batch)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if trainer.state.fn == "validate" and not dataloader_idx:
            self.add(pl_module, outputs, batch)

    @torch.inference_mode()
    def add(self, task: VisionTask, decoded: Any, batch: Batch) -> None:
        """Takes a batch that was evaluated."""
        assert self.collected is not None
        images = reference_images(batch["inputs"]).detach().cpu().numpy()
        for row, (prediction, name) in enumerate(zip(task.predictions(decoded, batch), batch["id"], strict=True)):

            def measure(row: int = row) -> dict[str, float]:
                return self._measure(task, decoded, batch, row)

            case = Case(name, prediction, target_of(batch, row), self._sample(name), measure)
            self.collected.add(case, images[row], batch["geometry"][row])

    def _sample(self, name: str) -> Sample | None:
        """The sample of the next image; None where it is another one's."""
        assert self.collected is not None
        number = len(self.collected.facts)
        if self._samples is None or number >= len(self.order):
            return None
        sample: Sample = self._samples[self.order[number]]
        return sample if not sample.id or sample.id == name else None

    def _measure(self, task: VisionTask, decoded: Any, batch: Batch, row: int) -> dict[str, float]:
        """The task's metrics of one image of a batch."""
        if self._metrics is None:
            return {}
        whole, task.metrics = task.metrics, self._metrics
        try:
            task.measure(picked(decoded, row, len(batch["id"])), picked(batch, row, len(batch["id"])))
            computed = self._metrics.compute()
        finally:
            self._metrics.reset()
            task.metrics = whole
        return {name: float(value) for name, value in computed.items() if value.numel() == 1}


class AnalysisReport(AnalysisCollector):
    """Writes the analysis of a split that is validated or tested, on one process.

    Args:
        folder: Where `report.html`, `analysis.json` and `images.csv` go.
        slices: A csv with further columns by the name of the image, see `visionkit.analysis.metadata.read_facts`.
        worst: Images of each ranking that are drawn.
        weights: Names the model.

    Attributes:
        tables: Tables of the analysis, once the split is done.
    """

    def __init__(self, folder: str | Path, slices: str | None = None, worst: int = WORST, weights: str = "") -> None:
        super().__init__(slices, worst)
        self.folder, self.weights = Path(folder), weights
        self.tables: Tables = {}

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.close(trainer, pl_module, "test")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "validate":
            self.close(trainer, pl_module, "val")

    def close(self, trainer: Trainer, task: Any, split: str) -> None:
        """Writes what was collected of the split."""
        assert self.collected is not None
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(f"{split}/")}
        described = Described(
            f"{self.weights or task.title or task.name}, {split} split",
            task.whole_protocol,
            metrics,
            task.tables(),
            task.charts(),
            {"task": task.name, "model": self.weights, "split": split},
        )
        self.tables = write_report(self.folder, described, self.collected)
        for tracker in trackers(trainer.loggers):
            tables = {**self.tables, **task.tables(), "images": self.collected.rows}
            tracker.log_tables({title: even(rows, None) for title, rows in tables.items()}, "analysis")
            shown = [_logged(each.sample, each.prediction, each.row) for each in self.collected.worst]
            if shown:
                tracker.log_images("analysis/worst images", shown)

    @property
    def page(self) -> Path:
        """The page."""
        return self.folder / PAGE


def _logged(sample: Sample, prediction: Any, row: Mapping[str, Any]) -> LoggedImage:
    _, predicted, truth = drawn_pair(sample, prediction)
    pixels = sample.image.read()
    size = (pixels.shape[0], pixels.shape[1])
    found = {"truth": truth, "prediction": prediction}
    layers = {name: each.overlay(size) for name, each in found.items() if each is not None}
    return LoggedImage(
        str(row["image"]), pixels, predicted, row, {name: layer for name, layer in layers.items() if layer is not None}
    )
