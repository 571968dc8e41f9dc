"""Failures of a model that came from a file, in one line with its name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import torch

from visionkit.errors import CheckpointError, EnvironmentFault, VisionKitError

if TYPE_CHECKING:
    from visionkit.predictor import Predictor

P = ParamSpec("P")
R = TypeVar("R")


def names_the_model(method: Callable[Concatenate[Predictor, P], R]) -> Callable[Concatenate[Predictor, P], R]:
    """Reports in one line, with the name of the model, what a model from a file cannot do.

    A file can describe a network that is built and yet fails on every image. Of a task that was never in a file, the
    same failure is a defect of the program and stays what it is.
    """

    @functools.wraps(method)
    def wrapped(self: Predictor, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except VisionKitError:
            raise
        except Exception as error:
            if not self.task.source:
                raise
            lines = str(error).strip().splitlines()
            cause = lines[0][:200] if lines else type(error).__name__
            if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in cause:
                raise EnvironmentFault(f"{self.task.source}: not enough memory for this image ({cause})") from error
            raise CheckpointError(
                f"{self.task.source}: the model fails on an image ({cause}): its file was changed or is of another "
                "version, or visionkit is at fault; --debug states where"
            ) from error

    return wrapped
