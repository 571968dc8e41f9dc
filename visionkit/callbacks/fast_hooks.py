"""What Lightning does at every step for nobody, left out: about 100 us of a training step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lightning import Callback
from lightning.pytorch.profilers import PassThroughProfiler

_STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
_NOTHING = nullcontext()


class NoProfiler(PassThroughProfiler):
    """Lightning's profiler of nothing builds a generator for each of some sixty names a step; this one does not."""

    def profile(self, action_name: str) -> AbstractContextManager[Any]:  # type: ignore[override]
        return _NOTHING


def without_empty_hooks(callbacks: Sequence[Callback]) -> list[Callback]:
    """Takes the hooks of a step away from callbacks that do nothing in them: Lightning calls what is callable."""
    for callback in callbacks:
        for name in _STEP_HOOKS:
            if getattr(type(callback), name) is getattr(Callback, name):
                setattr(callback, name, None)
    return list(callbacks)
