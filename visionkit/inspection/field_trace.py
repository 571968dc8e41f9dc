"""Receptive fields of every tensor of a forward pass: the rules of torch's functions, applied as they are called.

A function without a rule counts as one that mixes all positions, so a field is never stated smaller than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from visionkit.inspection.receptive_field import ReceptiveField, Window, merged
from visionkit.inspection.tensor_axes import indexed, permuted, reshaped

_FIELD = "_receptive_field"

# Functions whose output at a position is made of the inputs at that position.
_POINTWISE = frozenset({
    "abs", "absolute", "add", "addcdiv", "addcmul", "and", "batch_norm", "bitwise_and", "ceil", "celu", "clamp",
    "clamp_max", "clamp_min", "clip", "clone", "contiguous", "copy", "copysign", "cos", "detach", "div", "divide",
    "dropout", "dropout2d", "elu", "eq", "erf", "exp", "expm1", "feature_dropout", "float", "float_power", "floor",
    "ge", "gelu", "gt", "half", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "iadd", "idiv", "imul",
    "invert", "ipow", "isub", "itruediv", "le", "leaky_relu", "lerp", "local_response_norm", "log", "log1p",
    "log_sigmoid", "logical_and", "logical_not", "logical_or", "logit", "logsigmoid", "lt", "masked_fill", "maximum",
    "minimum", "mish", "mul", "multiply", "nan_to_num", "ne", "neg", "negative", "pow", "prelu", "quick_gelu",
    "radd", "rdiv", "reciprocal", "relu", "relu6", "requires_grad", "rmul", "rpow", "rrelu", "rsqrt", "rsub",
    "rtruediv", "selu", "sigmoid", "sign", "silu", "sin", "softplus", "softshrink", "softsign", "sqrt", "square",
    "sub", "subtract", "tanh", "tanhshrink", "threshold", "to", "true_divide", "truediv", "type", "type_as", "where",
})  # fmt: skip
_OVER_AXES = frozenset(
    {"sum", "mean", "amax", "amin", "max", "min", "var", "std", "norm", "logsumexp", "prod", "var_mean"}
)
_RESHAPING = ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "expand_as", "view_as")
_NORMALIZING = frozenset({"softmax", "log_softmax", "normalize", "cumsum", "glu", "softmin"})


def field_of(value: Any) -> ReceptiveField | None:
    """The receptive field of a tensor that was made while a `FieldTrace` was entered."""
    return getattr(value, _FIELD, None) if isinstance(value, Tensor) else None


def set_field(tensor: Tensor, field: ReceptiveField) -> None:
    """States the receptive field of a tensor."""
    setattr(tensor, _FIELD, field)


def begin(image: Tensor) -> None:
    """States of an input (..., h, w) that its last two sides are those of the image."""
    sides = (image.ndim - 2, image.ndim - 1)
    set_field(image, ReceptiveField((Window(), Window()), axes=sides))


@dataclass(frozen=True)
class Call:
    """A function that was called.

    Attributes:
        name: Its name, without underscores.
        args: Positional arguments.
        kwargs: Arguments by keyword.
        tracked: The arguments with a field.
        out: What it returned, or the first tensor of it.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tracked: list[Tensor]
    out: Tensor

    @property
    def field(self) -> ReceptiveField:
        """Field of the first argument that has one."""
        found = field_of(self.tracked[0])
        assert found is not None
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first argument that has a field."""
        return tuple(self.tracked[0].shape)

    def given(self, position: int, *names: str, default: Any = None) -> Any:
        """An argument by its position or one of its names."""
        for name in names:
            if name in self.kwargs:
                return self.kwargs[name]
        return self.args[position] if len(self.args) > position else default

    def axes(self, position: int = 1) -> set[int]:
        """The axes that a reduction names, as numbers from 0; all of them where it names none."""
        given = self.given(position, "dim", "axis", default=None)
        if given is None:
            return set(range(len(self.shape)))
        return {int(each) % len(self.shape) for each in (given if isinstance(given, Sequence) else (given,))}


class FieldTrace(TorchFunctionMode):
    """While it is entered, tensors that are made of tensors with a receptive field get theirs."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tracked = [each for each in _tensors((*args, *kwargs.values())) if field_of(each) is not None]
        out = func(*args, **kwargs)
        if tracked:
            outputs = list(_tensors(out if isinstance(out, tuple | list) else (out,)))
            name = getattr(func, "__name__", "").strip("_")
            for each in outputs:
                set_field(each, _with_axes(_field(Call(name, args, kwargs, tracked, each)), each))
        return out


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from (each for each in value if isinstance(each, Tensor))


