"""Label propagation: each place takes the labels of the places in earlier frames that look most like it.

The protocol of STC, CRW and DINO (Jabri et al., 2020; Caron et al., 2021): nothing is trained.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from visionkit.families.propagation.features import FrameFeatures, Size
from visionkit.families.propagation.propagator import Propagator
from visionkit.results import Progress
from visionkit.types import IGNORE

_BLOCK = 8
"""Side of the blocks of places that are compared at a time: most of what a block is compared with, all of it needs."""


@dataclass
class LabelPropagation(Propagator):
    """Propagates soft masks by similarities of features, from the first frame and the last ones.

    Attributes:
        strides: Strides of the maps whose features are compared, joined on the finest; none takes 4, 8 and 16 where the
            backbone has them. A plain transformer has one stride alone.
        context: Number of last frames that labels come from, beside the first one.
        radius: Farthest that an object moves between two of these frames, in cells of the finest stride.
        top_k: Places that a place takes its label from.
        temperature: Of the softmax over their similarities.
    """

    strides: Sequence[int] = ()
    context: int = 7
    radius: int = 12
    top_k: int = 5
    temperature: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("context", self.context, 0, 100)
        self._check("radius", self.radius, 1, 100)
        self._check("top_k", self.top_k, 1)
        self._check("temperature", self.temperature, 1e-4)
        self._features: FrameFeatures | None = None
        self._asked: Size = (0, 0)

    def open(self, size: Size) -> Size:
        if self._features is None or self._asked != size:
            self._features = FrameFeatures(self.model, self.strides, size=size, device=self.device)
            self._asked = size
        return self._features.size

    def start(self, frame: np.ndarray, image: Tensor, masks: np.ndarray, progress: Progress | None) -> None:
        assert self._features is not None
        features = self._features(image)
        height, width = features.shape[-2:]
        objects = range(1, int(masks[masks != IGNORE].max()) + 1)
        soft = [
            cv2.resize((masks == k).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) for k in objects
        ]
        # What is not known has no label of its own: such places take no part, not even as background.
        unknown = cv2.resize((masks == IGNORE).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        labels = torch.from_numpy(np.stack([1 - sum(soft) - unknown, *soft])).to(features.device)
        self._first = features, labels
        self._recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=self.context)

    def step(self, image: Tensor) -> Tensor:
        assert self._features is not None
        features = self._features(image)
        known = [self._first, *self._recent]
        keys, labels = (torch.stack(each) for each in zip(*known, strict=True))
        found = propagate(features, keys, labels, self.radius, self.top_k, self.temperature)
        self._recent.append((features, found))
        return found


@torch.inference_mode()
def propagate(features: Tensor, keys: Tensor, labels: Tensor, radius: int, top_k: int, temperature: float) -> Tensor:
    """Labels of every place, from the most similar places near it in other frames.

    Args:
        features: (C, h, w) of length 1 at each place.
        keys: (T, C, h, w) those of other frames.
        labels: (T, K, h, w) their soft labels.
        radius: Rows and columns from a place to the farthest that it is compared with.
        top_k: Number of places that count.
        temperature: Of the softmax over their similarities.

    Returns:
        (K, h, w) soft labels.
    """
    channels, height, width = features.shape
    count = labels.shape[1]
    out = torch.empty(count, height, width, device=features.device)
    for top in range(0, height, _BLOCK):
        rows = torch.arange(top, min(top + _BLOCK, height), device=features.device)
        y = torch.arange(max(top - radius, 0), min(top + _BLOCK + radius, height), device=features.device)
        near_y = (rows[:, None] - y).abs() <= radius
        for left in range(0, width, _BLOCK):
            columns = torch.arange(left, min(left + _BLOCK, width), device=features.device)
            x = torch.arange(max(left - radius, 0), min(left + _BLOCK + radius, width), device=features.device)
            near_x = (columns[:, None] - x).abs() <= radius
            block = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
            around = (slice(int(y[0]), int(y[-1]) + 1), slice(int(x[0]), int(x[-1]) + 1))
            query = features[:, *block].reshape(channels, -1).T
            key = keys[:, :, *around].transpose(0, 1).reshape(channels, -1)
            near = (near_y[:, None, :, None] & near_x[None, :, None, :]).reshape(len(query), 1, -1)
            similarity = (query @ key).view(len(query), len(keys), -1).masked_fill(~near, float("-inf"))
            best = similarity.flatten(1).topk(min(top_k, similarity[0].numel()), dim=1)
            weights = F.softmax(best.values / temperature, dim=1)
            known = labels[:, :, *around].transpose(0, 1).reshape(count, -1)
            out[:, *block] = (known[:, best.indices] * weights).sum(-1).view(count, len(rows), len(columns))
    return out
