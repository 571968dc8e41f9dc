"""Builds networks for weights that are read afterwards: without random numbers, and no larger than the file justifies.

A configuration is a few words, and a few words can ask for terabytes or for a million layers. The file of weights
states how much there can be, so construction stops as soon as it asks for more.
"""

from __future__ import annotations

import functools
import math
import threading
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from visionkit.errors import CheckpointError

_BYTES, _MODULES = 512 * 2**20, 4000
"""What a network may use beyond what its weights justify: layers that are cut off again, constants, containers."""


class Justified(NamedTuple):
    """What a file of weights justifies.

    Attributes:
        bytes: Size of the file.
        tensors: Number of tensors in it.
    """

    bytes: int
    tensors: int


class Budget(TorchDispatchMode):
    """While it is entered, building a network that is far larger than its weights raises an error; for this thread.

    Args:
        justified: Justified by the weights that will be loaded.

    Raises:
        CheckpointError: From within the constructor that asks for too much, before memory is taken.
    """

    def __init__(self, justified: Justified) -> None:
        super().__init__()
        # Weights may be stored in 16 bit, and a network may be built with layers that are cut off afterwards.
        self.bytes, self.modules = 4 * justified.bytes + _BYTES, 40 * justified.tensors + _MODULES
        self._thread = threading.get_ident()
        self._hook: Any = None

    def __enter__(self) -> Budget:
        self._hook = nn.modules.module.register_module_module_registration_hook(self._count)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hook.remove()
        super().__exit__(*error)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch would import its compiler, seconds long, to keep it away from here, where nothing is compiled."""
        return False

    def _count(self, module: nn.Module, name: str, child: Any) -> None:
        if threading.get_ident() == self._thread:
            self.modules -= 1
            if self.modules < 0:
                raise CheckpointError("it asks for many times more layers than its weights have")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.bytes -= self._size(func, args, kwargs or {})
        if self.bytes < 0:
            raise CheckpointError("it asks for many times more memory than its weights have")
        return func(*args, **(kwargs or {}))

    def _size(self, func: Any, args: Any, kwargs: Any) -> int:
        """Bytes that an operator will allocate: exactly where it makes a tensor, else only where sizes multiply."""
        tensors = [each for each in args if isinstance(each, Tensor)]
        if any(each.is_meta for each in tensors) or str(kwargs.get("device")) == "meta":
            return 0  # sizes are asked for, and no memory
        if len(tensors) > 1:
            if torch.Tag.pointwise not in func.tags:
                return 0  # a convolution's shapes may happen to broadcast
            try:
                shape = torch.broadcast_shapes(*(each.shape for each in tensors))
            except RuntimeError:
                return 0
            made = math.prod(shape)
            return 4 * made if made > max(each.numel() for each in tensors) else 0
        places = _places(func)
        if not places:
            return 0
        given = {name: args[place] if place < len(args) else kwargs.get(name) for name, place in places.items()}
        size = given.get("size", given.get("repeats"))
        if size is not None:
            numbers = math.prod(abs(int(side)) for side in size)
            return 4 * numbers * (tensors[0].numel() if "repeats" in given else 1)
        if "steps" in given:
            return 4 * abs(int(given["steps"]))
        if "end" in given:
            return 8 * int(abs((given["end"] - (given.get("start") or 0)) / (given.get("step") or 1)))
        return 0


@functools.cache
def _places(func: Any) -> dict[str, int]:
    """Where an operator that allocates takes its sizes: position of each argument by name."""
    schema = func._schema
    takes_tensor = any(str(each.type) == "Tensor" for each in schema.arguments)
    if takes_tensor and not schema.name.startswith(("aten::new_", "aten::repeat")):
        return {}
    wanted = ("size", "repeats", "steps", "end", "start", "step")
    return {each.name: place for place, each in enumerate(schema.arguments) if each.name in wanted}


_DRAWS = {Tensor.normal_, Tensor.uniform_}


class WithoutInit(torch.overrides.TorchFunctionMode):
    """Skips the random initialization of layers, for weights that come from a file; constants are built as usual."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if func in _DRAWS and isinstance(args[0], nn.Parameter):  # not every function of torch.nn.init comes here
            return args[0]
        return func(*args, **kwargs)

    @classmethod
    def is_active(cls) -> bool:
        """Whether one is entered in this thread: a network is built that was trained before."""
        return any(isinstance(mode, cls) for mode in torch.overrides._get_current_function_mode_stack())
