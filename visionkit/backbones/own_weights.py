"""Weights of a file of one's own: found under whatever prefix they have, and a report of which of them fit."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from visionkit.backbones.adapters import merged_state
from visionkit.errors import CheckpointError, some_of
from visionkit.hub import Repository, weights_file
from visionkit.model_files import HUB, public_name

log = logging.getLogger(__name__)

_SHIFT, _SCALE = "normalize.shift", "normalize.scale"


class Statistics(NamedTuple):
    """What the weights expect of their input: `(pixel - mean) / std` for pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def load_weights(
    model: nn.Module, path: str | os.PathLike[str], name: str, classifier: Iterable[str] = ()
) -> Statistics | None:
    """Loads a file into a network as far as names and shapes agree, and reports the rest in one line.

    The weights may be the network's own, those of a model that holds it, or of a task of visionkit; the first layer is
    adapted to other input channels and positions are resampled to another input size.

    Args:
        model: A timm model.
        path: safetensors, what `torch.load(weights_only=True)` takes, or a bundle folder.
        name: Name of the network, for messages.
        classifier: Names of weights that may be left out, since another number of classes makes them new.

    Returns:
        The normalization that a model of visionkit was trained with; None for any other file.

    Raises:
        CheckpointError: The file is missing, is no weights file, or less than half of the network's weights fit.
    """
    state = merged_state(_read(path))
    statistics = _statistics(state)
    own = model.state_dict()
    held = _under_best_prefix(own, state)
    held |= _adapted(model, own, held)
    held |= resampled(model, held)
    fitting = {key: held[key] for key in own if key in held and held[key].shape == own[key].shape}
    if 2 * len(fitting) < len(own):
        first = next(key for key in own if key not in fitting)
        kind = f"{tuple(held[first].shape)} instead of {tuple(own[first].shape)}" if first in held else "missing"
        raise CheckpointError(
            f"weights {path}: {len(fitting) or 'none'} of {len(own)} tensors of {name} are in it (first: {first} is "
            f"{kind}), so they do not fit; give weights of the same network"
        )
    broken = [key for key, value in fitting.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise CheckpointError(f"weights {path}: {some_of(broken, 3)} hold NaN or infinity")
    model.load_state_dict(fitting, strict=False)
    _report(path, name, own, held, fitting, set(classifier))
    return statistics


def _report(
    path: Any,
    name: str,
    own: Mapping[str, Any],
    held: Mapping[str, Any],
    fitting: Mapping[str, Any],
    classifier: set[str],
) -> None:
    missing = [key for key in own if key not in held]
    other = [key for key in own if key in held and key not in fitting]
    unexpected = [key for key in held if key not in own]
    parts = [f"{len(fitting)} of {len(own)} tensors of {name} match"]
    parts += [
        f"{what}: {some_of(keys, 3)}"
        for what, keys in (("missing", missing), ("of another shape", other), ("unexpected", unexpected))
        if keys
    ]
    usual = set(missing + other) <= classifier
    log.log(logging.INFO if usual else logging.WARNING, "weights %s: %s", path, "; ".join(parts))


def _read(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    public = public_name(str(path))
    if public and public[0] == HUB:
        path = weights_file(Repository.of(public[1]))
    if Path(path).is_dir():
        from visionkit.checkpoint import read_model

        return read_model(Path(path)).weights()
    from timm.models import load_state_dict

    try:
        state = load_state_dict(str(path), weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"weights {path}: no such file") from error
    except Exception as error:  # torch and safetensors raise errors of many types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"weights {path}: not a file of weights ({reason})") from error
    return {
        str(key): value
        for key, value in (state.items() if isinstance(state, Mapping) else ())
        if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized
    }


def _statistics(state: Mapping[str, Tensor]) -> Statistics | None:
    if _SHIFT not in state or _SCALE not in state:
        return None
    from visionkit.nn.normalize import Normalize

    layer = Normalize((0.0,) * state[_SCALE].numel(), (1.0,) * state[_SCALE].numel())
    try:
        layer.load_state_dict({"scale": state[_SCALE], "shift": state[_SHIFT]})
    except RuntimeError:  # not ours after all
        return None
    return Statistics(layer.mean, layer.std)


def _under_best_prefix(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a larger model that is the network, by the network's own names."""
    prefixes = {""}
    for name in list(own)[:: max(1, len(own) // 8)]:
        prefixes |= {key.removesuffix(name) for key in state if key.endswith(f".{name}")}

    def fits(prefix: str) -> int:
        return sum(f"{prefix}{name}" in state and state[f"{prefix}{name}"].shape == own[name].shape for name in own)

    best = max(sorted(prefixes, key=len), key=fits)
    return {key.removeprefix(best): value for key, value in state.items() if key.startswith(best)}


def _adapted(model: nn.Module, own: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """First layers that differ in their input channels alone, adapted as timm adapts those of public weights."""
    from timm.models import adapt_input_conv

    first = cast(Any, getattr(model, "pretrained_cfg", {})).get("first_conv") or ()
    adapted: dict[str, Tensor] = {}
    for name in (f"{each}.weight" for each in ((first,) if isinstance(first, str) else first)):
        if name not in own or name not in held or held[name].ndim != 4 or held[name].shape == own[name].shape:
            continue
        try:
            adapted[name] = adapt_input_conv(own[name].shape[1], held[name], base_chans=held[name].shape[1])
        except (NotImplementedError, AssertionError):
            continue
    return adapted


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
