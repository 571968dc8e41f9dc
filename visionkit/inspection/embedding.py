"""Images as points: features of a backbone in two dimensions, with each image's nearest neighbors."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from visionkit.errors import EnvironmentFault, UsageError, suggest
from visionkit.images import ImageLike, ImageSource
from visionkit.inputs import batch_of_one
from visionkit.out_of_distribution import tap_of
from visionkit.predictor import Predictor

METHODS = ("pca", "tsne", "umap")
NEIGHBORS = 5

_SIDE, _THUMBNAIL, _MARGIN = 1200, 56, 20


def embed(predictor: Predictor, images: Sequence[ImageLike]) -> np.ndarray:
    """(N, D) float32: the pooled features of images, at several depths of the backbone.

    Args:
        predictor: Predictor of a task on a backbone, run by torch.
        images: Images.

    Raises:
        UsageError: The model has no backbone whose depths are known.
        DataError: An image cannot be read.
    """
    tap = tap_of(predictor.task.network)
    if tap is None:
        raise UsageError(f"{predictor.task.name}: it has no backbone whose features could be mapped")
    rows = []
    for path in images:
        with tap:
            predictor.engine(*batch_of_one(predictor.prepare(path)))
        features = tap.take(1)
        assert features is not None
        rows.append(features[0].float().flatten().cpu())
    return torch.stack(rows).numpy()


def project(vectors: np.ndarray, method: str = "pca", seed: int = 0) -> np.ndarray:
    """(N, 2) float32 positions.

    Args:
        vectors: (N, D).
        method: `pca`; `tsne` (van der Maaten, Hinton 2008, scikit-learn's); `umap` (McInnes et al. 2018), where the
            package umap-learn is installed.
        seed: Number that the last two follow from.

    Raises:
        UsageError: An unknown method, or fewer than 3 images.
        EnvironmentFault: umap-learn is not installed.
    """
    if method not in METHODS:
        raise UsageError(f"embedding {method!r}: allowed are {', '.join(METHODS)}{suggest(method, METHODS)}")
    if len(vectors) < 3:
        raise UsageError(f"{len(vectors)} images: at least 3 are needed for a map")
    if method == "pca":
        centered = vectors - vectors.mean(axis=0)
        left, lengths, axes = np.linalg.svd(centered, full_matrices=False)
        signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])  # svd leaves the sign open
        found: np.ndarray = (left * lengths * signs)[:, :2]
        return found.astype(np.float32)
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(vectors) - 1) / 3)
        return np.asarray(TSNE(perplexity=perplexity, random_state=seed, init="pca").fit_transform(vectors))
    if importlib.util.find_spec("umap") is None:
        raise EnvironmentFault("umap is not installed: pip install umap-learn, or take pca or tsne")
    import umap

    neighbors = min(15, len(vectors) - 1)
    return np.asarray(umap.UMAP(n_neighbors=neighbors, random_state=seed).fit_transform(vectors))


def neighbors(vectors: np.ndarray, count: int = NEIGHBORS) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other images of each.

    Args:
        vectors: (N, D).
        count: How many; all others where there are fewer.

    Returns:
        (N, count) their numbers, the nearest first, and (N, count) their cosine similarities.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    similar = unit @ unit.T
    np.fill_diagonal(similar, -np.inf)
    count = min(count, len(vectors) - 1)
    order = np.argsort(-similar, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(similar, order, axis=1)


def draw(positions: np.ndarray, images: Sequence[Path]) -> Image.Image:
    """The images, small, at their positions."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    room = _SIDE - 2 * _MARGIN - _THUMBNAIL
    places = (positions - low) / np.maximum(high - low, 1e-12) * room + _MARGIN
    sheet = Image.new("RGB", (_SIDE, _SIDE), "white")
    for (x, y), path in zip(places, images, strict=True):
        small = Image.fromarray(ImageSource(path).read())
        small.thumbnail((_THUMBNAIL, _THUMBNAIL))
        sheet.paste(small, (int(x), int(_SIDE - _THUMBNAIL - y)))
    return sheet


def write_table(path: Path, positions: np.ndarray, vectors: np.ndarray, images: Sequence[Path]) -> None:
    """Writes position and nearest neighbors of each image as csv.

    Raises:
        EnvironmentFault: The file cannot be written.
    """
    order, similar = neighbors(vectors)
    head = [f"{what} {number}" for number in range(1, order.shape[1] + 1) for what in ("neighbor", "similarity")]
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["image", "x", "y", *head])
            for number, image in enumerate(images):
                pairs = zip(order[number], similar[number], strict=True)
                near = [value for other, score in pairs for value in (images[other], f"{score:.4f}")]
                writer.writerow([image, *(f"{value:.4f}" for value in positions[number]), *near])
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written ({error.strerror})") from error
