"""Pose estimation: where are the keypoints of each person, animal or hand?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar

import numpy as np
from torch import Tensor
from torchmetrics import MetricCollection

from tasks.pose.analysis import PoseAnalysis
from tasks.pose.architecture import PoseArchitecture, PoseLimits
from tasks.pose.architectures.keypoint_rcnn import PUBLIC, fetch_public, load_torchvision, public_arguments
from tasks.pose.flipping import check_flip_test, flip_averaged
from tasks.pose.loss import as_targets
from tasks.pose.measures import errors_protocol, fractions_protocol
from tasks.pose.metrics import PoseMetrics, image_id, image_table, keypoint_table, truth_of
from tasks.pose.network import HeatmapOutputs
from tasks.pose.postprocess import PoseCandidates, in_file, merge_crops, to_predictions
from visionkit.analysis.base import Analysis
from visionkit.architecture_task import ArchitectureTask
from visionkit.architectures import Architectures
from visionkit.backbone_task import BackboneTask
from visionkit.backbones import Backbone
from visionkit.crops import PersonCrop, whole_image_box
from visionkit.errors import UsageError, suggest
from visionkit.families.keypoints.heatmaps import Decoding
from visionkit.families.keypoints.oks import PoseResults
from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageSource
from visionkit.nn.normalize import Normalize
from visionkit.nn.norms import Norm, set_batch_norm
from visionkit.predictions import Poses, Prediction
from visionkit.report import PER_IMAGE
from visionkit.run_report.charts import Bars, Chart
from visionkit.skeleton import AREA_NOTE, Skeleton
from visionkit.task import VisionTask
from visionkit.tiling import Located, MergeObjects, Plan, Views
from visionkit.types import Batch, View


class PoseTask(ArchitectureTask, BackboneTask):
    """Finds the keypoints of a skeleton: of one person per crop (top-down), or of all people of an image (bottom-up).

    Args:
        architecture: `simple_baseline` (Xiao et al., 2018), `cpm` (Convolutional Pose Machine, Wei et al., 2016) and
            `deeppose` (Toshev and Szegedy, 2014) process one person per crop; `openpose` (part affinity fields, Cao et
            al., 2017), `keypoint_rcnn` (He et al., 2017) and `dfine` (Peng et al., 2024) a whole image.
        skeleton: A shipped name (`coco17`, `mpii16`, `lsp14`, `ap10k17`, `hand21`, `face5`), the path of a yaml file,
            or its content.
        crop: For networks of one person per crop, how the crop follows from a box; the data crops by it too.
        flip_tta: When it does not train, also process the flipped image and take the mean; takes twice as long.
        backbone_norm: Batch norms of the backbone: `batch` (trained), `frozen` (as the public network was trained) or
            `group` (for small batches).
        norm_eps: For `frozen`, what is added to the variance, where it is not the backbone's own.
        score_threshold: Score from which a person is shown.
        keypoint_threshold: Score from which a keypoint is shown as visible.
        **shared: See `BackboneTask`; each architecture has its arguments under its name.

    Example:
        >>> task = PoseTask("resnet18", skeleton="coco17")
        >>> task(torch.zeros(1, 3, 256, 192, dtype=torch.uint8)).heatmaps.shape
        torch.Size([1, 1, 17, 64, 48])
    """

    name = "pose"
    title = "Pose"
    question = "Where are the keypoints of a body?"
    kinds = ("poses",)
    monitor = ("val/ap", "max")
    targets = ("keypoints",)
    outputs: ClassVar[type[tuple[Any, ...]]] = HeatmapOutputs
    public_schemes = ("torchvision",)
    architectures = Architectures[PoseArchitecture]("pose")

    architecture: PoseArchitecture
    network: Any

    def __init__(
        self,
        backbone: str = "resnet50",
        *,
        architecture: str = "simple_baseline",
        skeleton: str | dict[str, Any] | None = None,
        crop: PersonCrop | None = None,
        flip_tta: bool = False,
        backbone_norm: Norm = "batch",
        norm_eps: float | None = None,
        score_threshold: float = 0.3,
        keypoint_threshold: float = 0.3,
        **shared: Any,
    ) -> None:
        shared["input"] = InputSpec.of(shared.get("input"), self.default_input(backbone, architecture))
        super().__init__(backbone, architecture=architecture, **shared)
        chosen = self.architecture
        self.skeleton = Skeleton.of("coco17" if skeleton is None else skeleton)
        self.classes = self.classes or (self.skeleton.subject,)
        if len(self.classes) != 1:
            raise UsageError(
                f"model.classes: {len(self.classes)} are given, and a skeleton belongs to one type of subject; "
                "let data.classes name one"
            )
        self.crop = self._crop(crop)
        self.score_threshold, self.keypoint_threshold = score_threshold, keypoint_threshold
        body = Backbone(backbone, strides=chosen.maps, use_final=False, **self.backbone_arguments)
        body.model = set_batch_norm(body.model, backbone_norm, norm_eps)
        self.network = chosen.build(body, self.skeleton, self.input)
        self.outputs = chosen.outputs  # type: ignore[misc]
        self.normalize = Normalize(body.mean, body.std)
        self.metrics = MetricCollection({"poses": PoseMetrics(self.skeleton)})
        if flip_tta:
            check_flip_test(self)
            self.network.flip_tta = True

    def _crop(self, given: PersonCrop | Mapping[str, Any] | None) -> PersonCrop | None:
        if self.architecture.whole:
            if given is not None:
                raise UsageError(f"model.crop: {self.chosen} processes whole images; leave the crop out")
            return None
        return PersonCrop(**given) if isinstance(given, Mapping) else given or PersonCrop()

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if not getattr(self._trainer, "global_step", 0):  # a training ends with an evaluation of its own
            self.skeleton.warn_without_sigmas()

    # ------------------------------------------------------------------ what belongs together with the data

    @classmethod
    def default_input(
        cls, backbone: str = "resnet50", architecture: str = "simple_baseline", **init_args: Any
    ) -> InputSpec:
        """A crop of 256x192, or a letterbox of 384x384 for networks of whole images."""
        if architecture in cls.architectures and cls.architectures[architecture].whole:
            return InputSpec(size=(384, 384), resize_mode="letterbox")
        return InputSpec(size=(256, 192), resize_mode="stretch")

    @classmethod
    def linked(cls, name: str, **init_args: Any) -> Any:
        """The crop, by which the data knows whether this network processes people or whole images."""
        chosen = cls.architectures.get(init_args.get("architecture") or "simple_baseline")
        if name == "crop" and chosen is not None and not chosen.whole:
            return asdict(PersonCrop())
        return None

    def resolved(self) -> dict[str, Any]:
        return {**super().resolved(), "skeleton": self.skeleton, "crop": self.crop}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses weights that were trained for other keypoints, even where their number is the same."""
        super().on_load_checkpoint(checkpoint)
        stored = checkpoint.get("visionkit", {}).get("config", {}).get("skeleton")
        if stored is None:
            return
        known = Skeleton.of(stored)
        for number, (a, b) in enumerate(zip(known.keypoints, self.skeleton.keypoints, strict=False)):
            if a != b:
                raise UsageError(
                    f"the checkpoint's keypoint {number} is {a!r} and that of skeleton {self.skeleton.name} is {b!r}; "
                    "train again or give the same skeleton"
                )
        if len(known) != len(self.skeleton):
            raise UsageError(
                f"the checkpoint knows {len(known)} keypoints and skeleton {self.skeleton.name} has "
                f"{len(self.skeleton)}; train again or give the same skeleton"
            )

    # ------------------------------------------------------------------ learning

    def losses(self, outputs: Any, target: Any) -> dict[str, Tensor]:
        return self.architecture.losses(self.network, outputs, as_targets(target))

    def measure(self, decoded: Sequence[PoseCandidates], batch: Batch) -> None:
        found, true = [], []
        for people, target, geometry, name in zip(
            decoded, batch["target"], batch["geometry"], batch["id"], strict=True
        ):
            there = in_file(people, geometry, self.skeleton)
            # A box from a detector brings its score; 0 states that there was no box and the crop is not a prediction.
            sure = float(target["found"]) if "found" in target else 1.0
            scores = there.scores.double().numpy() * sure
            keep = scores > 0 if "found" in target else np.ones(len(scores), bool)
            number = image_id(name)
            found.append(PoseResults(np.full(int(keep.sum()), number), there.places.numpy()[keep], scores[keep]))
            if "file_keypoints" in target:
                keypoints = target["file_keypoints"]
            else:
                keypoints = target["keypoints"].cpu().double()
                keypoints[..., :2] = geometry.invert_points(keypoints[..., :2])
            true.append(truth_of(target, keypoints, name))
        self.metrics.update(found, true)

    def tabulate(self, computed: Mapping[str, Tensor]) -> dict[str, list[dict[str, Any]]]:
        if "keypoints" not in computed:
            return {}
        images = image_table(computed["images"], self.metrics["poses"].names)  # type: ignore[arg-type]
        return {"per keypoint": keypoint_table(computed["keypoints"], self.skeleton), PER_IMAGE: images}

    def analysis(self) -> Analysis:
        return PoseAnalysis(self.skeleton)

    def charts(self) -> dict[str, Chart]:
        return {"per keypoint": Bars("keypoint", "PCKh" if self.skeleton.head else "PCK")}

    @property
    def protocol(self) -> str:
        height, width = self.input.size
        looked = f"whole images, {self.input.resize_mode} to {height}x{width}"
        if self.crop is not None:
            looked = (
                f"one crop per person of {height}x{width} (box x {self.crop.padding:g}), boxes as the data gives them"
            )
        errors, read = errors_protocol(self.skeleton), self.architecture.reading
        flipped = "on" if getattr(self.network, "flip_tta", False) else "off"
        return (
            f"COCO OKS AP/AR (.50:.05:.95, at most 20 per image, {self.skeleton.sigmas_note}, {AREA_NOTE}); "
            f"{fractions_protocol(self.skeleton)}; {f'{errors}; ' if errors else ''}{looked}; {read} decoding, "
            f"flip test {flipped}"
        )

    # ------------------------------------------------------------------ serving

    def has_tta(self) -> str:
        if self.crop is not None:
            return f"architecture {self.chosen} (one person per crop; openpose takes whole images)"
        return "flip_tta" if getattr(self.network, "flip_tta", False) else ""

    def plan(
        self, image: ImageSource, *, views: Views | None = None, found: Located | None = None, **options: Any
    ) -> Plan:
        """Crops of the people that were found; without them, for networks of one person per crop, the whole image."""
        if found is not None:
            if self.crop is None:
                return super().plan(image, found=found)
            views = [View(self.crop.region(box, self.input.size)) for box in found.boxes]
        elif views is None:
            views = (None if self.crop is None else View(whole_image_box(image.size, self.input.size)),)
        nobody = Poses.none(self.skeleton, self.score_threshold, self.keypoint_threshold)
        return Plan(views, MergeObjects(partial(merge_crops, found=found, nobody=nobody)), crops=found is not None)

    def augmented(self, run: Callable[..., Any], *, flip_tta: bool = False, **options: Any) -> Callable[..., Any]:
        """With `flip_tta`, the mean with the outputs on the flipped image; takes twice as long."""
        if not flip_tta or getattr(self.network, "flip_tta", False):  # which then does so by itself
            return run
        check_flip_test(self)
        return flip_averaged(run, self.network.flipped)

    def decode(
        self, outputs: Any, decoding: Decoding | None = None, max_people: int | None = None, *, second: Any = None
    ) -> list[PoseCandidates]:
        """The people of each image or crop, in input pixels.

        Args:
            outputs: Outputs of the network.
            decoding: Decoding that replaces the task's own; of Gaussians alone.
            max_people: Maximum number of people of a whole image: 100 by default, 30 for `openpose`.
            second: For `keypoint_rcnn`, the engine of the second stage in place of the network's own.
        """
        return self.architecture.decode(self.network, outputs, PoseLimits(decoding, max_people, second))

    def second_stage(self) -> Any:
        return self.network.second_stage() if hasattr(self.network, "second_stage") else None

    @classmethod
    def from_public(cls, scheme: str, name: str) -> VisionTask:
        """Torchvision's Keypoint R-CNN with its COCO weights, `torchvision:keypointrcnn_resnet50_fpn`.

        Raises:
            UsageError: There are no public weights of that name.
            EnvironmentFault: The weights are not in the cache and cannot be brought.
        """
        if (scheme, name) != ("torchvision", PUBLIC):
            raise UsageError(f"{scheme}:{name}: poses know torchvision:{PUBLIC}{suggest(name, [PUBLIC])}")
        return load_torchvision(cls(**public_arguments()), fetch_public())  # type: ignore[no-any-return]

    def restore(self, decoded: Sequence[PoseCandidates], geometry: Sequence[Geometry]) -> list[Prediction]:
        return list(to_predictions(decoded, geometry, self.skeleton, self.score_threshold, self.keypoint_threshold))
