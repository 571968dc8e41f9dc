"""Why a class was predicted: Grad-CAM, the parts of the image whose features speak for it.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization" (ICCV 2017,
arXiv:1610.02391), read at the backbone's last map, and for plain transformers at the tokens before the last attention
(behind it, only the class token is processed, and every other gradient is zero).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from visionkit.backbones import Backbone, Features
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


def can_explain(task: Any) -> bool:
    """Whether a task has a backbone and classes with one score each."""
    body = getattr(task.network, "backbone", None)
    return isinstance(body, Backbone) and bool(task.classes) and "logits" in getattr(task.outputs, "_fields", ())


def explain(predictor: Predictor, image: ImageLike, name: str | None = None) -> Explanation:
    """The evidence for a class in an image.

    Args:
        predictor: Predictor of a task with classes, run by torch.
        image: Image, as a predictor takes it.
        name: The class; the highest-scoring one by default.

    Returns:
        A map of the file's size.

    Raises:
        UsageError: The task has no classes, or none of that name, or its backbone has no map.
        DataError: The image cannot be read.

    Example:
        >>> found = explain(load("model.ckpt"), "photo.jpg")
        >>> found.name, found.values.shape
        ('tulip', (480, 640))
    """
    task = predictor.task
    if not can_explain(task):
        raise UsageError(f"{task.name}: only predictions of classes from a backbone's features can be explained")
    if name is not None and name not in task.classes:
        raise UsageError(f"{name}: no class of this model{suggest(name, task.classes)}")
    example = predictor.prepare(image)
    inputs = [each.to(next(task.parameters()).device) for each in batch_of_one(example)]
    with torch.inference_mode(False), torch.enable_grad(), _Tap(task.network) as tap:
        # What was made in inference mode could not be differentiated.
        logits = task(*(each.clone() for each in inputs)).logits.float()
        label = _highest_scoring(logits, len(task.classes)) if name is None else task.classes.index(name)
        score = _score(logits, label, len(task.classes))
        assert tap.leaf is not None
        (gradient,) = torch.autograd.grad(score, tap.leaf)
    height, width = inputs[0].shape[-2:]
    layout = _Layout.of(tap.leaf, tap.backbone, (height, width))
    features, slopes = (layout.map(each.detach().float()) for each in (tap.leaf, gradient))
    evidence = torch.relu((features * slopes.mean(dim=(1, 2), keepdim=True)).sum(dim=0))
    wide = torch.nn.functional.interpolate(evidence[None, None], (height, width), mode="bilinear", align_corners=False)
    values = example["geometry"].invert_map(wide[0].cpu(), fill=0.0)[0]
    peak = float(values.max())
    shown = (values / peak if peak > 0 else torch.zeros_like(values)).clamp(0, 1).numpy()
    return Explanation(task.classes[label], np.ascontiguousarray(shown, dtype=np.float32))


def _highest_scoring(logits: Tensor, classes: int) -> int:
    rows = _by_class(logits, classes)
    return int(rows.amax(dim=0).argmax()) if logits.ndim == 3 else int(rows.mean(dim=0).argmax())


def _score(logits: Tensor, label: int, classes: int) -> Tensor:
    """What the gradient is of.

    The class's logit, on the cells where it wins, or at the anchors that are highest-scoring.
    """
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


class _Tap:
    """While open, makes the last features of a network a leaf of the graph, so that only what follows is recorded."""

    def __init__(self, network: nn.Module) -> None:
        self.backbone: Backbone = network.backbone  # type: ignore[assignment]
        self.leaf: Tensor | None = None
        self._handle: Any = None

    def __enter__(self) -> _Tap:
        blocks = getattr(self.backbone.model, "blocks", None)
        tokens = getattr(self.backbone.model, "num_prefix_tokens", 0)
        plain = tokens and isinstance(blocks, nn.Sequential | nn.ModuleList) and not self.backbone.strides
        last = blocks[-1] if plain and blocks is not None else None
        norm = getattr(last, "norm1", None)
        if isinstance(norm, nn.Module) and not isinstance(norm, nn.Identity):
            self._handle = norm.register_forward_hook(lambda module, given, out: self._taken(out))
        else:
            self._handle = self.backbone.register_forward_hook(lambda module, given, out: self._of(out))
        return self

    def __exit__(self, *error: object) -> None:
        self._handle.remove()

    def _of(self, features: Features) -> Features:
        if features.pyramid:
            deepest = max(features.pyramid)
            pyramid = dict(features.pyramid)
            pyramid[deepest] = self._taken(pyramid[deepest])
            return features._replace(pyramid=pyramid)
        if not isinstance(features.final, Tensor):
            raise UsageError(f"backbone {self.backbone.name!r}: it ends in several branches and has no one map to show")
        return features._replace(final=self._taken(features.final))

    def _taken(self, out: Tensor) -> Tensor:
        self.leaf = out.detach().clone().requires_grad_()
        return self.leaf.clone()  # what follows may work in place


@dataclass(frozen=True)
class _Layout:
    """How features lie in memory."""

    prefix: int
    grid: tuple[int, int] | None
    last: bool

    @classmethod
    def of(cls, features: Tensor, backbone: Backbone, size: tuple[int, int]) -> _Layout:
        model: Any = backbone.model
        if features.ndim == 4:
            width = int(getattr(model, "num_features", features.shape[1]))
            return cls(0, None, last=features.shape[1] != width and features.shape[-1] == width)
        if features.ndim == 3:
            prefix = int(getattr(model, "num_prefix_tokens", 0))
            count = features.shape[1] - prefix
            rows = max(1, round((count * size[0] / size[1]) ** 0.5))
            while count % rows:  # the whole number of rows nearest to the image's shape
                rows -= 1
            return cls(prefix, (rows, count // rows), last=True)
        raise UsageError(f"backbone {backbone.name!r}: its last features are no map, so there is nothing to show")

    def map(self, features: Tensor) -> Tensor:
        """(C, h, w) of the one image."""
        if self.grid is not None:
            return features[0, self.prefix :].reshape(*self.grid, -1).permute(2, 0, 1)
        return features[0].permute(2, 0, 1) if self.last else features[0]
