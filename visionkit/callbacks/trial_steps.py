"""Steps that are tried before a training begins and leave no trace in it.

To measure the pace, a learning rate or the memory of a batch, the task is run as it will be trained, and put back
afterwards: weights, statistics, running sums and all random states are what they were, bit for bit.
"""

from __future__ import annotations

import copy
import itertools
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.utilities.seed import _collect_rng_states, _set_rng_states
from torch import Tensor, nn

from visionkit.term_log import TermLog

_PLAIN = (bool, int, float, str, type(None))
_CONTAINERS = (list, dict, set, deque)
_TENSORS = ("_parameters", "_buffers")


@contextmanager
def without_trace(trainer: Trainer) -> Iterator[None]:
    """What is done to the task within it is undone at its end; its optimizers are made again if they have stepped."""
    module = trainer.lightning_module
    random = _collect_rng_states()
    scaler = copy.deepcopy(trainer.precision_plugin.state_dict())
    modes = {each: each.training for each in module.modules()}
    before = [(each, _state(each)) for each in module.modules()]
    try:
        yield
    finally:
        for each, state in before:
            _put_back(each, state)
        for each, mode in modes.items():
            each.training = mode
        for parameter in module.parameters():
            parameter.grad = None
        if scaler:
            trainer.precision_plugin.load_state_dict(scaler)
        if any(optimizer.state for optimizer in trainer.optimizers):
            trainer.strategy.setup_optimizers(trainer)
        _set_rng_states(random)


def _state(module: nn.Module) -> dict[str, Any]:
    """Copies of the tensors of one module, in the memory of the CPU, and of its plain attributes."""
    tensors = {kind: {k: (v, _copied(v)) for k, v in vars(module)[kind].items()} for kind in _TENSORS}
    kept: dict[str, Any] = {}
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            kept[name] = value, _copied(value)
        elif isinstance(value, TermLog):
            kept[name] = value, copy.deepcopy(vars(value))
        elif isinstance(value, _PLAIN) or (type(value) in _CONTAINERS and name not in (*_TENSORS, "_modules")):
            kept[name] = value, copy.copy(value)
    return {**tensors, "": kept}


def _copied(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.detach().cpu().clone()


def _put_back(module: nn.Module, state: dict[str, Any]) -> None:
    for kind in _TENSORS:
        held = vars(module)[kind]
        for name, (value, content) in state[kind].items():
            held[name] = _filled(value, content)
    for name, (value, content) in state[""].items():
        if isinstance(value, Tensor):
            vars(module)[name] = _filled(value, content)
        elif isinstance(value, TermLog):
            vars(value).update(content)
        elif isinstance(value, dict | set):
            value.clear()
            value.update(content)
        elif isinstance(value, list | deque):
            value.clear()
            value.extend(content)
        if not isinstance(value, Tensor):
            vars(module)[name] = value


@torch.no_grad()
def _filled(value: Tensor | None, content: Tensor | None) -> Tensor | None:
    """The tensor itself, which optimizers and wrappers point at, with what it held."""
    if value is not None and content is not None:
        value.detach().copy_(content)
    return value


def to_device(trainer: Trainer, batch: Any) -> Any:
    """A batch as a step gets it."""
    batch = trainer.precision_plugin.convert_input(batch)
    batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
    return trainer.strategy.batch_to_device(batch, dataloader_idx=0)


def endless(trainer: Trainer, loader: Any) -> Iterator[Any]:
    """Batches of a loader on the device, epoch after epoch, as training shuffles and augments them."""
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            yield to_device(trainer, batch)


def backward(trainer: Trainer, batch: Any) -> Tensor:
    """The loss of a training step, after its backward pass; every process has to take it."""
    trainer.lightning_module.zero_grad()
    loss: Any = trainer.strategy.training_step(batch, 0)
    trainer.strategy.backward(loss, None)
    found: Tensor = loss.detach()  # without the factor of a gradient scaler
    return found


def synchronize(trainer: Trainer) -> None:
    """Waits for the device."""
    if trainer.strategy.root_device.type != "cpu":
        torch.accelerator.synchronize(trainer.strategy.root_device)
