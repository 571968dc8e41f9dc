"""Restoration: the image as it was before noise, blur, compression or holes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from tasks.restoration.architectures import RestorationArchitecture
from tasks.restoration.loss import RestorationLoss
from tasks.restoration.metrics import RestorationQuality
from tasks.restoration.network import RestorationNetwork, RestorationOutputs
from visionkit.analysis.base import Analysis
from visionkit.architecture_task import ArchitectureTask
from visionkit.architectures import Architectures
from visionkit.errors import UsageError
from visionkit.families.restoration.analysis import ImageAnalysis
from visionkit.families.restoration.images import to_images
from visionkit.families.restoration.spandrel_file import SCHEME, spandrel_facts
from visionkit.families.restoration.tiles import TILE, TileMargins, check_size, ensembled, find_reach, grid_of
from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageSource
from visionkit.inputs import Clip
from visionkit.mask_files import read_mask
from visionkit.nn.normalize import Normalize
from visionkit.predictions import Prediction
from visionkit.tiling import Located, PasteImage, Plan, Views
from visionkit.types import Batch


class RestorationTask(ArchitectureTask):
    """Denoises, deblurs, deblocks or fills in images: which of them follows from what it was trained on.

    Args:
        architecture: Name of the network. It determines the inputs: some take a `mask` of the missing pixels, others
            the `noise_level`.
        losses: Weight of each term of the loss by name, see `RestorationLoss`; by default `l1` alone, and of networks
            with a mask `hole` 6 and `valid` 1.
        perceptual_backbone: A timm model with public weights for the terms `perceptual` and `style`.
        perceptual_strides: Strides of its features that are compared.
        border: Pixels at the border of an image that the measures leave out.
        luma: Measure the luma too, as papers of deblocking do.
        lpips: Measure LPIPS by this network where its weights are at hand: `alex`, `vgg` or `squeeze`.
        noise_levels: Smallest and largest deviation of the noise, in gray levels, that it was trained on, by default
            those of the data's Gaussian noise; what is outside gives a warning in use. Networks with a noise level take
            it from the call.
        **shared: See `VisionTask`; each architecture has its arguments under its name. Of the input `channels` is 3, or
            1 for a network of gray images, which makes other images gray; `size` is only that of an example.

    Example:
        >>> task = RestorationTask("dncnn", input={"channels": 1})
        >>> task(torch.zeros(1, 1, 32, 48, dtype=torch.uint8)).restored.shape
        torch.Size([1, 1, 32, 48])
    """

    name = "restoration"
    title = "Restoration"
    question = "The same image without noise, blur or holes."
    kinds = ("image",)
    monitor = ("val/psnr", "max")
    targets = ("clean",)
    outputs = RestorationOutputs
    architectures = Architectures[RestorationArchitecture]("restoration")
    withheld = ("classes",)
    public_schemes = (SCHEME,)
    also_inputs = {"mask": "mask", "noise_level": (0, 75, 25)}  # noqa: RUF012  (as the class states its other facts)

    architecture: RestorationArchitecture
    network: RestorationNetwork
    _reach: TileMargins | None

    def __init__(
        self,
        architecture: str = "nafnet",
        *,
        losses: Mapping[str, float] | None = None,
        perceptual_backbone: str = "vgg16.tv_in1k",
        perceptual_strides: Sequence[int] = (2, 4, 8),
        border: int = 0,
        luma: bool = False,
        lpips: str | None = None,
        noise_levels: tuple[float, float] | None = None,
        **shared: Any,
    ) -> None:
        shared["input"] = InputSpec.of(shared.get("input"), self.default_input(architecture, **shared))
        super().__init__(architecture=architecture, **shared)
        self.network, self._reach = self.architecture.build(None, self.input.channels), None
        self.inputs = self.architecture.inputs
        self._check_input(self.input)
        self.normalize = Normalize((0.0,), (1.0,))
        if noise_levels is not None and not 0 <= noise_levels[0] <= noise_levels[1] <= 255:
            raise UsageError(
                f"model.noise_levels {list(noise_levels)}: give the smallest and the largest deviation, from 0 to 255"
            )
        self.noise_levels = noise_levels
        has_mask = "mask" in self.inputs
        usual = {"hole": 6.0, "valid": 1.0} if has_mask else {"l1": 1.0}
        terms = usual if losses is None else losses
        self.loss = RestorationLoss(terms, perceptual_backbone, perceptual_strides, has_mask)
        self.metrics = MetricCollection({"quality": RestorationQuality(border, luma, has_mask, lpips)})

    @classmethod
    def default_input(cls, architecture: str = "nafnet", **init_args: Any) -> InputSpec:
        """Images at their own size, whose borders repeat the pixel at the edge up to a multiple of the divisor."""
        chosen = cls.architectures.choose(architecture, {architecture: init_args.get(architecture)})
        divisor = chosen.divisor
        return InputSpec((-(-64 // divisor) * divisor,) * 2, "native", divisor=divisor, fill=None, bits=32)

    @classmethod
    def from_public(cls, scheme: str, name: str) -> RestorationTask:
        """A network in its author's file, `spandrel:path.pth`."""
        facts = spandrel_facts(name)
        if facts.scale != 1:
            raise UsageError(
                f"{scheme}:{name}: {facts.architecture} gives images {facts.scale} times as large; super_resolution "
                "takes 2 to 8 times"
            )
        return cls("spandrel", input={"channels": facts.channels}, spandrel={"path": name})

    def _check_input(self, spec: InputSpec) -> None:
        if spec.resize_mode != "native" or spec.channels not in (1, 3):
            raise UsageError(
                f"model.input: restoration takes images as they are, resize_mode native with channels 1 or 3, not "
                f"{spec.resize_mode} and {spec.channels}"
            )
        divisor = self.network.body.divisor
        if spec.divisor % divisor or any(side % divisor for side in spec.size):
            raise UsageError(
                f"model.input: {self.chosen} takes sides that are multiples of {divisor}, not size {list(spec.size)} "
                f"and divisor {spec.divisor}"
            )

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.noise_levels is None and "noise_level" in self.inputs:
            self.noise_levels = getattr(getattr(self.trainer, "datamodule", None), "noise_levels", None)
            self._config |= {"noise_levels": None if self.noise_levels is None else list(self.noise_levels)}

    def resolved(self) -> dict[str, Any]:
        return {**super().resolved(), self.chosen: self.architecture.stored()}

    def losses(self, outputs: RestorationOutputs, target: Any) -> dict[str, Tensor]:
        return self.architecture.losses(self.network, outputs, target, self.loss)

    def decode(self, outputs: RestorationOutputs) -> Tensor:
        """(B, C, H, W) float32 on a scale of 255, clipped; it is rounded when it becomes an image."""
        return self.architecture.decode(self.network, outputs)

    def restore(self, decoded: Tensor, geometry: Sequence[Geometry]) -> list[Prediction]:
        return list(to_images(decoded, geometry))

    def completed(
        self, inputs: dict[str, ImageSource | Clip], *, noise_level: float | None = None, **options: Any
    ) -> dict[str, ImageSource | Clip]:
        """The inputs of one call, with the noise level as an image where a number is given, and the mask read.

        Args:
            inputs: What the call was given.
            noise_level: Deviation of the noise in gray levels, 0 to 255, for networks that take it.
            **options: See `VisionTask.completed`.

        Raises:
            DataError: A mask without anything that is white.
            UsageError: A noise level that is missing, out of range or given twice, or one for a network without it.
        """
        if isinstance(mask := inputs.get("mask"), ImageSource):
            inputs = {**inputs, "mask": ImageSource(read_mask(mask).astype(np.uint8) * 255, mask.name)}
        if "noise_level" not in self.inputs:
            if noise_level is not None:
                raise UsageError(f"noise_level {noise_level}: this network finds the noise by itself; leave it out")
            return inputs
        if "noise_level" in inputs:
            if noise_level is not None:
                raise UsageError("noise_level: is given as a number and as an image; leave one of them out")
            return inputs
        if noise_level is None:
            raise UsageError(
                "this network takes the noise level: give its deviation in gray levels (--set noise_level=25), or an "
                "image of it as the input noise_level"
            )
        noise_level = _number(noise_level)
        image = inputs.get("image")
        if not isinstance(image, ImageSource):
            return inputs
        # Whole gray levels are of 8 bit, which exported graphs take as they are.
        is_whole = noise_level == int(noise_level)
        level = np.broadcast_to(np.uint8(noise_level) if is_whole else np.float32(noise_level), image.size)
        white = None if is_whole else 255.0
        return {**inputs, "noise_level": ImageSource(level, f"noise level {noise_level:g}", white)}

    def cautions(self, *, noise_level: float | None = None, **options: Any) -> tuple[str, ...]:
        """A noise level that the network was not trained on."""
        if noise_level is None or self.noise_levels is None or "noise_level" not in self.inputs:
            return ()
        low, high = self.noise_levels
        if low <= _number(noise_level) <= high:
            return ()
        return (
            f"noise_level {noise_level:g}: the network was trained on {low:g} to {high:g}, and its result may be poor",
        )

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
            DataError: The image has more pixels than VISIONKIT_MAX_OUTPUT_PIXELS.
            UsageError: The tile is smaller than what the network sees, or the network allows none.
        """
        if views is not None or found is not None:
            return super().plan(image, views=views, found=found)
        check_size(image.size, 1, image.name)
        if self.architecture.whole:
            if tile:
                raise UsageError(
                    f"tile {tile}: this {self.chosen} network lets images go on at their opposite border, so it takes "
                    "them whole; leave tile out"
                )
            tile = 0
        small = tile is None and max(image.size) <= TILE
        tiles = PasteImage(image.size, grid=None if small else grid_of(image.size, self.reach, tile))
        return Plan(tiles.views, tiles)

    def augmented(self, run: Callable[..., Any], *, ensemble: bool = False, **options: Any) -> Callable[..., Any]:
        """With `ensemble`, the mean over the eight flipped and turned forms; takes eight times as long.

        Raises:
            UsageError: The network does not allow flipped images.
        """
        if ensemble and not self.allows_flips:
            raise UsageError(
                f"ensemble: {self.chosen} is made for one kernel of blur, which would be flipped and rotated with the "
                "image; leave ensemble out"
            )
        return ensembled(run, "restored") if ensemble else run

    @property
    def allows_flips(self) -> bool:
        """Whether flipped and rotated images may be restored as well, see `RestorationArchitecture`."""
        return self.architecture.allows_flips

    @property
    def reach(self) -> TileMargins:
        """How far the receptive field of the network reaches, found once."""
        if self._reach is None:
            self._reach = self.architecture.margins(self.network)
        if self._reach is None:
            network = self.architecture.thin().build(None, self.input.channels)
            with torch.inference_mode(False):
                self._reach = find_reach(network.body, network.body.divisor, self.input.channels)
        return self._reach

    def measure(self, decoded: Tensor, batch: Batch) -> None:
        sizes = {each.resized for each in batch["geometry"]}
        if len(sizes) > 1:
            raise UsageError(
                "images of different sizes are measured one at a time, as they are served; set data.eval_batch_size 1"
            )
        height, width = sizes.pop()
        given, target = batch["inputs"], batch["target"]
        mask = given["mask"][:, :1, :height, :width] > 127 if "mask" in given else None
        self.metrics.update(
            decoded[..., :height, :width],
            target["clean"],
            given["image"][..., :height, :width],
            mask,
            target.get("gray", ()),
        )

    def analysis(self) -> Analysis:
        return ImageAnalysis(self.monitor)

    @property
    def protocol(self) -> str:
        quality = self.metrics["quality"]
        assert isinstance(quality, RestorationQuality)
        return str(quality.protocol)


def _number(noise_level: Any) -> float:
    """The noise level of a call, which may come from a person or a program.

    Raises:
        UsageError: No number of gray levels.
    """
    is_number = isinstance(noise_level, (int, float)) and not isinstance(noise_level, bool)
    if not is_number or not 0 <= noise_level <= 255:
        raise UsageError(f"noise_level {noise_level}: allowed are 0 to 255 gray levels")
    return float(noise_level)
