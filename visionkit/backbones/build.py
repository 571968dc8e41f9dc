"""Building a timm model from a name and a file, with refusals stated in one line."""

from __future__ import annotations

import copy
import functools
import itertools
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from visionkit.backbones.facts import pretrained_cfg
from visionkit.backbones.sources import WeightSource
from visionkit.errors import CheckpointError, UsageError

log = logging.getLogger(__name__)


def lost_with_classifier(model: nn.Module) -> set[str]:
    """Names of the parameters that `reset_classifier(0)` takes out of a timm model; the model is left as it is."""
    # A copy of the modules alone: every tensor stands for itself in the copy.
    memo = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
    shell = copy.deepcopy(model, cast(Any, memo))
    cast(Any, shell).reset_classifier(0)
    return {name for name, _ in model.named_parameters()} - {name for name, _ in shell.named_parameters()}


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Loads a local file into a bare network; a classifier of another size is left out.

    Args:
        model: A timm model.
        path: safetensors, or what `torch.load(weights_only=True)` takes; a task's checkpoint gives its backbone.

    Raises:
        CheckpointError: The file is missing, is no weights file, or its weights are another network's.
    """
    from timm.models import load_state_dict

    try:
        state = load_state_dict(str(path), weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint_path {path}: no such file") from error
    except Exception as error:  # torch and safetensors raise errors of many types
        raise CheckpointError(
            f"checkpoint_path {path}: not a file of weights ({str(error).splitlines()[0]})"
        ) from error
    for prefix in ("network.backbone.model.", "backbone.model.", "model."):
        inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if inner:
            state = inner
            break
    state = {**state, **resampled(model, state)}
    own = model.state_dict()
    classifier = lost_with_classifier(model)
    wrong = [key for key in own if key not in classifier and (key not in state or state[key].shape != own[key].shape)]
    if wrong:
        kind = "shape" if wrong[0] in state else "absence"
        raise CheckpointError(
            f"checkpoint_path {path}: {len(wrong)} of {len(own)} weights of {type(model).__name__} do not fit it "
            f"(first: {kind} of {wrong[0]!r})"
        )
    fitting = {key: state[key] for key in own if key in state and state[key].shape == own[key].shape}
    model.load_state_dict(fitting, strict=False)


def resampled(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights whose shape follows the input size, made to fit another size: positions of tokens, biases of windows.

    Args:
        model: A timm model, built for its size.
        state: Weights of the same network at any size, by the model's own names.

    Returns:
        Those that did not fit and do now, resampled as timm does for public weights.
    """
    own = model.state_dict()
    other = {name for name, value in own.items() if name in state and state[name].shape != value.shape}
    convert = getattr(sys.modules.get(type(model).__module__), "checkpoint_filter_fn", None)
    if not other or convert is None:
        return {}
    try:
        converted = convert({name: value.clone() for name, value in state.items()}, model)
    except Exception as error:  # made for files of many authors, and may fail at what it does not know
        log.warning("weights for another input size cannot be resampled: %s", error)
        return {}
    return {name: converted[name] for name in other if name in converted and converted[name].shape == own[name].shape}


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
