"""Optical flow: how far every pixel of one image moves to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from tasks.optical_flow.architectures.base import FlowArchitecture
from tasks.optical_flow.loss import known_pixels
from tasks.optical_flow.metrics import build_metrics, error_vectors
from tasks.optical_flow.network import FlowOutputs
from tasks.optical_flow.postprocess import DecodedFlow, to_predictions
from tasks.optical_flow.public import load_public
from visionkit.analysis.base import Analysis
from visionkit.architecture_task import ArchitectureTask
from visionkit.architectures import Architectures
from visionkit.errors import UsageError
from visionkit.families.matching.analysis import PixelAnalysis
from visionkit.families.matching.warp import consistent
from visionkit.geometry import Geometry, InputSpec
from visionkit.nn.normalize import Normalize
from visionkit.predictions import Prediction
from visionkit.task import VisionTask
from visionkit.types import Batch


class OpticalFlowTask(ArchitectureTask):
    """Estimates the motion of every pixel from a first image to a second one.

    Args:
        architecture: `flownet_s` or `flownet_c` (Dosovitskiy et al., 2015), or `raft` (Teed & Deng, 2020).
        max_flow: Longest motion in input pixels that is trained on; longer ones are left out of the loss.
        **shared: See `VisionTask`; each architecture has its arguments under its name. By default images are taken at
            their own size, and `size` of the input is only that of an example.

    Example:
        >>> task = OpticalFlowTask("flownet_s", flownet_s={"width": 0.25})
        >>> images = torch.zeros(1, 3, 64, 128, dtype=torch.uint8)
        >>> task(images, images).flow.shape
        torch.Size([1, 2, 64, 128])
    """

    name = "optical_flow"
    title = "Optical flow"
    question = "How far does every pixel move from one image to the next?"
    kinds = ("flow",)
    monitor = ("val/epe", "min")
    inputs = ("first", "second")
    also_inputs = {"second": "image"}  # noqa: RUF012  (as the class states its other facts)
    targets = ("flow", "valid")
    outputs = FlowOutputs
    public_schemes = ("torchvision",)
    architectures = Architectures[FlowArchitecture]("optical_flow")
    withheld = ("classes",)

    architecture: FlowArchitecture

    def __init__(self, architecture: str = "flownet_s", *, max_flow: float = 400.0, **shared: Any) -> None:
        shared["input"] = InputSpec.of(shared.get("input"), self.default_input())
        super().__init__(architecture=architecture, **shared)
        divisor, spec = self.architecture.divisor, self.input
        sides = (*spec.size, *((spec.divisor,) if spec.resize_mode == "native" else ()))
        if not spec.tied or any(side % divisor for side in sides):
            raise UsageError(
                f"model.input: {self.chosen} takes two images of one size (tied) whose sides are multiples of "
                f"{divisor}, not size {list(spec.size)} with divisor {spec.divisor} and tied {spec.tied}"
            )
        if not max_flow > 0:
            raise UsageError(f"model.max_flow {max_flow}: a number of pixels above 0 is needed")
        self.max_flow = max_flow
        self.network = self.architecture.build(None, spec.channels)
        self.started_from = getattr(self.network, "started_from", "")
        self.normalize = Normalize((0.0,), (1.0,))
        self.metrics = build_metrics()

    @classmethod
    def default_input(cls, **init_args: Any) -> InputSpec:
        """Images at their own size, whose borders repeat the pixel at the edge up to a multiple of 64."""
        return InputSpec((384, 512), "native", divisor=64, fill=None)

    @classmethod
    def from_public(cls, scheme: str, name: str) -> VisionTask:
        """Torchvision's RAFT, such as `torchvision:raft_large`.

        Raises:
            UsageError: There are no public weights of that name.
            EnvironmentFault: The weights are not in the cache and cannot be brought.
        """
        return load_public(cls, scheme, name)

    def resolved(self) -> dict[str, Any]:
        # What a checkpoint holds does not depend on where its weights began.
        return {**super().resolved(), self.chosen: self.architecture.stored()}

    def losses(self, outputs: FlowOutputs, target: Any) -> dict[str, Tensor]:
        truth = target["flow"]
        known = known_pixels(truth, target["valid"], self.max_flow)
        return self.architecture.losses(self.network, outputs, truth, known)

    def decode(self, outputs: FlowOutputs) -> DecodedFlow:
        """Flow in input pixels."""
        return DecodedFlow(outputs.flow.float(), outputs.consistent)

    def restore(self, decoded: DecodedFlow, geometry: Sequence[Geometry]) -> list[Prediction]:
        return list(to_predictions(decoded, geometry))

    def augmented(self, run: Callable[..., Any], *, consistency: bool = False, **options: Any) -> Callable[..., Any]:
        """With `consistency`, the flow back is estimated too, and what disagrees is not valid; takes twice as long."""

        def both(first: Tensor, second: Tensor) -> Any:
            outputs, back = run(first, second), run(second, first)
            return outputs._replace(consistent=consistent(outputs.flow.float(), back.flow.float()))

        return both if consistency else run

    def measure(self, decoded: DecodedFlow, batch: Batch) -> None:
        target, geometry = batch["target"], batch["geometry"]
        error, length = error_vectors(decoded.flow, target["flow"], geometry)
        self.metrics.update(error, length, target["valid"], target.get("occluded"))

    def analysis(self) -> Analysis:
        return PixelAnalysis("flow")

    @property
    def protocol(self) -> str:
        height, width = self.input.size
        native = self.input.resize_mode == "native"
        size = "file size" if native else f"{self.input.resize_mode} to {height}x{width}"
        return (
            "over all known pixels of all pairs, errors in file pixels; bad1, bad3 and bad5 are above 1, 3 and 5 px, "
            f"fl_all above 3 px and 5 % of the true length; {size}"
        )
