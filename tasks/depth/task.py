"""Monocular depth: how far is every pixel, in meters, or in order from near to far."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from torch import Tensor

from tasks.depth.loss import DepthLoss
from tasks.depth.metrics import CROPS, Crop, build_metrics, crop_mask
from tasks.depth.network import Bins, Bounded, DepthNetwork, DepthOutputs, Nearness, Output
from tasks.depth.postprocess import to_predictions
from visionkit.analysis.base import Analysis
from visionkit.architecture_task import ArchitectureTask
from visionkit.architectures import Architectures
from visionkit.backbone_task import BackboneTask
from visionkit.errors import UsageError, suggest
from visionkit.families.dense.architectures import DenseArchitecture
from visionkit.families.dense.depth_alignment import Alignment
from visionkit.families.dense.depth_analysis import DepthAnalysis
from visionkit.families.dense.depth_measures import LEAST
from visionkit.geometry import Geometry, InputSpec
from visionkit.nn.normalize import Normalize
from visionkit.predictions import Prediction
from visionkit.types import Batch

log = logging.getLogger(__name__)

_MOST_BEYOND = 0.5

DEFAULT_LOSSES = {False: {"silog": 1.0, "log_l1": 1.0, "gradient": 0.25}, True: {"scale_shift_invariant": 1.0}}


class DepthTask(ArchitectureTask, BackboneTask):
    """Estimates depth at every pixel from one image.

    Args:
        architecture: `unet`, `fpn`, `pspnet`, `deeplabv3plus`, `upernet`, `segformer`, `dpt` or `fcn`.
        relative: Predict inverse depth up to a scale and a shift, for data of mixed or unknown units; else meters.
        output: Output of metric depth: `sigmoid` bounded between `min_depth` and `max_depth`, or `bins` the mean over
            depths.
        bins: For `bins`, how many.
        min_depth: Meters; nearest that the network can state.
        max_depth: Meters; farthest that it can state, and the cap of losses and metrics.
        losses: Weight of each loss by name: `silog`, `log_l1`, `berhu`, `gradient`; for relative depth
            `scale_shift_invariant`.
        loss_options: Arguments of the losses by name.
        eval_crop: Part of the image that metrics process: `none`, `eigen` (NYU), `eigen_kitti`, `garg`.
        alignment: Before measuring: `none`, `median` scale, or `least_squares` scale and shift (relative depth always).
        dropout: Dropout probability before the last convolution.
        **shared: See `BackboneTask`; each architecture has its arguments under its name. The input is by default the
            whole image stretched to 240x320.

    Example:
        >>> task = DepthTask("resnet18", architecture="unet")
        >>> task(torch.zeros(1, 3, 240, 320, dtype=torch.uint8)).depth.shape
        torch.Size([1, 240, 320])
    """

    name = "depth"
    title = "Depth"
    question = "How far away is what every pixel shows?"
    kinds = ("depth_map",)
    monitor = ("val/abs_rel", "min")
    targets = ("depth",)
    outputs = DepthOutputs
    architectures = Architectures[DenseArchitecture]("depth")
    withheld = ("classes",)

    def __init__(
        self,
        backbone: str = "resnet18",
        *,
        architecture: str = "unet",
        relative: bool = False,
        output: Output = "sigmoid",
        bins: int = 64,
        min_depth: float = 0.1,
        max_depth: float = 10.0,
        losses: Mapping[str, float] | None = None,
        loss_options: Mapping[str, Mapping[str, Any]] | None = None,
        eval_crop: Crop = "none",
        alignment: Alignment | None = None,
        dropout: float = 0.0,
        **shared: Any,
    ) -> None:
        super().__init__(backbone, architecture=architecture, **shared)
        if not LEAST <= min_depth < max_depth:
            raise UsageError(
                f"model.min_depth {min_depth:g} and max_depth {max_depth:g}: give meters, from {LEAST:g} on, near first"
            )
        for option, value, allowed in (("output", output, get_args(Output)), ("eval_crop", eval_crop, tuple(CROPS))):
            if value not in allowed:
                raise UsageError(f"model.{option} {value!r}: allowed are {', '.join(allowed)}{suggest(value, allowed)}")
        if bins < 2:
            raise UsageError(f"model.bins {bins}: at least 2")
        self.relative, self.bounds, self.eval_crop = relative, (float(min_depth), float(max_depth)), eval_crop
        self.alignment = _alignment(alignment, relative)
        prediction: Bounded | Bins | Nearness
        if relative:
            prediction = Nearness()
        else:
            prediction = Bounded(*self.bounds) if output == "sigmoid" else Bins(*self.bounds, bins)
        self.network = DepthNetwork.with_output_layer(
            backbone, self.architecture, prediction, dropout=dropout, **self.backbone_arguments
        )
        body = self.network.backbone
        self.normalize = Normalize(body.mean, body.std)
        self.loss = DepthLoss(losses or DEFAULT_LOSSES[relative], loss_options, relative)
        self.metrics = build_metrics(max_depth, self.alignment, relative)
        self._warned = False

    @classmethod
    def default_input(cls, backbone: str = "resnet18", **init_args: Any) -> InputSpec:
        """The whole image at 240x320, the ratio of most depth cameras."""
        return InputSpec(size=(240, 320), resize_mode="stretch")

    def losses(self, outputs: DepthOutputs, target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        truth = target["depth"]
        terms: dict[str, Tensor] = self.loss(outputs.depth, truth, (truth > LEAST) & (truth <= self.bounds[1]))
        return terms

    def decode(self, outputs: DepthOutputs) -> Tensor:
        """(B, h, w) float32: meters, or inverse depth of a relative network."""
        return outputs.depth.float()

    def restore(self, decoded: Tensor, geometry: Sequence[Geometry]) -> list[Prediction]:
        return list(to_predictions(decoded, geometry, not self.relative, self.bounds))

    def measure(self, decoded: Tensor, batch: Batch) -> None:
        truth = batch["target"]["depth"]
        mask = None
        if self.eval_crop != "none":
            mask = crop_mask(batch["geometry"], (truth.shape[-2], truth.shape[-1]), self.eval_crop).to(truth.device)
        self.metrics.update(decoded, truth, mask)

    def tabulate(self, computed: Mapping[str, Tensor]) -> dict[str, list[dict[str, Any]]]:
        missing = int(computed["unmeasured"])
        if missing:
            log.warning(
                "%d image(s) have no measured depth between %g and %g m%s; they count in no metric",
                *(
                    missing,
                    LEAST,
                    self.bounds[1],
                    "" if self.eval_crop == "none" else f" within the crop {self.eval_crop}",
                ),
            )
        self._warn_of_unit(float(computed["beyond"]), float(computed["delta1"]), float(computed["abs_rel"]))
        return {}

    def _warn_of_unit(self, beyond: float, delta1: float, abs_rel: float) -> None:
        """Warns once of what a wrong unit of the data looks like."""
        trainer: Any = self._trainer
        if self._warned or (trainer is not None and trainer.sanity_checking):
            return
        unit = "if that is wrong, set --data.units_per_meter (TUM's files have 5000, KITTI's 256, most others 1000)"
        self._warned = True
        if beyond > _MOST_BEYOND:
            log.warning(
                "%.0f %% of the measured depth is beyond model.max_depth (%g m), is not used for training and counts "
                "in no metric; set --model.max_depth to what the data has, or, %s",
                *(100 * beyond, self.bounds[1], unit),
            )
        elif not self.relative and delta1 == 0 and abs_rel > 0:
            log.warning("delta1 is 0: no pixel is within a factor of 1.25 of the measured depth; %s", unit)
        else:
            self._warned = False

    def analysis(self) -> Analysis:
        return DepthAnalysis(self.bounds[1], self.alignment, self.relative, CROPS[self.eval_crop])

    @property
    def protocol(self) -> str:
        height, width = self.input.size
        how = {
            "none": "no alignment",
            "median": "scaled by the ratio of medians, image by image",
            "least_squares": f"scale and shift of {'inverse depth' if self.relative else 'depth'} by least squares, "
            "image by image",
        }[self.alignment]
        size = "file size" if self.input.resize_mode == "native" else f"{self.input.resize_mode} to {height}x{width}"
        return (
            f"mean of per-image values over measured pixels from {LEAST:g} to {self.bounds[1]:g} m, crop "
            f"{self.eval_crop}, {how}, {size}"
        )


def _alignment(alignment: Alignment | None, relative: bool) -> Alignment:
    allowed = get_args(Alignment)
    if alignment is not None and alignment not in allowed:
        raise UsageError(
            f"model.alignment {alignment!r}: allowed are {', '.join(allowed)}{suggest(alignment, allowed)}"
        )
    if relative and alignment not in (None, "least_squares"):
        raise UsageError(
            f"model.alignment {alignment!r}: relative depth has neither scale nor shift; use least_squares"
        )
    return alignment or ("least_squares" if relative else "none")
