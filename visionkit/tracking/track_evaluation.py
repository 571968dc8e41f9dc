"""Measures tracks while a detector is validated or tested: what it detects is followed, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from visionkit.errors import DataError, UsageError
from visionkit.predictions import Detections
from visionkit.task import VisionTask
from visionkit.tracking.metrics import TrackMeasures, combine, measure
from visionkit.tracking.protocols import TrackProtocol
from visionkit.tracking.rows import TrackRows
from visionkit.tracking.tracker import Tracker, make_tracker
from visionkit.wording import counted


def measure_tracks(
    trainer: Any,
    tracker: str,
    truth: Callable[[str], TrackRows],
    protocol: TrackProtocol,
    number: Callable[[str], int] = lambda name: 1,
) -> None:
    """Has a trainer measure tracks too; called by the data module once it is set up.

    Args:
        trainer: The trainer, or None; one that was given a `TrackEvaluation` is left as it is, and one that
            another data module has added is replaced.
        tracker: See `TrackEvaluation`.
        truth: See `TrackEvaluation`.
        protocol: See `TrackEvaluation`.
        number: See `TrackEvaluation`.
    """
    if trainer is None:
        return
    trainer.callbacks = [each for each in trainer.callbacks if not isinstance(each, _OfData)]
    if not any(isinstance(each, TrackEvaluation) for each in trainer.callbacks):
        trainer.callbacks.append(_OfData(tracker, truth, protocol, number))


class TrackEvaluation(Callback):
    """Logs HOTA, CLEAR MOT and identity of validation or test as `<split>/track_<name>`.

    Frames come in order, each sequence whole on one process, as `SequenceSampler` gives them.

    Args:
        tracker: Name of the tracker, or a function that makes one.
        truth: Ground truth by name of the sequence.
        protocol: What counts.
        number: The protocol's number of a class name; 0 where it has none.

    Attributes:
        sequences: What was measured, by sequence; those of all processes once an epoch ends.
    """

    def __init__(
        self,
        tracker: str | Callable[[], Tracker],
        truth: Callable[[str], TrackRows],
        protocol: TrackProtocol,
        number: Callable[[str], int] = lambda name: 1,
    ) -> None:
        self.make = (lambda: make_tracker(tracker)) if isinstance(tracker, str) else tracker
        self.make()  # a wrong name is reported before anything is run
        self.truth, self.protocol, self.number = truth, protocol, number
        self.sequences: dict[str, TrackMeasures] = {}
        self._begin("")

    def _begin(self, sequence: str) -> None:
        self._sequence, self._tracker = sequence, self.make()
        self._rows: list[np.ndarray] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.sequences = {}
        self._begin("")

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        task: Any = pl_module
        for prediction, sequence, frame in zip(
            task.predictions(outputs, batch), batch["sequence"], batch["frame"], strict=True
        ):
            self.add(sequence, int(frame), prediction)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(pl_module, "val")

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_validation_epoch_start(trainer, pl_module)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self.on_validation_batch_end(trainer, pl_module, outputs, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(pl_module, "test")

    def add(self, sequence: str, frame: int, detections: Any) -> None:
        """Follows the objects of one frame.

        Args:
            sequence: Its sequence.
            frame: Its position there, from 0.
            detections: What was detected.

        Raises:
            DataError: A frame without a sequence.
            UsageError: Predictions that are no boxes.
        """
        if not isinstance(detections, Detections):
            raise UsageError(f"tracks are made of boxes, and this model predicts {type(detections).__name__}")
        if not sequence:
            raise DataError("a frame that belongs to no sequence cannot be followed")
        if sequence != self._sequence or frame == 0:
            self._finish()
            self._begin(sequence)
        tracks = self._tracker.update(detections)
        numbers = np.array([self.number(name) for name in tracks.names], np.int64)
        known = numbers > 0
        columns = [
            np.full(int(known.sum()), frame + 1),
            tracks.ids[known],
            *tracks.boxes[known].T,
            tracks.scores[known],
        ]
        self._rows.append(np.column_stack([*columns, numbers[known]]).astype(np.float64))

    def values(self) -> Mapping[str, float]:
        """Metrics of all sequences of all processes together; the same on every process."""
        self._finish()
        self._begin("")
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, self.sequences)
            self.sequences = {name: each for part in parts for name, each in part.items()}
        if not self.sequences:
            return {}
        ordered = [self.sequences[name] for name in sorted(self.sequences)]
        return combine(ordered).values()

    def _finish(self) -> None:
        if not self._sequence:
            return
        table = np.concatenate([np.zeros((0, 8)), *self._rows])
        frames, ids, classes = (table[:, column].astype(np.int64) for column in (0, 1, 7))
        found = TrackRows(frames, ids, table[:, 2:6], table[:, 6], classes, name=self._sequence)
        if self.protocol.classes is None:
            found = found.chosen(found.classes == 1)
        pairs = self.protocol.pairs(self.truth(self._sequence), found, len(self._rows))
        self.sequences[self._sequence] = combine([measure(pair) for pair in pairs.values()])

    def _log(self, task: LightningModule, split: str) -> None:
        values = {f"{split}/track_{name}": value for name, value in self.values().items()}
        if values and isinstance(task, VisionTask):
            name, count = type(self._tracker).__name__, counted(len(self.sequences), "sequence")
            task.further_protocols["tracks"] = f"tracks of {name}: {self.protocol.text()}; {count}"
        task.log_dict({name: torch.tensor(value) for name, value in values.items()}, sync_dist=False)


class _OfData(TrackEvaluation):
    """The evaluation that a data module has added, for as long as its data is measured."""
