"""The layers of a network, in the order in which a forward pass runs them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.hooks import RemovableHandle

from visionkit.inspection.counting import MultiplyAdds
from visionkit.inspection.field_trace import field_of, set_field
from visionkit.inspection.receptive_field import ReceptiveField

NOT_RUN = "not run"
"""Kind of what has parameters and does not take part in the pass."""

PASSIVE = ("normalization", "activation")
"""Kinds that the tables for people leave out."""

_SKIPPED = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


@dataclass(frozen=True)
class Layer:
    """One layer; a module that runs several times is one, with the sums of all its runs.

    Attributes:
        name: Name of the module in the network, as `named_modules` has it; `(network)` for the network itself.
        kind: What it does: "pointwise convolution", "max pooling", ... or the name of its class.
        kernel: Kernel size along each side; empty where it has none.
        stride: Stride along each side.
        padding: Padding along each side, or "same" or "valid".
        dilation: Dilation along each side.
        groups: Groups of channels; 0 where it has none.
        output: Shape of its output without the batch; empty where it is no tensor.
        parameters: Its own parameters, without those of layers inside; shared ones count where they first run.
        multiply_adds: Multiply-adds of its own, for one image.
        activation_bytes: Bytes of its output for one image; 0 where it works in place or gives a view.
        field: What a unit of its output depends on; None where that is not known.
    """

    name: str
    kind: str
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] | str = ()
    dilation: tuple[int, ...] = ()
    groups: int = 0
    output: tuple[int, ...] = ()
    parameters: int = 0
    multiply_adds: int = 0
    activation_bytes: int = 0
    field: ReceptiveField | None = None


class LayerTrace:
    """Hooks on every module of a network that note its layers while a forward pass runs.

    Args:
        network: The network.
        counter: Is entered around the pass.

    Attributes:
        layers: Layers by name, in the order in which they finish.
    """

    def __init__(self, network: nn.Module, counter: MultiplyAdds) -> None:
        self.layers: dict[str, Layer] = {}
        self._network, self._counter = network, counter
        self._names = {module: name or "(network)" for name, module in network.named_modules()}
        self._running: list[list[int]] = []  # count at the beginning, and that of the layers inside
        self._storages: set[StorageWeakRef] = set()
        self._parameters: set[int] = set()
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> LayerTrace:
        for module in self._names:
            self._handles.append(module.register_forward_pre_hook(self._begun))
            self._handles.append(module.register_forward_hook(self._finished))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    def not_run(self) -> Iterator[Layer]:
        """What has parameters that no layer of the pass has."""
        for module, name in self._names.items():
            if count := self._own(module):
                yield Layer(name, NOT_RUN, parameters=count)

    def take(self, inputs: tuple[Tensor, ...]) -> int:
        """Bytes of the inputs; they are part of what is kept for a backward pass."""
        return sum(self._bytes(each) for each in inputs)

    def _begun(self, module: nn.Module, args: Any) -> None:
        self._running.append([self._counter.total, 0])

    def _finished(self, module: nn.Module, args: Any, out: Any) -> None:
        begin, inside = self._running.pop()
        everything = self._counter.total - begin
        if self._running:
            self._running[-1][1] += everything
        tensor = next(_tensors(out), None)
        leaf = next(module.children(), None) is None
        if leaf and tensor is not None:
            _keep_field(args, tensor)
        parameters, own = self._own(module), everything - inside
        seen = self._names[module] in self.layers
        if isinstance(module, _SKIPPED) or not (leaf or parameters or own or seen):
            return
        layer = replace(
            described(module),
            name=self._names[module],
            output=tuple(tensor.shape[1:]) if tensor is not None else (),
            parameters=parameters,
            multiply_adds=own,
            activation_bytes=sum(map(self._bytes, _tensors(out))),
            field=field_of(tensor),
        )
        if (before := self.layers.get(layer.name)) is not None:
            sums = ("parameters", "multiply_adds", "activation_bytes")
            layer = replace(layer, **{name: getattr(layer, name) + getattr(before, name) for name in sums})
        self.layers[layer.name] = layer

    def _own(self, module: nn.Module) -> int:
        """Parameters of the module itself that have not been counted yet."""
        found = [each for each in module.parameters(recurse=False) if id(each) not in self._parameters]
        self._parameters.update(map(id, found))
        return sum(each.numel() for each in found)

    def _bytes(self, tensor: Tensor) -> int:
        storage = StorageWeakRef(tensor.untyped_storage())
        if storage in self._storages:
            return 0
        self._storages.add(storage)
        return tensor.numel() * tensor.element_size()


def _tensors(out: Any) -> Iterator[Tensor]:
    if isinstance(out, Tensor):
        yield out
    elif isinstance(out, dict):
        yield from (found for value in out.values() for found in _tensors(value))
    elif isinstance(out, tuple | list):
        yield from (found for value in out for found in _tensors(value))


def _keep_field(args: Any, out: Tensor) -> None:
    """A layer whose functions cannot be traced (compiled ones) counts as one that mixes all positions."""
    if field_of(out) is None and (given := next((f for f in map(field_of, _tensors(args)) if f), None)) is not None:
        set_field(out, given.vector())


def described(module: nn.Module) -> Layer:
    """Kind and arguments of a module, as far as they are known by its class."""
    name = type(module).__name__
    if isinstance(module, nn.modules.conv._ConvNd):
        kernel = tuple(map(int, module.kernel_size))
        padding = module.padding if isinstance(module.padding, str) else tuple(map(int, module.padding))
        stride, dilation = tuple(map(int, module.stride)), tuple(map(int, module.dilation))
        return Layer("", _convolution(module, kernel), kernel, stride, padding, dilation, module.groups)
    if isinstance(module, nn.Linear):
        return Layer("", "linear")
    if ("Adaptive" in name and "Pool" in name) or "GlobalPool" in name or name == "SelectAdaptivePool2d":
        return Layer("", "adaptive pooling")
    if hasattr(module, "kernel_size") and "Pool" in name:
        kernel = _sides(module.kernel_size)
        stride, padding = _sides(module.stride or kernel), _sides(getattr(module, "padding", 0))
        kind = "max pooling" if "Max" in name else "average pooling" if "Avg" in name else "pooling"
        return Layer("", kind, kernel, stride, padding, _sides(getattr(module, "dilation", 1)))
    if "Norm" in name:
        return Layer("", "normalization")
    if isinstance(module, nn.Embedding):
        return Layer("", "embedding")
    if isinstance(module, nn.Upsample | nn.PixelShuffle | nn.PixelUnshuffle):
        return Layer("", "resizing")
    if type(module).__module__.endswith(("modules.activation", "layers.activations", "layers.activations_me")):
        return Layer("", name if isinstance(module, nn.MultiheadAttention) else "activation")
    return Layer("", name)


def _convolution(module: nn.modules.conv._ConvNd, kernel: tuple[int, ...]) -> str:
    if module.transposed:
        return "transposed convolution"
    if 1 < module.groups == module.in_channels:
        return "depthwise convolution"
    if module.groups > 1:
        return "grouped convolution"
    return "pointwise convolution" if set(kernel) == {1} else "convolution"


def _sides(value: Any) -> tuple[int, ...]:
    return tuple(map(int, value)) if isinstance(value, tuple | list) else (int(value),) * 2
