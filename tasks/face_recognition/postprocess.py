"""Embeddings to the sphere, and to faces in file pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from visionkit.geometry import Geometry
from visionkit.predictions import Faces, Prediction
from visionkit.tiling import Located


def unit(embedding: Tensor) -> Tensor:
    """(B, D) to (B, D) float32 of length 1."""
    return F.normalize(embedding.float(), dim=1)


def to_faces(embeddings: Tensor, geometry: Sequence[Geometry]) -> list[Faces]:
    """One face for each image or view: the region of the file that the network was shown.

    Args:
        embeddings: (B, D) of length 1.
        geometry: Geometry of each view.
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


def joined(parts: Sequence[Prediction], found: Located | None, width: int) -> Faces:
    """The faces of several views of one image, in their order.

    Args:
        parts: Predictions on the views.
        found: The faces that the views were aligned to, or None where the views were asked for.
        width: Width of an embedding.
    """
    faces = [part for part in parts if isinstance(part, Faces)]
    if found is None and len(faces) == 1:
        return faces[0]
    embeddings = np.concatenate([np.zeros((0, width)), *(part.embeddings for part in faces)])
    if found is not None:
        landmarks = np.zeros((0, 5, 2)) if found.landmarks is None else found.landmarks
        return Faces(found.boxes, embeddings, found.scores, landmarks, faces_found=len(found.boxes))
    return Faces(
        np.concatenate([part.boxes for part in faces]),
        embeddings,
        np.concatenate([part.scores for part in faces]),
        np.concatenate([part.landmarks for part in faces]),
    )
