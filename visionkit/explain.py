"""Why something was predicted: the parts of the image whose features speak for a class, an object or a keypoint.

Grad-CAM (Selvaraju et al., ICCV 2017, arXiv:1610.02391) and Grad-CAM++ (Chattopadhay et al., WACV 2018,
arXiv:1710.11063) weigh features by gradients, Score-CAM (Wang et al., CVPRW 2020, arXiv:1910.01279) by the scores of
masked images. They read the backbone's last map, and for plain transformers the tokens before the last attention
(behind it, only the class token is processed, and every other gradient is zero). Attention roll-out (Abnar, Zuidema,
ACL 2020, arXiv:2005.00928) multiplies the attention of all layers, and is of no class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from visionkit.activation_mapping import (
    AttentionMaps,
    LastFeatures,
    Layout,
    gradient_weights,
    rolled_out,
    score_weights,
)
from visionkit.backbones import Backbone
from visionkit.errors import UsageError, suggest
from visionkit.images import ImageLike
from visionkit.inputs import batch_of_one

if TYPE_CHECKING:
    from visionkit.predictor import Predictor


@dataclass(frozen=True)
class Explanation:
    """Where a class was seen.

    Attributes:
        name: The class.
        values: (h, w) float32 in [0, 1], file pixels: the fraction of the strongest evidence; 0 where there is none, or
            where the network did not see the file.
    """

    name: str
    values: np.ndarray

    @classmethod
    def scaled(cls, name: str, values: Tensor) -> Explanation:
        """Of (h, w) evidence in file pixels, whatever its scale."""
        peak = float(values.max())
        shown = (values / peak if peak > 0 else torch.zeros_like(values)).clamp(0, 1).numpy()
        return cls(name, np.ascontiguousarray(shown, dtype=np.float32))


GRADIENTS = ("grad-cam", "grad-cam++")
METHODS = (*GRADIENTS, "score-cam", "attention-rollout")


def can_explain(task: Any) -> bool:
    """Whether a task has a backbone and classes with one score each."""
    body = getattr(task.network, "backbone", None)
    return isinstance(body, Backbone) and bool(task.classes) and "logits" in getattr(task.outputs, "_fields", ())


def explain(predictor: Predictor, image: ImageLike, name: str | None = None, method: str = "grad-cam") -> Explanation:
    """The evidence for a class in an image.

    Args:
        predictor: Predictor of a task with classes, run by torch.
        image: Image, as a predictor takes it.
        name: The class; the highest-scoring one by default.
        method: One of `METHODS`.

    Returns:
        A map of the file's size.

    Raises:
        UsageError: The task has no classes, or none of that name, its backbone has no map, or the method is unknown.
        DataError: The image cannot be read.

    Example:
        >>> found = explain(load("model.ckpt"), "photo.jpg")
        >>> found.name, found.values.shape
        ('tulip', (480, 640))
    """
    task = predictor.task
    if not can_explain(task):
        raise UsageError(f"{task.name}: only predictions of classes from a backbone's features can be explained")
    label: int | None = None

    def score(outputs: Any) -> tuple[Tensor, str]:
        nonlocal label
        logits = outputs.logits.float()
        label = label_of(task, logits, name) if label is None else label
        return class_score(logits, label, len(task.classes)), task.classes[label]

    return _explained(predictor, image, score, method, deepest=True)


def explain_object(
    predictor: Predictor, image: ImageLike, number: int, keypoint: int | None = None, method: str = "grad-cam"
) -> Explanation:
    """The evidence for one object, or for one keypoint of it.

    Args:
        predictor: Predictor of a task that finds objects with scores, run by torch.
        image: Image, as a predictor takes it, in one view.
        number: Number of the object, 0 the first that the task decodes.
        keypoint: Number of the keypoint; the object itself by default.
        method: `grad-cam` or `grad-cam++`; the map of the pyramid with the strongest gradient is read.

    Raises:
        UsageError: The task finds no objects, or fewer than that, or the method is another one.
        DataError: The image cannot be read.
    """
    task = predictor.task
    if method not in GRADIENTS:
        raise UsageError(f"method {method!r}: of an object, {' and '.join(GRADIENTS)} show the evidence")
    if not isinstance(getattr(task.network, "backbone", None), Backbone):
        raise UsageError(f"{task.name}: it has no backbone whose features could explain an object")

    def score(outputs: Any) -> tuple[Tensor, str]:
        decoded = task.decode(outputs)
        found = None if isinstance(decoded, Mapping) else decoded[0]  # several heads have no objects of their own
        scores = getattr(found, "scores" if keypoint is None else "keypoint_scores", None)
        if scores is None:
            raise UsageError(f"{task.name}: finds no {'objects' if keypoint is None else 'keypoints'} with scores")
        if not 0 <= number < len(scores):
            raise UsageError(f"object {number}: {len(scores)} are found in this image")
        if keypoint is not None and not 0 <= keypoint < scores.shape[1]:
            raise UsageError(f"keypoint {keypoint}: this model has 0 to {scores.shape[1] - 1}")
        labels = getattr(found, "labels", None)
        what = f"object {number}" if labels is None else f"{task.classes[int(labels[number])]} {number}"
        one = scores[number] if keypoint is None else scores[number, keypoint]
        return one[None], what if keypoint is None else f"{what}, keypoint {keypoint}"

    return _explained(predictor, image, score, method, deepest=False)


def _explained(
    predictor: Predictor, image: ImageLike, score: Callable[[Any], tuple[Tensor, str]], method: str, deepest: bool
) -> Explanation:
    task = predictor.task
    if method not in METHODS:
        raise UsageError(f"method {method!r}: allowed are {', '.join(METHODS)}{suggest(method, METHODS)}")
    example = predictor.prepare(image)
    inputs = [each.to(next(task.parameters()).device) for each in batch_of_one(example)]
    attention = AttentionMaps()
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        LastFeatures(task.network, deepest) as tap,
        attention if method == "attention-rollout" else nullcontext(),
    ):
        # What was made in inference mode could not be differentiated.
        inputs = [each.clone() for each in inputs]
        value, name = score(task(*inputs))
        gradients: list[Tensor | None] = [None] * len(tap.leaves)
        if method in GRADIENTS:
            if not value.requires_grad:
                raise UsageError(f"{task.name}: its scores have no gradient, so no evidence can be stated")
            gradients = list(torch.autograd.grad(value.sum(), tap.leaves, allow_unused=True))
    height, width = inputs[0].shape[-2:]
    leaf, gradient = max(zip(tap.leaves, gradients, strict=True), key=lambda pair: _strength(pair[1]))
    layout = Layout.of(leaf, tap.backbone, (height, width))
    features = layout.map(leaf.detach().float())
    if method == "attention-rollout":
        evidence = rolled_out(attention.maps, tap.backbone, tuple(features.shape[1:]))
    elif method == "score-cam":
        weights = score_weights(task, inputs, features, lambda outputs: score(outputs)[0])
        evidence = torch.relu(torch.einsum("c,chw->hw", weights, features))
    else:
        if gradient is None:
            raise UsageError(f"{task.name}: no gradient of {name} reaches the backbone's features")
        slopes = layout.map(gradient.detach().float())
        weights = gradient_weights(features, slopes, method)
        evidence = torch.relu((features * weights[:, None, None]).sum(dim=0))
    wide = torch.nn.functional.interpolate(evidence[None, None], (height, width), mode="bilinear", align_corners=False)
    return Explanation.scaled(name, example["geometry"].invert_map(wide[0].cpu(), fill=0.0)[0])


def _strength(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(gradient.norm())


def label_of(task: Any, logits: Tensor, name: str | None) -> int:
    """Number of a class: that of the name, or the highest-scoring one of the first image.

    Raises:
        UsageError: No class has that name.
    """
    if name is None:
        return _highest_scoring(logits, len(task.classes))
    if name not in task.classes:
        raise UsageError(f"{name}: no class of this model{suggest(name, task.classes)}")
    return int(task.classes.index(name))


def class_score(logits: Tensor, label: int, classes: int) -> Tensor:
    """(B,) what the evidence is for, of each image.

    The class's logit, on the cells where it wins, or at the anchors that are highest-scoring.
    """
    return torch.stack([_score(each[None], label, classes) for each in logits])


def _highest_scoring(logits: Tensor, classes: int) -> int:
    rows = _by_class(logits, classes)
    return int(rows.amax(dim=0).argmax()) if logits.ndim == 3 else int(rows.mean(dim=0).argmax())


def _score(logits: Tensor, label: int, classes: int) -> Tensor:
    rows = _by_class(logits, classes)
    column = rows[:, label]
    if logits.ndim == 4:
        won = rows.argmax(dim=1) == label
        return column[won].sum() if bool(won.any()) else column.mean()
    if logits.ndim == 3:
        return column.topk(min(10, len(column))).values.sum()
    return column.sum()


def _by_class(logits: Tensor, classes: int) -> Tensor:
    """(n, K): one row per image, a cell or an anchor; a background that stands first is left out."""
    rows = logits[0].flatten(1).T if logits.ndim == 4 else logits.reshape(-1, logits.shape[-1])
    return rows[:, rows.shape[1] - classes :]
