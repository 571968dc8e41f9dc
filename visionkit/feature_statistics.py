"""Statistics of a model's features from held-out images, for a model that was trained without them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from visionkit.errors import UsageError
from visionkit.export_check import Progress, no_progress
from visionkit.images import ImageLike
from visionkit.inputs import batch_of_one
from visionkit.out_of_distribution import FEWEST, MOST, FeatureStatistics, tap_of
from visionkit.predictor import Predictor
from visionkit.task import VisionTask


@torch.inference_mode()
def statistics_from(
    task: VisionTask, images: Sequence[ImageLike], progress: Progress = no_progress
) -> FeatureStatistics:
    """Runs a model on held-out images, at most 1,024 of them evenly.

    Args:
        task: Task with its weights.
        images: Like those it was trained on, but not among them.
        progress: Called with each image.

    Raises:
        UsageError: Too few images, or a model without a backbone whose features could be compared.
        DataError: An image cannot be read.
    """
    tap = tap_of(task.network)
    if tap is None:
        raise UsageError(f"{task.name}: it has no backbone whose features show which images are unlike its own")
    if len(images) < FEWEST:
        raise UsageError(f"{len(images)} held-out images: at least {FEWEST} are needed to state what is usual")
    images = images[:: -(-len(images) // MOST)]
    predictor, rows = Predictor(task), []
    for number, image in enumerate(images):
        progress("reading features of held-out images", number, len(images))
        with tap:
            predictor.engine(*batch_of_one(predictor.prepare(image)))
        if (features := tap.take(1)) is not None:
            rows.append(features[0].cpu())
    found = FeatureStatistics.of(torch.stack(rows).numpy()) if rows else None
    if found is None:
        raise UsageError(
            f"{len(images)} held-out images: their features do not vary, so nothing can be compared with them"
        )
    return found
