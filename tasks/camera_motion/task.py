"""Camera motion: how did the camera move, and how far is what it sees; learned from video without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from tasks.camera_motion.loss import NeighborRule, PhotometricLoss
from tasks.camera_motion.metrics import KnownDepthMeasures, TrajectoryErrors
from tasks.camera_motion.network import MotionNetwork, MotionOutputs
from tasks.camera_motion.pose_network import PairedPoses, PoseNet, PoseNetworkName
from tasks.camera_motion.postprocess import MotionAndDepth, to_predictions
from tasks.camera_motion.session import MotionSession
from visionkit.architecture_task import ArchitectureTask
from visionkit.architectures import Architectures
from visionkit.backbone_task import BackboneTask
from visionkit.errors import UsageError, suggest
from visionkit.families.dense.architectures import DenseArchitecture
from visionkit.geometry import Geometry, InputSpec
from visionkit.nn.normalize import Normalize
from visionkit.predictions import Prediction
from visionkit.session import Session
from visionkit.types import Batch


class CameraMotionTask(ArchitectureTask, BackboneTask):
    """Learns depth and the motion of the camera from clips alone (Zhou et al., 2017; Godard et al., 2019).

    Training needs the camera's intrinsics. Depth and motion share a unit of the model's own, which is no meter.

    Args:
        architecture: Decoder of the depth: `unet`, `fpn`, `pspnet`, `deeplabv3plus`, `upernet`, `segformer`, `dpt` or
            `fcn`.
        pose_network: `pairs`, a backbone over two frames at a time (Godard et al., 2019), or `posenet`, the network of
            SfMLearner over the whole clip.
        pose_backbone: Backbone of `pairs`; that of the depth by default.
        nearest: Smallest depth that can be stated, in the model's own unit.
        farthest: Largest depth that can be stated.
        ssim: Weight of structure against absolute differences in the loss, 0 to 1.
        smoothness: Weight of the depth's smoothness in the loss.
        scales: Number of sizes at which frames are compared, each half of the one before.
        auto_mask: Leave out pixels that stay as they are from frame to frame, as of what moves with the camera.
        neighbors: Which neighbor a pixel is compared with: the `best` one, or the `mean` of all, from which networks
            that begin with no idea of motion learn it faster.
        depth_cap: Meters beyond which true depth does not count in the metrics.
        **shared: See `BackboneTask`; each architecture has its arguments under its name. The input is by default clips
            of 3 frames, stretched to 128x160.

    Example:
        >>> task = CameraMotionTask("resnet18")
        >>> task(torch.zeros(1, 3, 3, 128, 160, dtype=torch.uint8)).motions.shape
        torch.Size([1, 2, 4, 4])
    """

    name = "camera_motion"
    title = "Camera motion"
    question = "How did the camera move, and how far is what it sees?"
    kinds = ("camera_motion",)
    monitor = ("val/loss", "min")
    targets = ("intrinsics",)
    outputs = MotionOutputs
    architectures = Architectures[DenseArchitecture]("depth")
    withheld = ("classes",)

    def __init__(
        self,
        backbone: str = "resnet18",
        *,
        architecture: str = "unet",
        pose_network: PoseNetworkName = "pairs",
        pose_backbone: str | None = None,
        nearest: float = 0.1,
        farthest: float = 100.0,
        ssim: float = 0.85,
        smoothness: float = 1e-3,
        scales: int = 4,
        auto_mask: bool = True,
        neighbors: NeighborRule = "best",
        depth_cap: float = 80.0,
        **shared: Any,
    ) -> None:
        super().__init__(backbone, architecture=architecture, **shared)
        for key, value, kind in (
            ("pose_network", pose_network, PoseNetworkName),
            ("neighbors", neighbors, NeighborRule),
        ):
            if value not in get_args(kind):
                allowed = get_args(kind)
                raise UsageError(f"model.{key} {value!r}: allowed are {', '.join(allowed)}{suggest(value, allowed)}")
        if not 0 < nearest < farthest:
            raise UsageError(f"model.nearest {nearest:g} and farthest {farthest:g}: give depths above 0, nearest first")
        if not 0 <= ssim <= 1 or smoothness < 0 or scales < 1:
            raise UsageError(
                f"model.ssim {ssim:g} (0 to 1), smoothness {smoothness:g} (from 0 on), scales {scales} (from 1 on)"
            )
        frames = self.input.frames
        if frames < 3 or frames % 2 == 0:
            raise UsageError(f"model.input.frames {frames}: give an odd number from 3 on, a frame with its neighbors")
        pose: PoseNet | PairedPoses
        if pose_network == "posenet":
            pose = PoseNet(frames, self.input.channels)
        else:
            own = {name: self.backbone_arguments[name] for name in ("image_size", "drop_path_rate")}
            pretrained = bool(self.backbone_arguments["pretrained"]) and pose_backbone is None
            pose = PairedPoses(pose_backbone or backbone, self.input.channels, pretrained=pretrained, **own)
        bounds = (nearest, farthest)
        self.network = MotionNetwork.with_poses(backbone, self.architecture, pose, bounds, **self.backbone_arguments)
        body = self.network.backbone
        self.normalize = Normalize(body.mean, body.std)
        self.loss = PhotometricLoss(ssim, smoothness, scales, auto_mask, neighbors)
        self.depth_cap = depth_cap
        self.metrics = MetricCollection(
            {"depth": KnownDepthMeasures(depth_cap, "median"), "trajectory": TrajectoryErrors()}, compute_groups=False
        )

    @classmethod
    def default_input(cls, backbone: str = "resnet18", **init_args: Any) -> InputSpec:
        """Clips of three frames, stretched to 128x160."""
        return InputSpec(size=(128, 160), resize_mode="stretch", frames=3)

    def losses(self, outputs: MotionOutputs, target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        assert outputs.frames is not None
        with torch.autocast(self.device.type, enabled=False):
            terms: dict[str, Tensor] = self.loss(
                outputs, self.normalize.undone(outputs.frames.float()), target["intrinsics"]
            )
        return terms

    def decode(self, outputs: MotionOutputs) -> MotionAndDepth:
        """Depth of the last frame and the motion to it, float32."""
        return MotionAndDepth(outputs.depth.float(), outputs.motions[:, -1].float())

    def restore(self, decoded: MotionAndDepth, geometry: Sequence[Geometry]) -> list[Prediction]:
        return list(to_predictions(decoded, geometry))

    def measure(self, decoded: MotionAndDepth, batch: Batch) -> None:
        target = batch["target"]
        if "depth" in target:
            self.metrics["depth"].update(decoded.depth, target["depth"])
        if "pose" in target:
            self.metrics["trajectory"].update(decoded.motion, target["pose"], batch["sequence"], batch["frame"])

    def session(self, predictor: Any, **options: Any) -> Session:
        return MotionSession(predictor, **options)

    @property
    def protocol(self) -> str:
        height, width = self.input.size
        return (
            f"depth: mean of per-image values over measured pixels up to {self.depth_cap:g} m, scaled by the ratio of "
            f"medians, image by image, {self.input.resize_mode} to {height}x{width}; ate: RMSE of positions after "
            "Sim(3) alignment of each sequence; ate_snippet: SfMLearner's error over 5 frames"
        )
