"""The flip test: the mean of the outputs on an image and on its horizontal flip, whose outputs are flipped back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from tasks.pose.network import flipped_limbs
from visionkit.errors import UsageError


def check_flip_test(task: Any) -> None:
    """Refuses a pose task whose outputs on a flipped image could not be flipped back.

    Raises:
        UsageError: The line states why.
    """
    if not task.architecture.flips:
        raise UsageError(f"model.flip_tta: {task.chosen} finds other boxes in a flipped image; leave it out")
    skeleton, width, cell = task.skeleton, task.input.size[1], task.architecture.cell
    if getattr(task.network, "limbs", None) and flipped_limbs(skeleton.limbs, skeleton.flip_indices) is None:
        raise UsageError(
            f"skeleton {skeleton.name}: flip_tta needs edges that are flipped counterparts, as its flip_pairs "
            "state; add the missing ones or leave flip_tta out"
        )
    if cell and (width % cell or task.input.resize_mode == "native"):
        raise UsageError(f"model.flip_tta: needs an input width that is a multiple of {cell:g}, not {width}")


def flip_averaged(run: Callable[[Tensor], Any], flipped: Callable[[Any], Any]) -> Callable[[Tensor], Any]:
    """Runs a network on an image and on its flip.

    Args:
        run: (B, C, H, W) to a NamedTuple of outputs.
        flipped: Outputs on a flipped image to those on the image itself.
    """

    def wrapped(image: Tensor) -> Any:
        outputs = run(image)
        other = flipped(run(image.flip(-1)))
        return type(outputs)(*((a + b) / 2 for a, b in zip(outputs, other, strict=True)))

    return wrapped
