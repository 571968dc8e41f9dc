"""The check of an exported graph: it is tried on images beside torch, and how far the two are apart is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visionkit.engines import Engine, OnnxEngine, TorchEngine, served_fields
from visionkit.errors import CheckpointError
from visionkit.images import ImageLike, ImageSource
from visionkit.predictions import Answers, Classification, DepthMap, Detections, Poses, Prediction
from visionkit.predictor import Predictor
from visionkit.task import VisionTask
from visionkit.types import View

TOLERANCE = 1e-4
"""Highest difference in probability between torch and a float graph."""

OUTPUT_TOLERANCE = 1e-3
"""Highest difference of a float graph's outputs, as a part of the largest output."""

INT8_COSINE = 0.995
"""Least cosine, in the mean over pictures, between the outputs of torch and of an 8-bit graph."""

INT8_AGREEMENT = 0.9
"""Least share of pictures on which an 8-bit graph gives the answer of torch."""

MIDDLE = 192
"""Of pictures that are taken at their own size, so many pixels a side are tried."""

Progress = Callable[..., None]
"""Called with a stage as it begins, and where it goes through images also with the number done and of all of them."""


def no_progress(stage: str, done: int = 0, total: int = 0) -> None:
    """Reports nothing."""


CHECKED = 64
"""Pictures that a graph is tried on, at most."""


@singledispatch
def difference(ours: Prediction, other: Prediction) -> tuple[float, bool] | None:
    """How far two answers are apart and whether they say the same; None for kinds that register nothing.

    Kinds without it are judged by the network's outputs alone.
    """
    return None


@difference.register(Classification)
def _classification(ours: Classification, other: Prediction) -> tuple[float, bool]:
    assert isinstance(other, Classification)
    same = {label.name for label in ours.labels} == {label.name for label in other.labels}
    return float(np.abs(ours.probabilities - other.probabilities).max()), same


@difference.register(Detections)
def _detections(ours: Detections, other: Prediction) -> tuple[float, bool]:
    """Largest difference of a score, or of a side of a box as a part of the picture's longer side.

    Objects are paired by class and place, since two of almost one score may change their order. One without a partner
    counts with its whole score, unless it lies at the end of the answer, where rounding decides what is still in.
    """
    assert isinstance(other, Detections)
    lowest = min([*ours.scores, *other.scores], default=0.0)
    apart, free = 0.0, set(range(len(other)))
    same = len(ours.above()) == len(other.above())
    alone: list[float] = []
    for box, score, label in zip(ours.boxes, ours.scores, ours.labels, strict=True):
        rows = [k for k in free if other.labels[k] == label and abs(other.scores[k] - score) <= _NEAR]
        far = [float(np.abs(other.boxes[k] - box).max()) / max(ours.size) for k in rows]
        if not rows or min(far) > _NEAR:
            alone.append(float(score))
            continue
        k = rows[int(np.argmin(far))]
        free.remove(k)
        apart = max(apart, min(far), abs(float(other.scores[k] - score)))
    alone += [float(other.scores[k]) for k in free]
    for score in alone:
        at_the_end = score - lowest <= _NEAR and score <= 0.25
        apart = max(apart, score - lowest if at_the_end else score)
    return apart, same


@difference.register(DepthMap)
def _depth_map(ours: DepthMap, other: Prediction) -> tuple[float, bool]:
    """Largest difference as a part of the largest value; they say the same where the median pixel is within 1 %."""
    assert isinstance(other, DepthMap)
    apart = np.abs(ours.values - other.values)
    most = max(float(ours.values.max()), 1e-12)
    return float(apart.max()) / most, bool(np.median(apart / np.maximum(ours.values, 1e-12)) <= 0.01)


@difference.register(Answers)
def _answers(ours: Answers, other: Prediction) -> tuple[float, bool] | None:
    """Of the head that differs most; they say the same where all heads do."""
    assert isinstance(other, Answers)
    found = [difference(part, other[name]) for name, part in ours.items()]
    known = [each for each in found if each is not None]
    return (max(each[0] for each in known), all(each[1] for each in known)) if known else None


_NEAR = 0.01
"""Two objects are the same where neither score nor place, as a part of the picture, differs by more."""


@difference.register(Poses)
def _poses(ours: Poses, other: Prediction) -> tuple[float, bool]:
    """Of the scores, and of visible joints as a share of the person's size."""
    assert isinstance(other, Poses)
    if len(ours) != len(other):
        return 1.0, False
    of_scores = float(np.abs(ours.joint_scores - other.joint_scores).max(initial=0.0))
    sides = np.maximum(ours.boxes[:, 2:] - ours.boxes[:, :2], 1.0).max(axis=1, initial=1.0)
    far = np.linalg.norm(ours.joints - other.joints, axis=2) / sides[:, None]
    of_places = float(far[ours.visible | other.visible].max(initial=0.0))
    return max(of_scores, of_places), bool((ours.visible == other.visible).all())


