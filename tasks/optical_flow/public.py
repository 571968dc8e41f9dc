"""torchvision's RAFT under its public names; our network has its names of weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from visionkit.backbones.weights import download
from visionkit.errors import CheckpointError, UsageError, suggest
from visionkit.families.detection.public import read_weights
from visionkit.task import VisionTask

PUBLIC = {
    "raft_large": "C_T_SKHT_V2",
    "raft_large.c_t_v2": "C_T_V2",
    "raft_large.c_t_skht_k_v2": "C_T_SKHT_K_V2",
}
"""Name to torchvision's weights; of FlyingChairs (C), FlyingThings3D (T), Sintel and others (SKHT), KITTI (K)."""


def load_public(task: Callable[..., VisionTask], scheme: str, name: str) -> VisionTask:
    """Builds the task with the public weights of that name.

    Raises:
        UsageError: There are no public weights of that name.
        EnvironmentFault: The weights are not in the cache and cannot be brought.
    """
    if scheme != "torchvision" or name not in PUBLIC:
        known = ", ".join(f"torchvision:{each}" for each in PUBLIC)
        raise UsageError(f"{scheme}:{name}: optical flow knows {known}{suggest(name, PUBLIC)}")
    return with_weights(task, name, fetch_weights(name))


def with_weights(task: Callable[..., VisionTask], name: str, state: Mapping[str, Tensor]) -> VisionTask:
    """Builds the task with weights as torchvision stores them.

    Args:
        task: Class of the task.
        name: Name of `PUBLIC`.
        state: Its state.

    Raises:
        CheckpointError: They are the weights of something else.
    """
    built = task(architecture="raft")
    try:
        built.network.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"not the weights of torchvision:{name}: {str(error).splitlines()[1].strip()}") from error
    return built.eval()


def fetch_weights(name: str) -> dict[str, Tensor]:
    """The public weights, from the cache or else downloaded.

    Raises:
        EnvironmentFault: They are not in the cache and cannot be brought.
    """
    from torchvision.models.optical_flow import Raft_Large_Weights

    address: str = Raft_Large_Weights[PUBLIC[name]].url
    filename = Path(address).name
    path = download(
        address,
        filename,
        lambda folder: (
            f"torchvision:{name}: its public weights ({filename}) are not in the cache {folder} and cannot be "
            f"downloaded: bring {address} there"
        ),
    )
    return read_weights(path)
