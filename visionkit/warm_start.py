"""Beginning with the weights of a model that was trained before, where they fit."""

from __future__ import annotations

from torch import Tensor

from visionkit.checkpoint import read_model
from visionkit.errors import UsageError
from visionkit.task import VisionTask

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def take_weights(task: VisionTask, source: str) -> list[str]:
    """Takes the weights and statistics of equal name and shape; what does not fit, as a head for other classes, is new.

    Buffers other than statistics are made by the task itself, for its own settings.

    Args:
        task: Gets them.
        source: A checkpoint, a bundle folder or a public name, of the same task.

    Returns:
        Names of the parameters that found nothing to begin with.

    Raises:
        CheckpointError, EnvironmentFault: The source cannot be read.
        UsageError: It is a model of another task, or less than half of the network's weights fit.
    """
    stored = read_model(source)
    if stored.task != task.name:
        raise UsageError(f"start_from {source}: a model of {stored.task}, and this one is of {task.name}")
    weights = stored.weights()
    own = dict(task.named_parameters())
    wanted: dict[str, Tensor] = own | {name: b for name, b in task.named_buffers() if name.endswith(_STATISTICS)}
    fitting = {
        name: weights[name] for name, value in wanted.items() if name in weights and weights[name].shape == value.shape
    }
    network = {f"network.{name}" for name, _ in task.network.named_parameters()}
    if 2 * len(network & fitting.keys()) < len(network):
        raise UsageError(
            f"start_from {source}: only {len(network & fitting.keys())} of {len(network)} weights fit; give a "
            f"{task.name} model of the same network"
        )
    task.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())
