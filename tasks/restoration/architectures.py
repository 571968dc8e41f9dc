"""The architectures of restoration: which body, with which arguments; `pyproject.toml` registers them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from tasks.restoration import (
    context_encoder,
    deconvolution,
    deep_deblur,
    dncnn,
    drunet,
    ffdnet,
    nafnet,
    partial_convolution,
    timm_unet,
)
from tasks.restoration.body import Body, Condition
from tasks.restoration.network import RestorationNetwork, RestorationOutputs
from visionkit.construction import WithoutInit
from visionkit.errors import UsageError
from visionkit.families.restoration.architecture import ImageArchitecture
from visionkit.families.restoration.spandrel_file import SpandrelBody, check_untrained, spandrel_facts
from visionkit.families.restoration.tiles import TileMargins


@dataclass(frozen=True)
class RestorationArchitecture(ImageArchitecture):
    """One network that restores images: its fields are its arguments, and those of its body.

    Attributes:
        kind: The body; it takes the channels and the fields.
        allows_flips: Flipped and rotated images may be restored as well. Not where the network is made for one kernel
            of blur, which would turn with them.
    """

    kind: ClassVar[type[Body]]
    allows_flips: ClassVar[bool] = True

    @property
    def whole(self) -> bool:
        """Whether images have to be restored whole, never in tiles."""
        return False

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        """The NamedTuple that the network returns."""
        return RestorationOutputs

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the images that it takes."""
        condition = getattr(self, "condition", self.kind.condition)
        return ("image",) if condition is None else ("image", condition)

    @property
    def divisor(self) -> int:
        """Both sides of an input are multiples of it."""
        with WithoutInit():
            return self.thin().build(None, 3).body.divisor

    def build(self, backbone: None, channels: int) -> RestorationNetwork:
        """The network with its first weights, for images of a number of channels."""
        return RestorationNetwork(self.body(channels))

    def stored(self) -> Self:
        """What a checkpoint keeps of it: nothing is fetched again when it is opened."""
        return self

    def losses(self, network: Any, outputs: RestorationOutputs, target: Any, loss: Any) -> dict[str, Tensor]:
        """Terms of the loss that the task was configured with."""
        image, mask = outputs.composed_of or (None, None)
        terms: dict[str, Tensor] = loss(
            outputs.restored, target["clean"], coarser=outputs.coarser, mask=mask, image=image
        )
        return terms

    def decode(self, network: Any, outputs: RestorationOutputs, limits: None = None) -> Tensor:
        """(B, C, h, w) float32 on a scale of 255, clipped."""
        return (outputs.restored.float() * 255.0).clamp(0.0, 255.0)


@dataclass(frozen=True)
class DnCNN(RestorationArchitecture):
    """DnCNN (Zhang et al., 2017), which estimates the noise.

    Attributes:
        width: Channels of the layers.
        depth: Number of convolutions; 17 for one noise level (DnCNN-S), 20 for all of them (DnCNN-B).
    """

    width: int = 64
    depth: int = 17

    kind: ClassVar[type[Body]] = dncnn.DnCNN
    narrowest: ClassVar[dict[str, Any]] = {"width": 4}


@dataclass(frozen=True)
class FFDNet(RestorationArchitecture):
    """FFDNet (Zhang et al., 2018), which is given the noise level and works at half the resolution.

    Attributes:
        width: Channels of the layers; 64 for gray images, 96 for color.
        depth: Number of convolutions; 15 for gray images, 12 for color.
        batch_norm: Batch norms between the layers, as the paper describes it; the released networks have none.
    """

    width: int = 64
    depth: int = 15
    batch_norm: bool = False

    kind: ClassVar[type[Body]] = ffdnet.FFDNet
    narrowest: ClassVar[dict[str, Any]] = {"width": 4}


@dataclass(frozen=True)
class NAFNet(RestorationArchitecture):
    """NAFNet (Chen et al., 2022) without activations; by default a small one for CPUs.

    Attributes:
        width: Channels at full resolution; 32 in the paper.
        encoder: Number of blocks at each resolution on the way down; (2, 2, 4, 8) for noise in the paper, (1, 1, 1, 28)
            for blur.
        middle: Number of blocks at the lowest resolution; 12 for noise in the paper, 1 for blur.
        decoder: Number of blocks at each resolution on the way up; (2, 2, 2, 2) and (1, 1, 1, 1) in the paper.
        pool: Side of the window whose mean its attention takes in use, in pixels of the image (Chu et al., 2022); by
            default that of the whole image.
        condition: A further input, `mask` or `noise_level`; by default none.
    """

    width: int = 16
    encoder: Sequence[int] = (1, 1, 1)
    middle: int = 2
    decoder: Sequence[int] = (1, 1, 1)
    pool: int | None = None
    condition: Condition | None = None

    kind: ClassVar[type[Body]] = nafnet.NAFNet
    narrowest: ClassVar[dict[str, Any]] = {"width": 4}


@dataclass(frozen=True)
class DRUNet(RestorationArchitecture):
    """DRUNet (Zhang et al., 2021), which is given the noise level: a U-Net of residual blocks without biases.

    Attributes:
        widths: Channels at every scale, the finest first.
        blocks: Number of residual blocks at every scale, before and again after the coarsest.
    """

    widths: Sequence[int] = (64, 128, 256, 512)
    blocks: int = 4

    kind: ClassVar[type[Body]] = drunet.DRUNet

    def thin(self) -> Self:
        return dataclasses.replace(self, widths=(4,) * len(self.widths))


