"""Embeddings to the sphere, and to faces in file pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from visionkit.geometry import Geometry
from visionkit.predictions import Faces


def unit(embedding: Tensor) -> Tensor:
    """(B, D) to (B, D) float32 of length 1."""
    return F.normalize(embedding.float(), dim=1)


def to_faces(embeddings: Tensor, geometry: Sequence[Geometry]) -> list[Faces]:
    """One face for each picture or view: the region of the file that the network was shown.

    Args:
        embeddings: (B, D) of length 1.
        geometry: Of each view.
    """
    values = embeddings.float().cpu().numpy()
    return [
        Faces(_region(each)[None], row[None], np.ones(1), np.full((1, 5, 2), np.nan), whole_image=True)
        for row, each in zip(values, geometry, strict=True)
    ]


def _region(geometry: Geometry) -> np.ndarray:
    x1, y1, x2, y2 = geometry.content
    corners = torch.tensor([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], dtype=torch.float64)
    places = geometry.invert_points(corners).numpy()
    height, width = geometry.source
    low, high = places.min(axis=0), places.max(axis=0)
    return np.concatenate([low, high]).clip(0, [width, height, width, height])


def joined(parts: Sequence[Faces]) -> Faces:
    """The faces of several views of one picture, in their order."""
    if len(parts) == 1:
        return parts[0]
    return Faces(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.embeddings for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.landmarks for part in parts]),
    )
