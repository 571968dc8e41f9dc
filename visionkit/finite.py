"""Outputs of a network whose weights have grown out of bounds."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def finite(outputs: Any) -> Any:
    """The same outputs with zero for NaN and the largest number for infinity, for metrics, which fail at them.

    A training is then stopped by its loss, with the step and the images, and not by a metric's error.

    Args:
        outputs: Tensors in tuples, lists and dicts.
    """
    if isinstance(outputs, Tensor):
        return outputs.nan_to_num() if outputs.is_floating_point() else outputs
    if isinstance(outputs, dict):
        return {key: finite(value) for key, value in outputs.items()}
    if isinstance(outputs, tuple) and hasattr(outputs, "_fields"):
        return type(outputs)(*map(finite, outputs))
    if isinstance(outputs, (list, tuple)):
        return type(outputs)(map(finite, outputs))
    return outputs