@dataclass(frozen=True)
class DeepDeblur(RestorationArchitecture):
    """DeepDeblur (Nah et al., 2017): one network per scale, from coarse to fine.

    Attributes:
        width: Channels of the residual blocks.
        blocks: Number of residual blocks per scale.
        levels: Number of scales; each has half the side of the next.
    """

    width: int = 64
    blocks: int = 19
    levels: int = 3

    kind: ClassVar[type[Body]] = deep_deblur.DeepDeblur
    narrowest: ClassVar[dict[str, Any]] = {"width": 4}


@dataclass(frozen=True)
class PartialConvolution(RestorationArchitecture):
    """A U-Net of partial convolutions (Liu et al., 2018) for inpainting.

    Attributes:
        width: Channels of the first layer; they double until they are eight times as many.
        levels: Number of halvings; the sides of its input are multiples of 2 to this power.
        freeze_encoder_norm: Keep the batch norms of the encoder as they are, for fine-tuning.
    """

    width: int = 64
    levels: int = 8
    freeze_encoder_norm: bool = False

    kind: ClassVar[type[Body]] = partial_convolution.PartialConvolutionUNet
    narrowest: ClassVar[dict[str, Any]] = {"width": 4}


@dataclass(frozen=True)
class ContextEncoder(RestorationArchitecture):
    """A context encoder (Pathak et al., 2016) for inpainting, trained by its reconstruction alone.

    Attributes:
        size: Side of the images that it processes, a multiple of 32; others are resized to it and back.
        width: Channels of the first convolution.
    """

    size: int = 128
    width: int = 64

    kind: ClassVar[type[Body]] = context_encoder.ContextEncoder
    narrowest: ClassVar[dict[str, Any]] = {"width": 4}


@dataclass(frozen=True)
class TimmUNet(RestorationArchitecture):
    """Any timm backbone as the encoder of a U-Net, whose output is added to the image.

    Attributes:
        backbone: Any timm backbone by name, or one of the classic networks.
        decoder: Channels of the decoder's maps, the coarsest first; the last five, or as many as there are doublings.
        window: Side in pixels of the windows in which a backbone that is built for one size sees the image.
        condition: A further input, `mask` or `noise_level`; by default none.
        pretrained: Begin with the public weights of the backbone: of the cache, of an installed package, or downloaded.
        drop_path: Rate of stochastic depth of the backbone, where its family has it.
    """

    backbone: str = "resnet18"
    decoder: Sequence[int] = (256, 128, 64, 32, 16)
    window: int = 128
    condition: Condition | None = None
    pretrained: bool = False
    drop_path: float = 0.0

    kind: ClassVar[type[Body]] = timm_unet.TimmUNet

    def stored(self) -> Self:
        return dataclasses.replace(self, pretrained=False)

    def thin(self) -> Self:
        return dataclasses.replace(self, decoder=(4,) * len(self.decoder), pretrained=False)


@dataclass(frozen=True)
class Deconvolution(RestorationArchitecture):
    """The deconvolution network of one known blur (Xu et al., 2014), see `DeconvolutionCNN`.

    Attributes:
        kernel: File with the kernel of the blur, which the first weights are made of.
        number: Which of several kernels of the file it is, from 1.
        noise: Power of the noise over that of the image, in the blur's pseudo-inverse.
        maps: Number of separable kernels.
        side: Length of each in pixels, odd.
        width: Channels of the denoiser; 512 in the paper.
        between: Images between the inverse of the blur and the denoiser; 0 merges the two, as in the paper.
        circular: Images were blurred as if they went on at their opposite border.
    """

    kernel: str = ""
    number: int = 1
    noise: float = 0.01
    maps: int = 38
    side: int = 121
    width: int = 64
    between: int = 1
    circular: bool = False

    kind: ClassVar[type[Body]] = deconvolution.DeconvolutionCNN
    allows_flips: ClassVar[bool] = False
    narrowest: ClassVar[dict[str, Any]] = {"kernel": "", "maps": 2, "width": 2}

    @property
    def first_weights(self) -> str | None:
        """What the first weights are made of, where they are not random."""
        return f"the inverse of the blur of {self.kernel}" if self.kernel else None

    @property
    def whole(self) -> bool:
        return self.circular  # what lies beyond a tile is not its own opposite border

    def margins(self, network: Any) -> TileMargins | None:
        return TileMargins(None) if self.whole else None

    def stored(self) -> Self:
        return dataclasses.replace(self, kernel="")


@dataclass(frozen=True)
class Spandrel(RestorationArchitecture):
    """A public network that spandrel reads from its author's file; it is served as it is, and not trained.

    Attributes:
        path: The file, `.pth` or `.safetensors`; its network is built of it whenever the model is opened.
    """

    path: str = ""

    kind: ClassVar[Any] = SpandrelBody

    @property
    def inputs(self) -> tuple[str, ...]:
        condition = spandrel_facts(self.path).condition
        return ("image",) if condition is None else ("image", condition)

    @property
    def divisor(self) -> int:
        return 1

    def body(self, first: int) -> SpandrelBody:
        body = SpandrelBody(self.path)
        if (body.facts.scale, body.facts.channels) != (1, first):
            raise UsageError(
                f"model.spandrel.path {self.path}: a network of {body.facts.channels} channels that gives images "
                f"{body.facts.scale} times as large; restoration takes one of the model's {first} channels that keeps "
                "the size"
            )
        return body

    def margins(self, network: Any) -> TileMargins | None:
        found: TileMargins = network.body.margins()
        return found

    def losses(self, network: Any, outputs: RestorationOutputs, target: Any, loss: Any) -> dict[str, Tensor]:
        check_untrained(network)
        return super().losses(network, outputs, target, loss)
