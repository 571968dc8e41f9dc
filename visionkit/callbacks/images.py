"""Images of a training: the same few validation samples each epoch, the prediction beside the truth."""

from __future__ import annotations

import logging
import re
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from PIL import Image

from visionkit.drawing.base import side_by_side
from visionkit.errors import UsageError
from visionkit.loading import SampleDataset, collate
from visionkit.loggers import LoggedImage, WandbTracker
from visionkit.predictions import Prediction
from visionkit.sharding import gathered
from visionkit.task import VisionTask
from visionkit.types import Batch, Sample

log = logging.getLogger(__name__)


class DrawnSamples(Callback):
    """Draws something of fixed validation samples, at most once an epoch, for whatever logger is there.

    W&B gets the images with captions and a table; TensorBoard images, CSV and any other logger png files in a folder of
    the run. A subclass draws in `draw`.

    Args:
        count: Number of samples.
        seed: Chooses the samples; the same ones for the same data.
        every_n_epochs: Draw in each n-th epoch only.
        max_side: Longer side in pixels that a drawn panel is reduced to.

    Attributes:
        key: Name of the panel, and of the folder.
    """

    key: ClassVar[str] = "images"

    def __init__(self, count: int = 8, seed: int = 0, every_n_epochs: int = 1, max_side: int = 640) -> None:
        if count < 1 or every_n_epochs < 1 or max_side < 16:
            raise UsageError(f"{self.key}: count and every_n_epochs must be at least 1 and max_side at least 16")
        self.count, self.seed, self.every_n_epochs, self.max_side = count, seed, every_n_epochs, max_side
        self._chosen: list[Sample] = []
        self._batch: Batch | None = None
        self._epoch = -1
        self._warned: set[str] = set()

    @abstractmethod
    def draw(self, trainer: Trainer, task: VisionTask) -> list[LoggedImage]:
        """The images of an epoch; of other processes than the first one none are taken.

        Args:
            trainer: The trainer.
            task: The task, with the averaged weights where they are used.
        """

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Here the averaged weights are still in place, where they are used."""
        epoch = trainer.current_epoch
        if trainer.sanity_checking or trainer.state.fn != "fit" or not isinstance(pl_module, VisionTask):
            return
        if epoch == self._epoch or epoch % self.every_n_epochs:
            return
        self._epoch = epoch
        if self._batch is None:
            self._choose(trainer)
        images = self.draw(trainer, pl_module) if self._batch is not None else []
        folder = self._folder(trainer)
        if trainer.is_global_zero and images:
            self._deliver(trainer, images, folder)

    # ------------------------------------------------------------------ making them

    def _choose(self, trainer: Trainer) -> None:
        loaders = trainer.val_dataloaders
        loader = loaders[0] if isinstance(loaders, (list, tuple)) else loaders
        dataset = getattr(loader, "dataset", None)
        if not isinstance(dataset, SampleDataset):
            self._tell("data", f"no images are drawn: the validation data is {type(dataset).__name__}, not samples")
            return
        number = len(dataset.samples)
        order = np.random.default_rng(self.seed).permutation(number)[: self.count]
        self._chosen = [dataset.samples[int(index)] for index in sorted(order)]
        self._batch = collate([dataset.preprocessor(sample) for sample in self._chosen])

    def _reduced(self, image: np.ndarray) -> np.ndarray:
        if max(image.shape[:2]) <= self.max_side:
            return image
        small = Image.fromarray(image)
        small.thumbnail((self.max_side, self.max_side), Image.Resampling.BOX)
        return np.asarray(small)

    # ------------------------------------------------------------------ giving them away

    def _deliver(self, trainer: Trainer, images: Sequence[LoggedImage], folder: Path) -> None:
        step = trainer.global_step
        files_wanted = not trainer.loggers
        for logger in trainer.loggers:
            if isinstance(logger, WandbTracker):
                logger.log_images(self.key, images, step)
            elif isinstance(logger, TensorBoardLogger):
                for number, image in enumerate(images):
                    logger.experiment.add_image(f"{self.key}/{number}", image.drawn, step, dataformats="HWC")
            else:
                files_wanted = True
                if not isinstance(logger, CSVLogger):
                    self._tell(type(logger).__name__, f"{_name(logger)} takes no images; they are in {folder}")
        if files_wanted:
            _write(folder / f"epoch{trainer.current_epoch + 1:04d}", images)

    def _folder(self, trainer: Trainer) -> Path:
        # `log_dir` asks all processes. From Python the root is mostly the working directory, which stays clean.
        log_dir = trainer.log_dir
        root = Path(trainer.default_root_dir)
        return (Path(log_dir) if log_dir and root.resolve() == Path.cwd() else root) / self.key

    def _tell(self, about: str, message: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            log.warning("%s: %s", self.key, message)


class ImageLogger(DrawnSamples):
    """Draws predictions on fixed validation samples, at most once an epoch, and gives them to whatever logger is there.

    W&B gets images with captions, a table, and boxes and masks that it lays over the images itself, class by class;
    TensorBoard images, CSV and any other logger png files in the folder `images` of the run. The predictions are
    made as they are served: `forward`, `decode`, `restore`, `draw`.

    Args:
        count: Number of samples.
        seed: Chooses the samples; the same ones for the same data.
        every_n_epochs: Draw in each n-th epoch only.
        max_side: Longer side in pixels that a drawn panel is reduced to.
    """

    def draw(self, trainer: Trainer, task: VisionTask) -> list[LoggedImage]:
        # Every process runs the network, since a sharded one needs them all; only the first one draws.
        predictions = self._predict(trainer, task)
        if not trainer.is_global_zero or not predictions:
            return []
        return [self._image(s, p) for s, p in zip(self._chosen, predictions, strict=True)]

    def _predict(self, trainer: Trainer, task: VisionTask) -> list[Prediction]:
        if self._batch is None:
            return []
        with torch.no_grad(), gathered(trainer), trainer.precision_plugin.forward_context():
            decoded = task.decode(task.run(task.transfer_batch_to_device(self._batch, task.device, 0)))
        try:
            return task.restore(decoded, self._batch["geometry"])
        except ValueError as error:  # a network of NaN; whether training goes on is not decided here
            self._tell("finite", f"no images are drawn: {error}")
            return []

    def _image(self, sample: Sample, prediction: Prediction) -> LoggedImage:
        pixels = sample.image.read()
        truth = prediction.truth(sample.target)
        panels = [pixels if truth is None else truth.draw(pixels), prediction.draw(pixels)]
        reduced = [self._reduced(panel) for panel in panels]
        plain = self._reduced(pixels)
        size = (plain.shape[0], plain.shape[1])
        predictions = {"truth": truth, "prediction": prediction}
        found = {name: result.overlay(size) for name, result in predictions.items() if result is not None}
        layers = {name: layer for name, layer in found.items() if layer is not None}
        name = sample.id or sample.image.name
        return LoggedImage(name, plain, side_by_side(reduced), prediction.row(truth), layers)


def _name(logger: Logger) -> str:
    return type(logger).__name__


def _write(folder: Path, images: Sequence[LoggedImage]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        stem = re.sub(r"[^\w.-]+", "_", Path(image.id).stem)[-60:]
        Image.fromarray(image.drawn).save(folder / f"{number:02d}-{stem}.png")