@dataclass(frozen=True)
class Agreement:
    """How a graph's answers compare with torch's.

    Attributes:
        pictures: Number tried.
        outputs: Largest difference of an output, as a part of the largest value of that output.
        cosine: Mean over pictures of the cosine between the outputs.
        difference: Largest difference between predictions (of a probability), or None where that is not defined.
        same: Share of pictures with the same answer, or None.
    """

    pictures: int
    outputs: float
    cosine: float
    difference: float | None
    same: float | None


@torch.inference_mode()
def compare(
    task: VisionTask,
    engine: Engine,
    pictures: Sequence[ImageLike],
    limit: int = CHECKED,
    progress: Progress = no_progress,
) -> Agreement:
    """Tries an engine on pictures, beside torch.

    Args:
        task: With its weights.
        engine: Of a graph of the same task.
        pictures: Any that `visionkit.images` reads.
        limit: Take at most so many of them, evenly.
        progress: Called with each image.
    """
    predictor, reference = Predictor(task), TorchEngine(task)
    outputs, cosines, distances, same = [0.0], [], [], []
    step = max(1, len(pictures) // limit)
    tried = pictures[::step][:limit]
    for number, picture in enumerate(tried):
        progress("checking the graph on images", number, len(tried))
        example = predictor.prepare(picture, _middle(picture) if task.input.fit == "native" else None)
        # Twice the same picture, so a graph with a fixed batch shows.
        image = torch.stack([example["image"]] * 2)
        ours, other = reference(image), engine(image)
        values = [[getattr(each, name) for name in served_fields(type(each))] for each in (ours, other)]
        for a, b in zip(*values, strict=True):
            scale = float(a.abs().max()) or 1.0
            outputs.append(float((a.float() - b.float()).abs().max()) / scale)
        flat = [torch.cat([v.double().flatten() for v in each]) for each in values]
        cosines.append(float(torch.cosine_similarity(flat[0], flat[1], dim=0)))
        geometry = [example["geometry"]] * 2
        decoded = [task.decode(ours), _decode(task, engine, other)]
        answers = [task.restore(each, geometry)[0] for each in decoded]
        if (found := difference(answers[0], answers[1])) is not None:
            distances.append(found[0])
            same.append(found[1])
    return Agreement(
        len(cosines),
        max(outputs) if np.isfinite(outputs).all() else float("inf"),
        float(np.mean(cosines)),
        max(distances) if distances else None,
        float(np.mean(same)) if same else None,
    )


def _middle(picture: ImageLike) -> View | None:
    """The middle of a picture that a network takes at its own size: a photo at whole size would take minutes."""
    height, width = ImageSource(picture).size
    if max(height, width) <= MIDDLE:
        return None
    top, left = max(0, (height - MIDDLE) // 2), max(0, (width - MIDDLE) // 2)
    return View((left, top, min(left + MIDDLE, width), min(top + MIDDLE, height)))


def _decode(task: VisionTask, engine: Engine, outputs: Any) -> Any:
    task.second_engine = getattr(engine, "second", None)
    try:
        return task.decode(outputs)
    finally:
        task.second_engine = None


def checked(
    task: VisionTask,
    path: Path,
    pictures: Sequence[ImageLike],
    tolerance: float = TOLERANCE,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Checks a float graph.

    Args:
        task: With its weights.
        path: The graph.
        pictures: That it is tried on.
        tolerance: Highest difference in probability.
        progress: Called with each image.

    Returns:
        What `model.json` states of it.

    Raises:
        CheckpointError: It differs by more than is allowed.
    """
    found = compare(task, OnnxEngine(path, task.outputs), pictures, progress=progress)
    wrong = found.outputs > OUTPUT_TOLERANCE
    if found.difference is not None:
        # Probabilities are what is served; outputs may differ more where a softmax does not show it.
        wrong = not found.difference <= tolerance
    if wrong:
        told = (
            f"{found.difference:.2g} in probability"
            if found.difference is not None
            else f"{found.outputs:.2g} in outputs"
        )
        allowed = tolerance if found.difference is not None else OUTPUT_TOLERANCE
        raise CheckpointError(
            f"{path.name}: not kept: on {found.pictures} pictures it differs from torch by up to {told}, allowed is "
            f"{allowed:g}"
        )
    return {**asdict(found), "tolerance": tolerance if found.difference is not None else OUTPUT_TOLERANCE}


def checked_int8(
    task: VisionTask, path: Path, pictures: Sequence[ImageLike], progress: Progress = no_progress
) -> dict[str, Any]:
    """Checks an 8-bit graph, see `checked`."""
    found = compare(task, OnnxEngine(path, task.outputs), pictures, progress=progress)
    if not found.cosine >= INT8_COSINE or (found.same is not None and found.same < INT8_AGREEMENT):
        told = f", the same answer on {found.same:.1%}" if found.same is not None else ""
        raise CheckpointError(
            f"{path.name}: not kept: on {found.pictures} pictures its outputs have a cosine of {found.cosine:.4f} with "
            f"torch's{told}; wanted are {INT8_COSINE:g} and {INT8_AGREEMENT:.0%}; try more calibration pictures"
        )
    return {**asdict(found), "tolerance": {"cosine": INT8_COSINE, "same": INT8_AGREEMENT}}
