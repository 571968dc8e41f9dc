"""What every decoder is, what each of them needs from a backbone, and the one function that builds them."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from visionkit.backbones import Backbone, Features, declared_strides
from visionkit.errors import UsageError, suggest

DECODERS: dict[str, str] = {
    "unet": "visionkit.families.dense.decoders.smp:UNet",
    "fpn": "visionkit.families.dense.decoders.smp:FPN",
    "pspnet": "visionkit.families.dense.decoders.smp:PSPNet",
    "deeplabv3plus": "visionkit.families.dense.decoders.smp:DeepLabV3Plus",
    "upernet": "visionkit.families.dense.decoders.smp:UPerNet",
    "segformer": "visionkit.families.dense.decoders.smp:SegFormer",
    "dpt": "visionkit.families.dense.decoders.smp:DPT",
    "fcn": "visionkit.families.dense.decoders.fcn:FCN",
}
"""Every decoder by name; loaded when it is asked for."""

HeadKind = Literal["1x1", "3x3", "dpt", "none"]


@dataclass(frozen=True)
class Needs:
    """What a decoder takes from a backbone: arguments of `Backbone`.

    Attributes:
        strides: The maps, finest first.
        output_stride: Where the deepest stages are to be dilated.
        taps: Number of maps of one stride, evenly over a transformer's depth, in place of a pyramid.
    """

    strides: tuple[int, ...] = ()
    output_stride: int | None = None
    taps: int = 0


class Decoder(nn.Module, ABC):
    """A pyramid to one map.

    Sides of the image are multiples of the coarsest stride when they arrive here (`visionkit.families.dense.network`
    sees to it), so every map has exactly its fraction of the pixels.

    Attributes:
        name: Name, as in `DECODERS`.
        channels: Number of channels of its map.
        stride: Stride of its map in input pixels.
        head: What turns its map into outputs: `1x1` or `3x3` a convolution, `dpt` that of its paper, `none` its map is
            the output already.
        pools: It averages over the whole image, so its prediction depends on all of it, and batch statistics of
            training need more than one image.
    """

    name: ClassVar[str]
    head: ClassVar[HeadKind] = "1x1"
    pools: ClassVar[bool] = False

    channels: int
    stride: int = 1

    @classmethod
    @abstractmethod
    def needs(cls, backbone: str, **options: Any) -> Needs:
        """What it needs of this backbone, from declarations alone.

        Raises:
            UsageError: The backbone cannot give it; states why.
        """

    @abstractmethod
    def forward(self, features: Features, size: tuple[int, int]) -> Tensor:
        """The map (B, channels, height / stride, width / stride).

        Args:
            features: Features of a backbone that was built with what `needs` states.
            size: Height and width of the image, multiples of the coarsest stride.
        """


def decoder_needs(name: str, backbone: str, **options: Any) -> Needs:
    """What a decoder takes from a backbone, before either is built.

    Args:
        name: One of `DECODERS`.
        backbone: Name of the backbone.
        **options: Options of the decoder.

    Raises:
        UsageError: Unknown decoder or option, or a backbone that cannot give what the decoder needs; states why.
    """
    return _class(name, options).needs(backbone, **options)


def build_decoder(name: str, backbone: Backbone, **options: Any) -> Decoder:
    """Builds a decoder for a backbone that was built with what `decoder_needs` states.

    Args:
        name: One of `DECODERS`.
        backbone: Gives the number of channels of every map.
        **options: Options of the decoder, see its class.

    Raises:
        UsageError: Unknown decoder or option, a value that is not allowed, or a backbone without the maps.

    Example:
        >>> needs = decoder_needs("fpn", "resnet18")
        >>> backbone = Backbone("resnet18", strides=needs.strides, use_final=False)
        >>> build_decoder("fpn", backbone).channels
        128
    """
    kind = _class(name, options)
    needs = kind.needs(backbone.name, **options)
    missing = [stride for stride in needs.strides if stride not in backbone.channels]
    if missing or needs.taps != len(backbone.taps):
        raise UsageError(f"decoder {name}: the backbone was not built with {needs}; decoder_needs states with what")
    try:
        return kind(backbone, **options)
    except (TypeError, ValueError, KeyError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"decoder {name}: {' '.join(str(error).split())}") from error


def _class(name: str, options: Mapping[str, Any]) -> type[Decoder]:
    if name not in DECODERS:
        raise UsageError(f"decoder {name!r}: allowed are {', '.join(DECODERS)}{suggest(name, DECODERS)}")
    module, _, attribute = DECODERS[name].partition(":")
    kind: type[Decoder] = getattr(import_module(module), attribute)
    known = [key for key in inspect.signature(kind.__init__).parameters if key not in ("self", "backbone")]
    for key in options:
        if key not in known:
            raise UsageError(
                f"decoder {name}: no option {key!r}; allowed are {', '.join(known) or 'none'}{suggest(key, known)}"
            )
    return kind


def is_plain(strides: tuple[int, ...]) -> bool:
    """All maps of the network have one stride, as those of plain transformers; a pyramid is put on them."""
    return len(set(strides)) == 1


def choose_strides(
    decoder: str, backbone: str, wanted: tuple[int, ...], least: int, check: Callable[[tuple[int, ...]], bool] = bool
) -> tuple[int, ...]:
    """Those of the requested strides that the backbone has; a plain one has its pyramid's 4 to 32 and no 2.

    Args:
        decoder: For the message.
        backbone: Name.
        wanted: Strides that the decoder can use, finest first.
        least: How many it must have.
        check: What else must hold of them.

    Raises:
        UsageError: Too few.
    """
    declared = declared_strides(backbone)
    found = tuple(s for s in wanted if (s >= 4 if is_plain(declared) else s in declared))
    if len(found) < least or not check(found):
        raise UsageError(
            f"decoder {decoder}: needs maps of strides {', '.join(map(str, wanted))} and backbone {backbone!r} has "
            f"{', '.join(map(str, sorted(set(declared))))}; choose another decoder or backbone"
        )
    return found
