"""What an architecture of dense maps is, and what it needs from a backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from visionkit.backbones import Backbone, Features, declared_strides
from visionkit.errors import UsageError

HeadKind = Literal["1x1", "3x3", "dpt", "none"]
Norm = Literal["batchnorm", "instancenorm", "identity"]


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
    sees to it), so every map has exactly its fraction of the pixels. Its constructor takes the backbone, the
    architecture and the number of outputs of the network.

    Attributes:
        channels: Number of channels of its map.
        stride: Stride of its map in input pixels.
        head: What turns its map into outputs: `1x1` or `3x3` a convolution, `dpt` that of its paper, `none` its map is
            the output already.
        pools: It averages over the whole image, so its prediction depends on all of it, and batch statistics of
            training need more than one image.
    """

    head: ClassVar[HeadKind] = "1x1"
    pools: ClassVar[bool] = False

    channels: int
    stride: int = 1

    @abstractmethod
    def forward(self, features: Features, size: tuple[int, int]) -> Tensor:
        """The map (B, channels, height / stride, width / stride).

        Args:
            features: Features of a backbone that was built with what the architecture needs.
            size: Height and width of the image, multiples of the coarsest stride.
        """


@dataclass(frozen=True)
class DenseArchitecture(ABC):
    """One decoder: its fields are its arguments.

    Losses and predictions are the task's, since a map is a map whatever made it.

    A subclass sets `name`, for messages, and `decoder`, the module that it builds.
    """

    name: ClassVar[str]
    decoder: ClassVar[Callable[..., Decoder]]

    @abstractmethod
    def needs(self, backbone: str) -> Needs:
        """What it takes from this backbone, from declarations alone, before either is built.

        Args:
            backbone: Name of the backbone.

        Raises:
            UsageError: The backbone cannot give it; states why.
        """

    def build(self, backbone: Backbone, outputs: int) -> Decoder:
        """The decoder of a backbone that was built with what `needs` states.

        Args:
            backbone: Gives the number of channels of every map.
            outputs: Outputs of the network.

        Raises:
            UsageError: A value that is not allowed, or a backbone without the maps.
        """
        needs = self.needs(backbone.name)
        missing = [stride for stride in needs.strides if stride not in backbone.channels]
        if missing or needs.taps != len(backbone.taps):
            raise UsageError(f"architecture {self.name}: the backbone was not built with {needs}, which it needs")
        try:
            return type(self).decoder(backbone, self, outputs)
        except (TypeError, ValueError, KeyError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"architecture {self.name}: {' '.join(str(error).split())}") from error


def is_plain(strides: tuple[int, ...]) -> bool:
    """All maps of the network have one stride, as those of plain transformers; a pyramid is put on them."""
    return len(set(strides)) == 1


def choose_strides(name: str, backbone: str, wanted: tuple[int, ...], least: int) -> tuple[int, ...]:
    """Those of the requested strides that the backbone has; a plain one has its pyramid's 4 to 32 and no 2.

    Args:
        name: Architecture, for the message.
        backbone: Name.
        wanted: Strides that the decoder can use, finest first.
        least: How many it must have.

    Raises:
        UsageError: Too few.
    """
    declared = declared_strides(backbone)
    found = tuple(s for s in wanted if (s >= 4 if is_plain(declared) else s in declared))
    if len(found) < least:
        raise UsageError(
            f"architecture {name}: needs maps of strides {', '.join(map(str, wanted))} and backbone {backbone!r} has "
            f"{', '.join(map(str, sorted(set(declared))))}; choose another architecture or backbone"
        )
    return found


def dilated(backbone: str, strides: tuple[int, ...], output_stride: int, remedy: str) -> Needs:
    """Maps of a backbone whose deepest stages are dilated to a stride.

    Args:
        backbone: Name.
        strides: The maps.
        output_stride: Of the deepest one.
        remedy: Begins the message: what to set instead.

    Raises:
        UsageError: The backbone cannot be dilated so.
    """
    if is_plain(declared_strides(backbone)):
        return Needs(strides)  # its pyramid has every stride
    try:
        declared = declared_strides(backbone, output_stride)
    except UsageError as error:
        raise UsageError(f"{remedy}, or another backbone: {error}") from error
    missing = [stride for stride in strides if stride not in declared]
    if missing:
        raise UsageError(
            f"{remedy}, or another backbone: backbone {backbone!r} dilated to {output_stride} has maps of stride "
            f"{', '.join(map(str, sorted(set(declared))))}"
        )
    return Needs(strides, output_stride)