def _with_axes(field: ReceptiveField, out: Tensor) -> ReceptiveField:
    """A field without axes that the tensor does not have."""
    return field if all(axis < out.ndim for axis in field.axes) else field.vector()


def _field(call: Call) -> ReceptiveField:
    if call.name in _POINTWISE:
        return _pointwise(call)
    rule = _RULES.get(call.name)
    found = rule(call) if rule is not None else None
    return _unknown(call) if found is None else found


def _unknown(call: Call) -> ReceptiveField:
    """Mixes all positions; the sides are still known where a side of the output has its place and length."""
    field = call.field
    same = call.out.ndim == len(call.shape) and all(call.out.shape[axis] == call.shape[axis] for axis in field.axes)
    return field.mixed() if same else field.vector()


def _aligned(call: Call) -> list[ReceptiveField]:
    """The fields of all arguments, their axes counted as in the output: shapes broadcast from the last axis."""
    found = []
    for each in call.tracked:
        field = field_of(each)
        assert field is not None
        shift = call.out.ndim - each.ndim
        kept = all(each.shape[axis] == call.out.shape[axis + shift] for axis in field.axes)
        found.append(replace(field, axes=tuple(axis + shift for axis in field.axes)) if kept else field.vector())
    return found


def _pointwise(call: Call) -> ReceptiveField:
    return merged(_aligned(call))


def _windows(call: Call, spatial: int, change: Callable[[Window, int], Window]) -> ReceptiveField:
    """A layer over the last `spatial` axes: changes the window of each side of the image that is among them."""
    field, first = call.field, call.out.ndim - spatial
    if not field.axes:
        return field.vector()
    if len(field.axes) != len(field.windows) or any(0 < axis < first for axis in field.axes):
        return _unknown(call)  # positions are among what is summed over
    pairs = zip(field.axes, field.windows, strict=True)
    windows = tuple(change(window, axis - first) if axis >= first else window for axis, window in pairs)
    return replace(field, windows=windows)


def _each(value: Any, side: int) -> float:
    return float(value[side if len(value) > 1 else 0] if isinstance(value, Sequence) else value)


