"""Beginning with the weights of a model that was trained before, where they fit."""

from __future__ import annotations

import logging

from torch import Tensor

from visionkit.backbones.adapters import is_adapter, merged_state
from visionkit.backbones.own_weights import resampled
from visionkit.checkpoint import read_model
from visionkit.errors import UsageError
from visionkit.task import VisionTask

log = logging.getLogger(__name__)


def take_weights(task: VisionTask, source: str) -> list[str]:
    """Takes the weights of equal name and shape, and normalizations whole; a head for more or fewer classes is new.

    Other buffers are made by the task itself, for its own settings.

    Args:
        task: Gets them.
        source: A checkpoint, a bundle folder or a public name, of the same task.

    Returns:
        Names of the weights that found nothing to begin with.

    Raises:
        CheckpointError, EnvironmentFault: The source cannot be read.
        UsageError: It is a model of another task, or less than half of the network's weights fit.
    """
    stored = read_model(source)
    if stored.task != task.name:
        raise UsageError(f"init_from {source}: a model of {stored.task}, and this one is of {task.name}")
    weights = _at_size(task, merged_state(stored.weights()))
    wanted: dict[str, Tensor] = dict(task.named_parameters())
    for place, module in task.named_modules():
        if "running_mean" in module._buffers:  # scale and shift of a frozen one are buffers too
            wanted |= {f"{place}.{name}": value for name, value in module.named_buffers(recurse=False)}
    # What the pixels are normalized with belongs to the weights that read them.
    wanted |= {f"normalize.{name}": value for name, value in task.normalize.named_buffers()}
    fitting = {
        name: weights[name] for name, value in wanted.items() if name in weights and weights[name].shape == value.shape
    }
    network = {f"network.{name}" for name, _ in task.network.named_parameters() if not is_adapter(name)}
    if 2 * len(network & fitting.keys()) < len(network):
        raise UsageError(
            f"init_from {source}: only {len(network & fitting.keys())} of {len(network)} weights fit; give a "
            f"{task.name} model of the same network"
        )
    classes = stored.config.get("classes")
    if classes is not None and tuple(classes) != tuple(task.classes):
        log.warning("init_from %s: it was trained for other classes; a head for as many begins with theirs", source)
    task.load_state_dict(fitting, strict=False)
    task.source = source
    new = (name for name in wanted.keys() - fitting.keys() if not is_adapter(name))
    return sorted(name for name in new if not name.endswith("num_batches_tracked"))


def _at_size(task: VisionTask, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights, with the backbone's positions resampled where it was trained at another input size."""
    prefix = "network.backbone.model."
    model = getattr(getattr(task.network, "backbone", None), "model", None)
    if model is None:
        return weights
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    return {**weights, **{f"{prefix}{name}": value for name, value in resampled(model, own).items()}}
