"""Super-resolution: the same image, larger, with the detail that enlarging alone leaves out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from tasks.super_resolution.architectures import SuperResolutionArchitecture
from tasks.super_resolution.loss import SuperResolutionLoss
from tasks.super_resolution.metrics import ImageQuality
from tasks.super_resolution.network import SuperResolutionNetwork, SuperResolutionOutputs
from visionkit.analysis.base import Analysis
from visionkit.architecture_task import ArchitectureTask
from visionkit.architectures import Architectures
from visionkit.errors import UsageError
from visionkit.families.restoration.analysis import ImageAnalysis
from visionkit.families.restoration.bicubic import Bicubic
from visionkit.families.restoration.images import to_images
from visionkit.families.restoration.pixel_losses import PixelLoss
from visionkit.families.restoration.quality import PROTOCOL
from visionkit.families.restoration.spandrel_file import SCHEME, spandrel_facts
from visionkit.families.restoration.tiles import TILE, TileMargins, check_size, ensembled, find_reach, grid_of
from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageSource
from visionkit.nn.normalize import Normalize
from visionkit.predictions import Prediction
from visionkit.tiling import Located, PasteImage, Plan, Views
from visionkit.types import Batch

LARGEST_SCALE = 8


class SuperResolutionTask(ArchitectureTask):
    """Enlarges images by a whole factor.

    Args:
        architecture: `srcnn`, `srcnn_955`, `espcn`, `fsrcnn`, `vdsr`, `edsr_baseline`, `edsr`, `rcan`, `swinir_light`,
            `compact`, or `spandrel` for a public file. The network determines whether luma or RGB is enlarged.
        scale: Factor, 2 to 8.
        loss: `l1`, `l2` or `charbonnier`.
        loss_border: High-resolution pixels at the border of a patch that the loss leaves out.
        perceptual: Weight of the difference between features of a backbone; 0 is off.
        perceptual_backbone: A timm model with public weights, fetched when training starts.
        perceptual_stride: Stride of its features, in pixels.
        **shared: See `VisionTask`; each architecture has its arguments under its name. Of the input `size` is only that
            of an example: images are taken at their own size.

    Example:
        >>> task = SuperResolutionTask("compact", scale=3)
        >>> task(torch.zeros(1, 3, 32, 48, dtype=torch.uint8)).high_res.shape
        torch.Size([1, 3, 96, 144])
    """

    name = "super_resolution"
    title = "Super-resolution"
    question = "The same image with more pixels."
    kinds = ("image",)
    monitor = ("val/psnr_y", "max")
    targets = ("high_res",)
    outputs = SuperResolutionOutputs
    architectures = Architectures[SuperResolutionArchitecture]("super_resolution")
    withheld = ("classes",)
    public_schemes = (SCHEME,)

    architecture: SuperResolutionArchitecture
    network: SuperResolutionNetwork
    _reach: TileMargins | None

    def __init__(
        self,
        architecture: str = "compact",
        *,
        scale: int = 2,
        loss: PixelLoss = "l1",
        loss_border: int = 0,
        perceptual: float = 0.0,
        perceptual_backbone: str = "vgg19.tv_in1k",
        perceptual_stride: int = 8,
        **shared: Any,
    ) -> None:
        super().__init__(architecture=architecture, **shared)
        spec = self.input
        if spec.resize_mode != "native" or spec.divisor != 1 or spec.channels != 3:
            raise UsageError(
                f"model.input: super-resolution takes images as they are, resize_mode native with divisor 1 and "
                f"channels 3, not {spec.resize_mode}, {spec.divisor} and {spec.channels}"
            )
        if not 2 <= scale <= LARGEST_SCALE:
            raise UsageError(f"model.scale {scale}: allowed are 2 to {LARGEST_SCALE}")
        self.scale = scale
        self.network, self._reach = self.architecture.build(None, scale), None
        self._bicubic = Bicubic(scale)
        self.normalize = Normalize((0.0,) * 3, (1.0,) * 3)
        color = self.network.body.color
        self.loss = SuperResolutionLoss(loss, color, loss_border, perceptual, perceptual_backbone, perceptual_stride)
        self.metrics = MetricCollection({"quality": ImageQuality(scale)})

    @classmethod
    def default_input(cls, **init_args: Any) -> InputSpec:
        """Images at their own size."""
        return InputSpec(size=(48, 48), resize_mode="native", divisor=1, interpolation="bicubic", bits=16)

    @classmethod
    def from_public(cls, scheme: str, name: str) -> SuperResolutionTask:
        """A network in its author's file, `spandrel:path.pth`."""
        facts = spandrel_facts(name)
        if facts.scale == 1:
            raise UsageError(f"{scheme}:{name}: {facts.architecture} keeps the size of an image, so it is restoration")
        return cls("spandrel", scale=facts.scale, spandrel={"path": name})

    def losses(self, outputs: SuperResolutionOutputs, target: Any) -> dict[str, Tensor]:
        high_res = target["high_res"]
        if outputs.high_res.shape != high_res.shape:
            height, width = (side // self.scale for side in outputs.high_res.shape[-2:])
            raise UsageError(
                f"the data's high resolution of {tuple(high_res.shape[-2:])} does not belong to {height}x{width} at "
                f"x{self.scale}; set data.scale and model.scale to the same factor"
            )
        return self.architecture.losses(self.network, outputs, target, self.loss)

    def decode(self, outputs: SuperResolutionOutputs) -> Tensor:
        """(B, 3, H, W) float32 RGB on a scale of 255, clipped; it is rounded when it becomes an image."""
        return self.architecture.decode(self.network, outputs)

    def restore(self, decoded: Tensor, geometry: Sequence[Geometry]) -> list[Prediction]:
        return list(to_images(decoded, geometry, self.scale))

    def plan(
        self,
        image: ImageSource,
        *,
        views: Views | None = None,
        found: Located | None = None,
        tile: int | None = None,
        **options: Any,
    ) -> Plan:
        """The tiles of an image of any size; gray, transparency and 16 bit are kept.

        Args:
            image: The file; an exported graph takes 8 bit alone.
            views: See `VisionTask.plan`.
            found: See `VisionTask.plan`.
            tile: Largest side in file pixels of the tiles of a large image; 0 takes it whole. The result is the same,
                but for a network that sees the whole image, which by default is taken whole up to a megapixel.
            **options: See `VisionTask.plan`.

        Raises:
            DataError: The result would have more pixels than VISIONKIT_MAX_OUTPUT_PIXELS.
            UsageError: The tile is smaller than what the network sees.
        """
        if views is not None or found is not None:
            return super().plan(image, views=views, found=found)
        check_size(image.size, self.scale, image.name)
        small = tile is None and max(image.size) <= TILE
        tiles = PasteImage(
            image.size, self.scale, None if small else grid_of(image.size, self.reach, tile), self._enlarge_alpha
        )
        return Plan(tiles.views, tiles)

    def augmented(self, run: Callable[..., Any], *, ensemble: bool = False, **options: Any) -> Callable[..., Any]:
        """With `ensemble`, the mean over the eight flipped and turned forms; takes eight times as long."""
        return ensembled(run, "high_res") if ensemble else run

    def _enlarge_alpha(self, alpha: Tensor) -> Tensor:
        values: Tensor = self._bicubic(alpha.to(self._bicubic.weight.device))
        return values.clamp(0, 255)

    @property
    def reach(self) -> TileMargins:
        """How far the receptive field of the network reaches, found once."""
        if self._reach is None:
            self._reach = self.architecture.margins(self.network)
        if self._reach is None:
            network = self.architecture.thin().build(None, self.scale)
            with torch.inference_mode(False):
                self._reach = find_reach(network, network.body.align)
        return self._reach

    def measure(self, decoded: Tensor, batch: Batch) -> None:
        sizes = {each.resized for each in batch["geometry"]}
        if len(sizes) > 1:
            raise UsageError(
                "images of different sizes are measured one at a time, as they are served; set data.eval_batch_size 1"
            )
        target = batch["target"]
        self.metrics.update(decoded, target["high_res"], batch["inputs"]["image"], target.get("gray", ()))

    def analysis(self) -> Analysis:
        return ImageAnalysis(self.monitor)

    @property
    def protocol(self) -> str:
        return f"x{self.scale}, {PROTOCOL.format(border=self.scale)}"