def _convolution(call: Call) -> ReceptiveField:
    weight = call.given(1, "weight")
    spatial = weight.ndim - 2
    stride, padding = call.given(3, "stride", default=1), call.given(4, "padding", default=0)
    dilation = call.given(5, "dilation", default=1)

    def change(window: Window, side: int) -> Window:
        kernel, apart = weight.shape[2 + side], _each(dilation, side)
        before = {"same": (kernel - 1) * apart // 2, "valid": 0}[padding] if isinstance(padding, str) else None
        before = _each(padding, side) if before is None else before
        return window.convolved(kernel, _each(stride, side), before, apart)

    return _windows(call, spatial, change)


def _transposed(call: Call) -> ReceptiveField:
    weight = call.given(1, "weight")
    stride, padding = call.given(3, "stride", default=1), call.given(4, "padding", default=0)
    dilation = call.given(7, "dilation", default=1)

    def change(window: Window, side: int) -> Window:
        where = (int(_each(each, side)) for each in (stride, padding, dilation))
        return window.transposed(weight.shape[2 + side], *where)

    return _windows(call, weight.ndim - 2, change)


def _pool(call: Call) -> ReceptiveField:
    spatial = int(call.name[-2])
    kernel = call.given(1, "kernel_size")
    stride = call.given(2, "stride") or kernel
    padding = call.given(3, "padding", default=0)
    dilation = call.given(4, "dilation", default=1) if call.name.startswith("max") else 1

    def change(window: Window, side: int) -> Window:
        return window.convolved(*(_each(each, side) for each in (kernel, stride, padding, dilation)))

    return _windows(call, spatial, change)


def _adaptive(call: Call) -> ReceptiveField:
    spatial = int(call.name[-2])
    sides, made = call.shape[-spatial:], call.out.shape[-spatial:]
    if all(each == 1 for each in made) and any(side > 1 for side in sides):
        return call.field.vector()

    def change(window: Window, side: int) -> Window:
        step = sides[side] / made[side]
        # A cell begins and ends at most one unit beside its place, unless the sides divide.
        return window.convolved(step, step) if step % 1 == 0 else window.convolved(step + 2, step, 1)

    return _windows(call, spatial, change)


def _resize(call: Call) -> ReceptiveField:
    spatial = call.out.ndim - 2
    sides, made = call.shape[2:], call.out.shape[2:]
    mode = str(call.given(3, "mode", default="nearest"))
    aligned = bool(call.given(4, "align_corners"))
    if any(each == 1 < number for each, number in zip(sides, made, strict=True)):
        return call.field.vector()
    taps = 1 if mode.startswith("nearest") else 4 if mode == "bicubic" else 2

    def change(window: Window, side: int) -> Window:
        factor = (made[side] - aligned) / (sides[side] - aligned) if sides[side] > aligned else 1
        spread = taps if factor >= 1 or not call.kwargs.get("antialias") else -int(-taps // factor)
        return window.resized(factor, spread, aligned) if factor else window

    return _windows(call, spatial, change)


def _shuffle(call: Call) -> ReceptiveField:
    factor = call.given(1, "upscale_factor", "downscale_factor")
    if call.name == "pixel_shuffle":
        return _windows(call, 2, lambda window, side: window.resized(factor))
    return _windows(call, 2, lambda window, side: window.convolved(factor, factor))


def _pad(call: Call) -> ReceptiveField:
    pads = call.given(1, "pad")
    field = call.field
    windows = list(field.windows)
    for number, axis in enumerate(field.axes if len(field.axes) == len(windows) else ()):
        place = 2 * (len(call.shape) - 1 - axis)
        if place < len(pads):
            windows[number] = windows[number].sliced(-pads[place])
    return replace(field, windows=tuple(windows))


def _reduce(call: Call) -> ReceptiveField | None:
    if isinstance(call.given(1, "other"), Tensor):  # torch.max(a, b)
        return _pointwise(call)
    over = call.axes(2 if call.name == "norm" else 1)
    field = call.field
    if set(field.axes) & over:
        return field.vector()
    if call.out.ndim == len(call.shape):
        return field
    return replace(field, axes=tuple(axis - sum(each < axis for each in over) for axis in field.axes))


def _normalize(call: Call) -> ReceptiveField:
    position = 2 if call.name == "normalize" else 1
    given = call.given(position, "dim", default=1 if call.name == "normalize" else -1)
    return call.field.mixed() if int(given) % len(call.shape) in call.field.axes else call.field


def _layer_norm(call: Call) -> ReceptiveField:
    first = len(call.shape) - len(call.given(1, "normalized_shape"))
    return call.field.mixed() if any(axis >= first for axis in call.field.axes) else call.field


def _linear(call: Call) -> ReceptiveField | None:
    weights = field_of(call.given(1, "weight", "other", "mat2"))
    mixes = weights is not None or len(call.shape) - 1 in call.field.axes
    return None if mixes else call.field


def _join(call: Call) -> ReceptiveField:
    axis = int(call.given(1, "dim", "axis", default=0)) % call.out.ndim
    fields = [field for each in call.tracked if (field := field_of(each)) is not None]
    if call.name == "stack":
        fields = [replace(each, axes=tuple(a + (a >= axis) for a in each.axes)) for each in fields]
    tokens = all(len(each.axes) == 1 for each in fields)
    found = merged(fields)
    return found.mixed() if axis in found.axes and not tokens else found


def _split(call: Call) -> ReceptiveField:
    position = 1 if call.name == "unbind" else 2
    axis = int(call.given(position, "dim", default=0)) % len(call.shape)
    field = call.field
    if axis in field.axes:
        return field.vector() if call.name == "unbind" else field.mixed()
    if call.name == "unbind":
        return replace(field, axes=tuple(each - (each > axis) for each in field.axes))
    return field


_RULES: dict[str, Callable[[Call], ReceptiveField | None]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    **{f"{kind}_pool{n}d": _pool for kind in ("max", "avg", "lp") for n in (1, 2, 3)},
    **{f"adaptive_{kind}_pool{n}d": _adaptive for kind in ("max", "avg") for n in (1, 2, 3)},
    **dict.fromkeys(("interpolate", "upsample"), _resize),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle"), _shuffle),
    **dict.fromkeys(_OVER_AXES, _reduce),
    **dict.fromkeys(_NORMALIZING, _normalize),
    **dict.fromkeys(("layer_norm", "rms_norm"), _layer_norm),
    **dict.fromkeys(("linear", "matmul"), _linear),
    **dict.fromkeys(("cat", "concat", "stack"), _join),
    **dict.fromkeys(("chunk", "split", "tensor_split", "unbind"), _split),
    "pad": _pad,
    "permute": lambda call: permuted(call.field, len(call.shape), call.args[1:], call.kwargs),
    **dict.fromkeys(_RESHAPING, lambda call: reshaped(call.field, call.shape, tuple(call.out.shape))),
    **dict.fromkeys(
        ("transpose", "swapaxes", "swapdims"),
        lambda call: permuted(call.field, len(call.shape), call.args[1:], call.kwargs, swap=True),
    ),
    "getitem": lambda call: indexed(call.field, call.shape, call.args[1]),
}
