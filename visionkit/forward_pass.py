"""One batch through the network: the engine runs it, its outputs are checked, the task decodes them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from visionkit.errors import CheckpointError
from visionkit.out_of_distribution import tap_of

if TYPE_CHECKING:
    from visionkit.engines import Engine
    from visionkit.novelty import Novelty
    from visionkit.results import Call
    from visionkit.task import VisionTask


def decoded_outputs(task: VisionTask, engine: Engine, inputs: tuple[torch.Tensor, ...], call: Call) -> Any:
    """The network's outputs on a batch, decoded; the features of the batch are kept in `call`.

    Args:
        task: Decodes the outputs.
        engine: Runs the network.
        inputs: The batch, one tensor per input of the task.
        call: Options and timings of the call.

    Raises:
        CheckpointError: The network gives NaN or infinity.
    """
    call.features = None
    with call.times.of("network"):
        outputs = task.augmented(functools.partial(_outputs, task, engine, call), **call.options)(*inputs)
    second = getattr(engine, "second", None)  # the graph of the second stage beside an exported one
    with call.times.of("decode"):
        return task.decode(outputs, **call.decoding, **({} if second is None else {"second": second}))


def _outputs(task: VisionTask, engine: Engine, call: Call, *inputs: torch.Tensor) -> Any:
    """Runs the network, and refuses outputs that are no numbers: decoded, they would look like a prediction."""
    wanted = call.keeps_features or task.statistics is not None
    tap = tap_of(task.network) if wanted and call.features is None else None
    with tap or nullcontext():
        outputs = engine(*inputs)
    if tap is not None:
        call.features = tap.take(len(inputs[0]))
    for name, values in zip(type(outputs)._fields, outputs, strict=True):
        if not isinstance(values, torch.Tensor) or not values.is_floating_point():
            continue
        # A sum is the cheapest look at all values; it can overflow where they are finite.
        if not (values.sum().isfinite() or values.isfinite().all()):
            raise CheckpointError(
                f"{task.source or task.name}: the network gives NaN or infinity as {name}: its weights "
                "are not finite or far too large; take an earlier checkpoint"
            )
    return outputs


def novelty_of(task: VisionTask, features: Sequence[torch.Tensor | None]) -> Novelty | None:
    """How far an image is from a model's own data; None where nothing is known about one of the two.

    Args:
        task: The model, which may have statistics of its features.
        features: Features of the parts of the image.
    """
    known = [each for each in features if each is not None]
    if task.statistics is None or not known:
        return None
    found = task.statistics.novelty(torch.stack(known).mean(dim=0)[None].cpu().numpy())
    return found[0] if found else None
