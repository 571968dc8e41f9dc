"""The architectures of super-resolution: which body, with which arguments; `pyproject.toml` registers them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from torch import Tensor

from tasks.super_resolution import attention, convolutional
from tasks.super_resolution.network import SuperResolutionNetwork, SuperResolutionOutputs
from visionkit.errors import UsageError
from visionkit.families.restoration import residual
from visionkit.families.restoration.architecture import ImageArchitecture
from visionkit.families.restoration.body import Body
from visionkit.families.restoration.spandrel_file import SpandrelBody, check_untrained
from visionkit.families.restoration.tiles import TileMargins


@dataclass(frozen=True)
class SuperResolutionArchitecture(ImageArchitecture):
    """One network that enlarges: its fields are its arguments, and those of its body.

    Attributes:
        kind: The body; it takes the scale and the fields.
    """

    kind: ClassVar[type[Body]]

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        """The NamedTuple that the network returns."""
        return SuperResolutionOutputs

    def build(self, backbone: None, scale: int) -> SuperResolutionNetwork:
        """The network with random weights; it has no backbone."""
        return SuperResolutionNetwork(self.body(scale), scale)

    def losses(self, network: Any, outputs: Any, target: Any, loss: Any) -> dict[str, Tensor]:
        """Terms of the loss that the task was configured with."""
        terms: dict[str, Tensor] = loss(outputs.high_res, target["high_res"])
        return terms

    def decode(self, network: Any, outputs: Any, limits: None = None) -> Tensor:
        """(B, 3, H, W) float32 RGB on a scale of 255, clipped."""
        decoded: Tensor = (outputs.high_res.float() * 255.0).clamp(0.0, 255.0)
        return decoded


@dataclass(frozen=True)
class SRCNN(SuperResolutionArchitecture):
    """SRCNN 9-1-5 (Dong et al., 2014 and 2016).

    Attributes:
        kernels: Sides of the three kernels.
        widths: Channels between them.
    """

    kernels: tuple[int, int, int] = (9, 1, 5)
    widths: tuple[int, int] = (64, 32)

    kind: ClassVar[type[Body]] = convolutional.SRCNN


@dataclass(frozen=True)
class SRCNN955(SRCNN):
    """SRCNN 9-5-5."""

    kernels: tuple[int, int, int] = (9, 5, 5)


@dataclass(frozen=True)
class ESPCN(SuperResolutionArchitecture):
    """ESPCN (Shi et al., 2016).

    Attributes:
        widths: Channels after the 5x5 and the first 3x3 convolution.
    """

    widths: tuple[int, int] = (64, 32)

    kind: ClassVar[type[Body]] = convolutional.ESPCN


@dataclass(frozen=True)
class FSRCNN(SuperResolutionArchitecture):
    """FSRCNN (Dong et al., 2016).

    Attributes:
        detail: Channels of the first and the last part.
        shrunk: Channels of the convolutions in between.
        depth: Number of 3x3 convolutions in between.
    """

    detail: int = 56
    shrunk: int = 12
    depth: int = 4

    kind: ClassVar[type[Body]] = convolutional.FSRCNN


@dataclass(frozen=True)
class VDSR(SuperResolutionArchitecture):
    """VDSR (Kim et al., 2016).

    Attributes:
        width: Channels of every convolution.
        depth: Number of convolutions.
    """

    width: int = 64
    depth: int = 20

    kind: ClassVar[type[Body]] = convolutional.VDSR
    narrowest: ClassVar[dict[str, Any]] = {"width": 4}


@dataclass(frozen=True)
class EDSRBaseline(SuperResolutionArchitecture):
    """EDSR (Lim et al., 2017) as its authors' baseline.

    Attributes:
        width: Channels of the residual blocks.
        blocks: Number of residual blocks.
        residual_scale: Factor by which the sum of each block is scaled.
    """

    width: int = 64
    blocks: int = 16
    residual_scale: float = 1.0

    kind: ClassVar[type[Body]] = residual.EDSR
    narrowest: ClassVar[dict[str, Any]] = {"width": 4}


@dataclass(frozen=True)
class EDSR(EDSRBaseline):
    """EDSR (Lim et al., 2017), the large one."""

    width: int = 256
    blocks: int = 32
    residual_scale: float = 0.1


@dataclass(frozen=True)
class RCAN(SuperResolutionArchitecture):
    """RCAN (Zhang et al., 2018).

    Attributes:
        width: Channels of the residual blocks.
        groups: Number of residual groups.
        blocks: Number of blocks of each group.
        reduction: Factor by which the attention reduces the channels.
    """

    width: int = 64
    groups: int = 10
    blocks: int = 20
    reduction: int = 16

    kind: ClassVar[type[Body]] = residual.RCAN
    narrowest: ClassVar[dict[str, Any]] = {"width": 4, "reduction": 1}


@dataclass(frozen=True)
class SwinIRLight(SuperResolutionArchitecture):
    """SwinIR (Liang et al., 2021) in its light form.

    Attributes:
        width: Channels of the tokens.
        depths: Number of layers of each group.
        heads: Number of heads of the attention.
        window: Side of an attention window in pixels.
        expansion: Factor by which the MLP is wider than the tokens.
    """

    width: int = 60
    depths: Sequence[int] = (6, 6, 6, 6)
    heads: int = 6
    window: int = 8
    expansion: int = 2

    kind: ClassVar[type[Body]] = attention.SwinIR

    def thin(self) -> Self:
        return dataclasses.replace(self, width=self.heads)


@dataclass(frozen=True)
class Compact(SuperResolutionArchitecture):
    """A small EDSR for CPUs whose last convolution makes the pixels directly, added to bicubic.

    Attributes:
        width: Channels of the residual blocks.
        blocks: Number of residual blocks.
        color: What it learns: `y` (luma) or `rgb`.
    """

    width: int = 32
    blocks: int = 8
    color: Literal["y", "rgb"] = "rgb"

    kind: ClassVar[type[Body]] = residual.Compact
    narrowest: ClassVar[dict[str, Any]] = {"width": 4}


@dataclass(frozen=True)
class Spandrel(SuperResolutionArchitecture):
    """A public network that spandrel reads from its author's file; it is served as it is, and not trained.

    Attributes:
        path: The file, `.pth` or `.safetensors`; its network is built of it whenever the model is opened.
    """

    path: str = ""

    kind: ClassVar[Any] = SpandrelBody

    def body(self, first: int) -> SpandrelBody:
        body = SpandrelBody(self.path)
        if body.facts.scale != first:
            raise UsageError(
                f"model.scale {first}: the network of {self.path} gives images {body.facts.scale} times as large; set "
                "model.scale to it"
            )
        return body

    def margins(self, network: Any) -> TileMargins | None:
        found: TileMargins = network.body.margins()
        return found

    def losses(self, network: Any, outputs: Any, target: Any, loss: Any) -> dict[str, Tensor]:
        check_untrained(network)
        return super().losses(network, outputs, target, loss)
