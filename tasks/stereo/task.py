"""Stereo: the disparity of the left image of a rectified pair, from which its depth follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tasks.stereo.architecture import StereoArchitecture
from tasks.stereo.loss import known
from tasks.stereo.metrics import build_metrics
from tasks.stereo.postprocess import file_scale, to_predictions
from visionkit.analysis.base import Analysis
from visionkit.architecture_task import ArchitectureTask
from visionkit.architectures import Architectures
from visionkit.errors import UsageError
from visionkit.families.matching.analysis import PixelAnalysis
from visionkit.geometry import Geometry, InputSpec
from visionkit.nn.normalize import Normalize
from visionkit.predictions import Prediction
from visionkit.types import Batch


class StereoTask(ArchitectureTask):
    """Estimates the disparity between the two images of a rectified pair.

    Args:
        architecture: `psmnet`, `psmnet_small`, `timm_cost_volume` for any timm backbone, `mc_cnn_fast` or
            `mc_cnn_accurate`.
        **shared: See `VisionTask`; each architecture has its arguments under its name. By default pairs are taken at
            their own size, so a pixel of disparity is a pixel of the file.

    Example:
        >>> task = StereoTask("psmnet_small")
        >>> pair = torch.zeros(1, 3, 64, 96, dtype=torch.uint8), torch.zeros(1, 3, 64, 96, dtype=torch.uint8)
        >>> task(*pair).disparity.shape
        torch.Size([1, 64, 96])
    """

    name = "stereo"
    title = "Stereo"
    question = "How far apart do the two cameras see each point?"
    kinds = ("disparity_map",)
    monitor = ("val/epe", "min")
    inputs = ("left", "right")
    targets = ("disparity",)
    architectures = Architectures[StereoArchitecture]("stereo")
    withheld = ("classes",)

    architecture: StereoArchitecture

    def __init__(self, architecture: str = "psmnet_small", **shared: Any) -> None:
        shared["input"] = InputSpec.of(shared.get("input"), self.default_input(architecture))
        super().__init__(architecture=architecture, **shared)
        self.outputs = self.architecture.outputs  # type: ignore[misc]
        self._check_input(self.input)
        self.network = self.architecture.build(None, self.input)
        self.normalize = Normalize((0.0,), (1.0,))
        self.metrics = build_metrics()

    @classmethod
    def default_input(cls, architecture: str = "psmnet_small", **init_args: Any) -> InputSpec:
        """Pairs at their own size, whose borders repeat the pixel at the edge up to a multiple of the divisor."""
        kind = cls.architectures.get(architecture, StereoArchitecture)
        return InputSpec((256, 512), "native", divisor=kind.divisor, fill=None)

    def _check_input(self, spec: InputSpec) -> None:
        divisor = self.architecture.divisor
        sides = (spec.divisor,) if spec.resize_mode == "native" else spec.size
        if spec.channels != 3 or not spec.tied or any(side % divisor for side in sides):
            raise UsageError(
                f"model.input: {self.chosen} takes tied pairs in color whose sides are multiples of {divisor}, not "
                f"channels {spec.channels}, tied {spec.tied}, size {list(spec.size)} and divisor {spec.divisor}"
            )
        if spec.resize_mode == "crop":
            raise UsageError(
                "model.input.resize_mode crop: stereo takes whole images; set native, stretch or letterbox"
            )

    def resolved(self) -> dict[str, Any]:
        return {**super().resolved(), self.chosen: self.architecture.stored()}

    def losses(self, outputs: Any, target: Any) -> dict[str, Tensor]:
        return self.architecture.losses(self.network, outputs, target)

    def decode(self, outputs: Any) -> Tensor:
        """(B, h, w) float32 disparity in pixels of the input."""
        return self.architecture.decode(self.network, outputs)

    def restore(self, decoded: Tensor, geometry: Sequence[Geometry]) -> list[Prediction]:
        return list(to_predictions(decoded, geometry))

    def measure(self, decoded: Tensor, batch: Batch) -> None:
        target, scale = batch["target"], file_scale(batch["geometry"], decoded)
        truth = target["disparity"]
        height, width = truth.shape[-2:]
        ours = decoded[..., :height, :width].clamp(min=1e-3)
        self.metrics.update(ours * scale, truth * scale, known(target), target.get("occluded"))

    def analysis(self) -> Analysis:
        return PixelAnalysis("disparity")

    @property
    def protocol(self) -> str:
        height, width = self.input.size
        size = "file size" if self.input.resize_mode == "native" else f"{self.input.resize_mode} to {height}x{width}"
        return (
            "over all measured pixels of all images, errors in file pixels; bad1, bad2 and bad3 are above 1, 2 and 3 "
            f"px, d1 above 3 px and 5 %; {size}"
        )
