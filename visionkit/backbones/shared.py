"""One backbone for several heads: built for all that they need, and seen by each as its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from visionkit.backbones.backbone import Backbone, Features, Tap
from visionkit.errors import UsageError


class BackboneView:
    """What one head sees of a shared backbone: the strides that it asked for, as if the backbone were built for it.

    It is no module: the backbone's weights belong to the network that holds the backbone, once.

    Args:
        backbone: The shared one.
        asked: The backbone that the head would have alone; not kept.
    """

    def __init__(self, backbone: Backbone, asked: Backbone) -> None:
        self.shared = backbone
        self.name, self.strides, self.use_final, self.taps = asked.name, asked.strides, asked.use_final, asked.taps
        self.channels = {stride: backbone.channels[stride] for stride in asked.strides}

    @property
    def num_features(self) -> int:
        """Width of what `pool` gives."""
        return self.shared.num_features

    def pool(self, final: Any) -> Tensor:
        """The vector before the classifier, see `Backbone.pool`."""
        return self.shared.pool(final)

    def select(self, features: Features) -> Features:
        """The head's part of what one pass gave."""
        pyramid = {stride: features.pyramid[stride] for stride in self.strides}
        return Features(features.final if self.use_final or self.taps else None, pyramid)

    def __call__(self, image: Tensor) -> Features:
        """A pass of its own, for who runs this head alone."""
        return self.select(self.shared(image))


def share(asked: Mapping[str, Backbone], *, image_size: tuple[int, int] | None, **arguments: Any) -> Backbone:
    """Builds the backbone that gives each head what its own would.

    Args:
        asked: The backbone that each head would have alone, by the head's name; all of one network.
        image_size: See `Backbone`.
        **arguments: Others of `Backbone`: `pretrained`, `in_chans`, `drop_path_rate`.

    Raises:
        UsageError: Two heads need it built in ways that exclude each other; names them and the reason.
    """
    first = next(iter(asked.values()))
    _one_value(asked, "output_stride", {name: each.output_stride for name, each in asked.items()})
    _one_value(asked, "taps", {name: each.taps for name, each in asked.items()})
    kept = [name for name, each in asked.items() if each.keeps_head]
    if len(kept) > 1:
        raise UsageError(
            f"model.heads {kept[0]} and {kept[1]}: backbone {first.name!r} keeps its classifier inside, so it can "
            "serve one classification alone; choose another backbone"
        )
    taken = kept or [name for name, each in asked.items() if each.classifier_taken]
    if first.taps:
        body = Backbone(first.name, taps=len(first.taps), use_final=False, image_size=image_size, **arguments)
    else:
        body = Backbone(
            first.name,
            strides=tuple(sorted({stride for each in asked.values() for stride in each.strides})),
            use_final=any(each.use_final for each in asked.values()),
            output_stride=first.output_stride,
            image_size=image_size,
            num_classes=asked[taken[0]].num_classes if taken else 0,
            **arguments,
        )
    if taken:
        body.take_classifier()  # each head brings its own
    return body


def _one_value(asked: Mapping[str, Backbone], what: str, values: Mapping[str, Any]) -> None:
    names = list(asked)
    for name in names[1:]:
        if values[name] != values[names[0]]:
            raise UsageError(
                f"model.heads {names[0]} and {name}: they need the backbone with different {what.replace('_', ' ')} "
                f"({values[names[0]] or 'none'} and {values[name] or 'none'}); choose decoders that agree"
            )


def take_rows(features: Features, rows: Tensor) -> Features:
    """The features of some images of a batch.

    Args:
        features: Features of the batch.
        rows: (n,) int64.
    """
    return Features(_rows(features.final, rows), {stride: map_[rows] for stride, map_ in features.pyramid.items()})


def tensors(features: Features) -> list[Tensor]:
    """All tensors of one pass."""
    out = list(features.pyramid.values())
    if isinstance(features.final, Tensor):
        out.append(features.final)
    elif isinstance(features.final, (tuple, list)):
        for each in features.final:
            out += [value for value in (each if isinstance(each, Tap) else (each,)) if isinstance(value, Tensor)]
    return out


def _rows(value: Any, rows: Tensor) -> Any:
    if isinstance(value, torch.Tensor):
        return value[rows]
    if isinstance(value, Tap):
        return Tap(*(_rows(each, rows) for each in value))
    if isinstance(value, (tuple, list)):
        return type(value)(_rows(each, rows) for each in value)
    return value
