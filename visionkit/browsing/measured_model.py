"""A model that was measured on a split: its images from the worst to the best, and what it predicts of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from visionkit.loading import SampleDataset, collate
from visionkit.predictions import Prediction
from visionkit.preprocess import Preprocessor
from visionkit.run_report.sheets import caption
from visionkit.task import VisionTask
from visionkit.types import Sample

if TYPE_CHECKING:
    from visionkit.callbacks.analysis import AnalysisCollector


@dataclass(frozen=True, eq=False)
class MeasuredModel:
    """A model with its table of images.

    Attributes:
        task: The model.
        split: The split that was measured.
        order: Positions of the images in the split, the worst first; those that cannot be ranked come last.
        notes: What the table states of each image, by position.
    """

    task: VisionTask
    split: str
    order: Sequence[int]
    notes: Mapping[int, str]

    @classmethod
    def of(cls, task: VisionTask, split: str, collector: AnalysisCollector) -> MeasuredModel:
        """Ranks the images as the analysis of the task does.

        Args:
            task: The model.
            split: The split that was measured.
            collector: Callback of the measurement.
        """
        assert collector.collected is not None
        analysis = collector.collected.analysis
        analysis.finish()
        rows = analysis.rows
        known = [analysis.badness(row) for row in rows]
        badness = np.array([-np.inf if value is None else value for value in known])
        positions = (collector.order or range(len(rows)))[: len(rows)]
        order = [positions[row] for row in np.argsort(-badness, kind="stable")]
        notes = {
            position: caption({name: value for name, value in row.items() if name != "image"})
            for position, row in zip(positions, rows, strict=True)
        }
        return cls(task.eval(), split, order, notes)

    @torch.inference_mode()
    def predict(self, sample: Sample) -> Prediction:
        """What is served of a sample, made as an evaluation makes it."""
        task = self.task
        dataset = SampleDataset([sample], Preprocessor(task.input), views=task.evaluation_views())
        batch = task.transfer_batch_to_device(collate([dataset[0]]), task.device, 0)
        return task.predictions(task.decode_batch(task.run(batch), batch), batch)[0]
