"""The check of an exported graph: it is tried on images beside torch, and how far the two are apart is measured."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visionkit.engines import Engine, OnnxEngine, TorchEngine, served_fields
from visionkit.errors import CheckpointError, VisionKitError
from visionkit.images import ImageSource
from visionkit.inputs import Given, batch_of_one
from visionkit.predictor import Predictor
from visionkit.task import VisionTask
from visionkit.types import View

TOLERANCE = 1e-4
"""Highest difference in probability between torch and a float graph."""

OUTPUT_TOLERANCE = 1e-3
"""Highest difference of a float graph's outputs, as a part of the largest output."""

INT8_COSINE = 0.995
"""Least cosine, in the mean over images, between the outputs of torch and of an 8-bit graph."""

INT8_AGREEMENT = 0.9
"""Least fraction of images on which an 8-bit graph gives the prediction of torch."""

MIDDLE = (160, 224)
"""Height and width that are tried of images that are taken at their own size; a graph that confuses them shows."""

Progress = Callable[..., None]
"""Called with a stage as it begins, and where it goes through images also with the number done and of all of them."""


def no_progress(stage: str, done: int = 0, total: int = 0) -> None:
    """Reports nothing."""


CHECKED = 64
"""Images that a graph is tried on, at most."""


@dataclass(frozen=True)
class Agreement:
    """How a graph's predictions compare with torch's.

    Attributes:
        images: Number tried.
        outputs: Largest difference of an output, as a part of the largest value of that output.
        cosine: Mean over images of the cosine between the outputs.
        difference: Largest difference between predictions (of a probability), or None where that is not defined.
        same: Fraction of images with the same prediction, or None.
    """

    images: int
    outputs: float
    cosine: float
    difference: float | None
    same: float | None


@torch.inference_mode()
def compare(
    task: VisionTask,
    engine: Engine,
    images: Sequence[Given],
    limit: int = CHECKED,
    progress: Progress = no_progress,
    name: str = "the graph",
) -> Agreement:
    """Tries an engine on images, beside torch.

    Args:
        task: Task with its weights.
        engine: Engine of a graph of the same task.
        images: Images, as a predictor is called with them.
        limit: Take at most so many of them, evenly.
        progress: Called with each image.
        name: Names the graph in an error.

    Raises:
        CheckpointError: The engine fails on an image.
    """
    predictor, reference = Predictor(task), TorchEngine(task)
    outputs, cosines, distances, same = [0.0], [], [], []
    step = max(1, len(images) // limit)
    tried = images[::step][:limit]
    for number, image in enumerate(tried):
        progress("checking the graph on images", number, len(tried))
        native = task.input.resize_mode == "native"
        example = predictor.prepare(image, _middle(predictor.sample(image).image) if native else None)
        # Twice the same image, so a graph with a fixed batch shows.
        inputs = [torch.cat([each, each]) for each in batch_of_one(example)]
        ours = reference(*inputs)
        with _runs(name, inputs[0]):
            other = engine(*inputs)
        values = [[getattr(each, name) for name in served_fields(type(each))] for each in (ours, other)]
        for a, b in zip(*values, strict=True):
            scale = float(a.abs().max()) or 1.0
            outputs.append(float((a.float() - b.float()).abs().max()) / scale)
        flat = [torch.cat([v.double().flatten() for v in each]) for each in values]
        cosines.append(float(torch.cosine_similarity(flat[0], flat[1], dim=0)))
        geometry = [example["geometry"]] * 2
        second = getattr(engine, "second", None)
        decoded = [task.decode(ours)]
        with _runs(name, inputs[0]):
            decoded.append(task.decode(other, **({} if second is None else {"second": second})))
        predictions = [task.restore(each, geometry)[0] for each in decoded]
        if (found := predictions[0].difference(predictions[1])) is not None:
            distances.append(found.largest)
            same.append(found.same)
    return Agreement(
        len(cosines),
        max(outputs) if np.isfinite(outputs).all() else float("inf"),
        float(np.mean(cosines)),
        max(distances) if distances else None,
        float(np.mean(same)) if same else None,
    )


@contextlib.contextmanager
def _runs(name: str, image: torch.Tensor) -> Iterator[None]:
    """Reports what a runtime raises as a fault of the graph: it has an exception of its own for every status."""
    try:
        yield
    except (VisionKitError, MemoryError):
        raise
    except Exception as error:
        sides = "x".join(map(str, image.shape[-2:]))
        why = " ".join(str(error).split())[:240]
        raise CheckpointError(f"{name}: not kept: it fails on two images of {sides} pixels: {why}") from error


def _middle(image: ImageSource) -> View | None:
    """The middle of an image that a network takes at its own size: a photo at whole size would take minutes."""
    (height, width), (most_y, most_x) = image.size, MIDDLE
    if height <= most_y and width <= most_x:
        return None
    top, left = max(0, (height - most_y) // 2), max(0, (width - most_x) // 2)
    return View((left, top, min(left + most_x, width), min(top + most_y, height)))


def checked(
    task: VisionTask,
    path: Path,
    images: Sequence[Given],
    tolerance: float = TOLERANCE,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Checks a float graph.

    Args:
        task: Task with its weights.
        path: The graph.
        images: Images that it is tried on.
        tolerance: Highest difference in probability.
        progress: Called with each image.

    Returns:
        What `model.json` states of it.

    Raises:
        CheckpointError: It differs by more than is allowed.
    """
    found = compare(task, OnnxEngine(path, task.outputs, inputs=task.inputs), images, progress=progress, name=path.name)
    wrong = found.outputs > OUTPUT_TOLERANCE
    if found.difference is not None:
        # Probabilities are what is served; outputs may differ more where a softmax does not show it.
        wrong = not found.difference <= tolerance
    if wrong:
        message = (
            f"{found.difference:.2g} in probability"
            if found.difference is not None
            else f"{found.outputs:.2g} in outputs"
        )
        allowed = tolerance if found.difference is not None else OUTPUT_TOLERANCE
        raise CheckpointError(
            f"{path.name}: not kept: on {found.images} images it differs from torch by up to {message}, allowed is "
            f"{allowed:g}"
        )
    return {**asdict(found), "tolerance": tolerance if found.difference is not None else OUTPUT_TOLERANCE}


def checked_int8(
    task: VisionTask, path: Path, images: Sequence[Given], progress: Progress = no_progress
) -> dict[str, Any]:
    """Checks an 8-bit graph, see `checked`."""
    found = compare(task, OnnxEngine(path, task.outputs, inputs=task.inputs), images, progress=progress, name=path.name)
    if not found.cosine >= INT8_COSINE or (found.same is not None and found.same < INT8_AGREEMENT):
        message = f", the same prediction on {found.same:.1%}" if found.same is not None else ""
        raise CheckpointError(
            f"{path.name}: not kept: on {found.images} images its outputs have a cosine of {found.cosine:.4f} with "
            f"torch's{message}; required are {INT8_COSINE:g} and {INT8_AGREEMENT:.0%}; try more calibration images"
        )
    return {**asdict(found), "tolerance": {"cosine": INT8_COSINE, "same": INT8_AGREEMENT}}
