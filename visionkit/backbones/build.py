"""Building a timm model from a name and its public weights, with refusals stated in one line."""

from __future__ import annotations

import copy
import functools
import itertools
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import nn

from visionkit.backbones.facts import pretrained_cfg
from visionkit.backbones.hub_names import architecture_of
from visionkit.backbones.sources import WeightSource
from visionkit.errors import CheckpointError, UsageError


def lost_with_classifier(model: nn.Module) -> set[str]:
    """Names of the parameters that `reset_classifier(0)` takes out of a timm model; the model is left as it is."""
    # A copy of the modules alone: every tensor stands for itself in the copy.
    memo = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
    shell = copy.deepcopy(model, cast(Any, memo))
    cast(Any, shell).reset_classifier(0)
    return {name for name, _ in model.named_parameters()} - {name for name, _ in shell.named_parameters()}


def declared_maps(model: nn.Module) -> list[tuple[int, int]]:
    """Channels and stride of every map that the model declares, shallow to deep."""
    info = cast(Any, model).feature_info
    return [(int(entry["num_chs"]), int(entry["reduction"])) for entry in getattr(info, "info", info)]


@functools.lru_cache(maxsize=64)
def declared_strides(name: str, output_stride: int | None = None) -> tuple[int, ...]:
    """Stride of every map that a backbone declares, shallow to deep; no weights are made.

    Args:
        name: Name, as in `Backbone`.
        output_stride: Output stride, as in `Backbone`.

    Raises:
        UsageError: The name is unknown, or the network refuses the output stride.
    """
    pretrained_cfg(name)  # an unknown name is reported with the nearest
    name = architecture_of(name)
    arguments = {} if output_stride is None else {"output_stride": output_stride}
    with torch.device("meta"):
        return tuple(stride for _, stride in declared_maps(build_model(name, arguments, None)))


def build_model(name: str, arguments: dict[str, Any], weights: Path | WeightSource | None) -> Any:
    """`timm.create_model` with weights, its refusals turned into usage errors."""
    overlay: dict[str, Any] | None = None
    if isinstance(weights, WeightSource):
        overlay = weights.overlay()
    elif weights is not None:
        overlay = {"file": str(weights), "custom_load": pretrained_cfg(name).custom_load}
    try:
        model = timm.create_model(name, pretrained=weights is not None, pretrained_cfg_overlay=overlay, **arguments)
        cast(Any, model).pretrained_cfg.pop("state_dict", None)  # the weights are the model's own now
        return model
    except Exception as error:  # timm refuses with errors of every type
        if weights is not None and _buildable(name, arguments):
            first = (str(error) or type(error).__name__).splitlines()[0]
            remedy = "" if isinstance(weights, WeightSource) else "; remove the file to have it downloaded again"
            raise CheckpointError(f"{weights}: cannot be loaded into {name} ({first}){remedy}") from error
        if "output_stride" in arguments:
            bare = {key: value for key, value in arguments.items() if key != "output_stride"}
            if _buildable(name, bare):
                raise UsageError(
                    f"backbone {name!r}: refuses output_stride {arguments['output_stride']}{possible_strides(name)}"
                ) from error
        if "img_size" in arguments:
            bare = {key: value for key, value in arguments.items() if key != "img_size"}
            if _buildable(name, bare):
                height, width = arguments["img_size"]
                raise UsageError(
                    f"backbone {name!r}: cannot be built for image_size {height}x{width} "
                    f"({str(error) or 'it does not divide'})"
                ) from error
        for key in ("drop_path_rate", "in_chans"):
            if key in arguments and not _buildable(name, arguments) and _buildable(name, {**arguments, key: None}):
                raise UsageError(f"backbone {name!r}: does not take {key} {arguments[key]}") from error
        raise


def _buildable(name: str, arguments: dict[str, Any]) -> bool:
    try:
        with torch.device("meta"):
            timm.create_model(name, **arguments)
    except Exception:
        return False
    return True


def possible_strides(name: str) -> str:
    """What `output_stride` the model obeys, as the end of a message."""
    possible = []
    for stride in (8, 16, 32):
        try:
            with torch.device("meta"):
                declared = declared_maps(timm.create_model(name, output_stride=stride))
        except Exception:
            continue
        if max(found for _, found in declared) == stride:
            possible.append(str(stride))
    if not possible:
        return "; it takes none, leave output_stride out"
    return f"; it takes {', '.join(possible)}"
