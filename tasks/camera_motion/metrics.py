"""The errors of trajectories, put together from the motions between frames."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from visionkit.errors import DataError
from visionkit.families.dense.depth_measures import DepthMeasures
from visionkit.trajectories.alignment import alignment_of
from visionkit.trajectories.poses import Trajectory, chained
from visionkit.trajectories.trajectory_errors import absolute_errors, snippet_errors


class KnownDepthMeasures(DepthMeasures):
    """`DepthMeasures` that states none where no image came with a depth, since zeros would look like results."""

    def compute(self) -> dict[str, Tensor]:
        return super().compute() if self.images + self.skipped > 0 else {}


class TrajectoryErrors(Metric):
    """Errors of the trajectories of all sequences, in meters; none are stated where no pose was known.

    `ate` is the root mean square of positions after each sequence's best rotation, translation and scale;
    `ate_snippet` the mean of SfMLearner's error over all snippets. A sequence that is shorter than a snippet counts in
    neither; where all are, both are 0. Frames whose true pose is NaN are not known.

    Args:
        snippet: Frames of a snippet, at least 2.
    """

    full_state_update = False

    rows: list[Tensor]

    def __init__(self, snippet: int = 5) -> None:
        super().__init__()
        self.snippet = snippet
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(self, motion: Tensor, pose: Tensor, sequence: Sequence[str], frame: Sequence[int]) -> None:
        """Adds frames.

        Args:
            motion: (B, 4, 4), the pose of each frame's camera as that of the frame before sees it.
            pose: (B, 4, 4) the true camera to world.
            sequence: Name of its sequence for each frame.
            frame: Its place in the sequence, from 0.
        """
        numbers = [zlib.crc32(name.encode()) for name in sequence]
        places = torch.tensor([numbers, list(frame)], dtype=torch.float64, device=motion.device).T
        self.rows.append(torch.cat([places, motion.double().flatten(1), pose.double().flatten(1)], dim=1))

    def compute(self) -> dict[str, Tensor]:
        squares, snippets = [np.zeros(0)], [np.zeros(0)]
        table = dim_zero_cat(self.rows).cpu().numpy() if len(self.rows) else np.zeros((0, 34))
        table = table[~np.isnan(table[:, 18:]).any(axis=1)]
        if not len(table):
            return {}
        for number in np.unique(table[:, 0]):
            own = table[table[:, 0] == number]
            own = own[np.unique(own[:, 1], return_index=True)[1]]  # a sampler may repeat frames to fill ranks
            moved, true = (own[:, start : start + 16].reshape(-1, 4, 4) for start in (2, 18))
            if len(own) < self.snippet:
                continue
            estimate, truth = Trajectory(chained(moved)), Trajectory(true)
            snippets.append(snippet_errors(estimate, truth, self.snippet))
            try:
                estimate = alignment_of(estimate, truth, "sim3").apply(estimate)
            except DataError:  # one that does not move has no scale, and is best in the middle
                estimate.poses[:, :3, 3] = truth.positions.mean(axis=0)
            squares.append(absolute_errors(estimate, truth).translation ** 2)
        every, parts = np.concatenate(squares), np.concatenate(snippets)
        return {
            "ate": torch.tensor(np.sqrt(every.mean()) if len(every) else 0.0, dtype=torch.float32),
            "ate_snippet": torch.tensor(parts.mean() if len(parts) else 0.0, dtype=torch.float32),
        }
