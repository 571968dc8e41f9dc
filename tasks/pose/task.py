"""Pose estimation: where are the joints of each person, animal or hand?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from torch import Tensor
from torchmetrics import MetricCollection

from tasks.pose.codec import Decoding, Encoding
from tasks.pose.fields import MAX_PERSONS, read_persons
from tasks.pose.flipping import check_flip_test, flip_averaged
from tasks.pose.keypoint_rcnn import (
    PUBLIC,
    KeypointHead,
    fetch_public,
    keypoint_rcnn_losses,
    load_torchvision,
    persons_of_boxes,
    public_arguments,
)
from tasks.pose.loss import as_targets, field_losses, heatmap_losses, offset_losses, place_losses, single_persons
from tasks.pose.measures import errors_protocol, shares_protocol
from tasks.pose.metrics import PoseMetrics, image_table, joint_table, picture_number, truth_of
from tasks.pose.network import (
    DeconvDecoder,
    FieldOutputs,
    HeatmapNetwork,
    HeatmapOutputs,
    Mirrored,
    OffsetOutputs,
    PlaceNetwork,
    PlaceOutputs,
    StagedHead,
    mirrored_limbs,
)
from tasks.pose.oks import Found
from tasks.pose.postprocess import (
    FoundPersons,
    in_file,
    merge_crops,
    persons_of_maps,
    persons_of_offsets,
    persons_of_places,
    to_predictions,
)
from visionkit.backbones import Backbone
from visionkit.crops import PersonCrop, whole_picture
from visionkit.detection.select import Thresholds
from visionkit.detection.task import RCNN, build_backbone, build_two_stage
from visionkit.errors import UsageError, suggest
from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageSource
from visionkit.nn.normalize import Normalize
from visionkit.nn.norms import Norm
from visionkit.optim import OptimConfig
from visionkit.predictions import Poses, Prediction
from visionkit.report import PER_IMAGE
from visionkit.run_report.charts import Bars, Chart
from visionkit.skeleton import AREA_TOLD, Skeleton
from visionkit.task import VisionTask
from visionkit.tiling import Located, MergeObjects, Plan, Views
from visionkit.types import Batch, View

Architecture = Literal["simple_baseline", "deeppose", "cpm", "openpose", "keypoint_rcnn"]

STAGES = {"simple_baseline": 1, "deeppose": 1, "cpm": 3, "openpose": 3, "keypoint_rcnn": 1}
"""Where nobody says how many."""

WHOLE = ("openpose", "keypoint_rcnn")
"""Networks of whole pictures; the others look at one person a crop."""

OF_MAPS = ("simple_baseline", "cpm")
"""Networks of one map a joint, which may have offsets beside it."""

_OUTPUTS: dict[str, type[tuple[Any, ...]]] = {
    "simple_baseline": HeatmapOutputs,
    "deeppose": PlaceOutputs,
    "cpm": HeatmapOutputs,
    "openpose": FieldOutputs,
}


class PoseTask(VisionTask):
    """Finds the keypoints of a skeleton: of one person a crop (top-down), or of all persons of a picture (bottom-up).

    Args:
        backbone: Any timm backbone by name, or one of the classic networks (`visionkit models PATTERN` lists them).
        architecture: `simple_baseline` (Xiao et al., 2018), `cpm` (Convolutional Pose Machine, Wei et al., 2016) and
            `deeppose` (Toshev and Szegedy, 2014) look at one person a crop; `openpose` (part affinity fields, Cao et
            al., 2017) and `keypoint_rcnn` (He et al., 2017) at a whole picture.
        skeleton: A shipped name (`coco17`, `mpii16`, `lsp14`, `ap10k17`, `hand21`, `face5`), the path of a yaml file,
            or its content.
        classes: The one kind of subject, such as `person`.
        pretrained: Start from timm's public weights; wants the network or a filled cache.
        input: Size and fit.
        crop: For networks of one person a crop, how the crop follows from a box; the data crops by it too.
        stride: The backbone's map that is used, in pixels; what is coarser is cut off.
        deconvs: Transposed convolutions on it, each of which doubles the map.
        width: Channels of each of them; for `deeppose` of the hidden layer, twice.
        stages: How often the answer is refined, the first included; by default 1, for `cpm` and `openpose` 3.
        stage_width: Channels of the later stages of `cpm` and `openpose`.
        stage_convs: Their convolutions.
        stage_kernel: The side of these.
        sigma: Of the Gaussians that maps are taught, in cells.
        encoding: What `simple_baseline` and `cpm` are taught: `gaussian`, or `udp` (discs and offsets; Huang et al.,
            2020), where a disc has the radius 1.75 `sigma`.
        limb_width: For `openpose`, half the width of a limb's field in cells.
        decoding: How a Gaussian's peak is read: `dark` (unbiased), `quarter` or `argmax`.
        flip_test: When it does not learn, also look at the mirrored picture and take the mean; takes twice as long.
        rcnn: For `keypoint_rcnn`, its two stages; its pyramid has 256 channels unless `width` says otherwise.
        keypoint_hidden: For `keypoint_rcnn`, channels of the keypoint head.
        backbone_norm: For `keypoint_rcnn`: `batch` (alive), `frozen` (as the public one was trained) or `group`.
        norm_eps: For `frozen`, what is added to the variance, where it is not the backbone's own.
        score_threshold: Score from which a person is shown.
        joint_threshold: Score from which a joint is shown as visible.
        drop_path: Stochastic depth of the backbone, where its family has it.
        optim: How the weights are learnt.
        compile_network: See `VisionTask`.
        channels_last: See `VisionTask`.

    Example:
        >>> task = PoseTask("resnet18", skeleton="coco17")
        >>> task(torch.zeros(1, 3, 256, 192, dtype=torch.uint8)).heatmaps.shape
        torch.Size([1, 1, 17, 64, 48])
    """

    name = "pose"
    title = "Pose"
    question = "Where are the joints of a body?"
    kinds = ("poses",)
    monitor = ("val/ap", "max")
    targets = ("keypoints",)
    outputs: ClassVar[type[tuple[Any, ...]]] = HeatmapOutputs
    public_schemes = ("torchvision",)

    network: Any

    def __init__(
        self,
        backbone: str = "resnet50",
        *,
        architecture: Architecture = "simple_baseline",
        skeleton: str | dict[str, Any] | None = None,
        classes: Sequence[str] = (),
        pretrained: bool = False,
        input: InputSpec | None = None,
        crop: PersonCrop | None = None,
        stride: int = 32,
        deconvs: int = 3,
        width: int = 256,
        stages: int | None = None,
        stage_width: int = 128,
        stage_convs: int = 3,
        stage_kernel: int = 7,
        sigma: float = 2.0,
        encoding: Encoding = "gaussian",
        limb_width: float = 1.0,
        decoding: Decoding = "dark",
        flip_test: bool = False,
        rcnn: RCNN | None = None,
        keypoint_hidden: int = 512,
        backbone_norm: Norm = "batch",
        norm_eps: float | None = None,
        score_threshold: float = 0.3,
        joint_threshold: float = 0.3,
        drop_path: float = 0.0,
        optim: OptimConfig | None = None,
        compile_network: bool = False,
        channels_last: bool = True,
    ) -> None:
        for key, value, allowed in (
            ("architecture", architecture, get_args(Architecture)),
            ("encoding", encoding, get_args(Encoding)),
            ("decoding", decoding, get_args(Decoding)),
        ):
            if value not in allowed:
                raise UsageError(f"model.{key} {value!r}: allowed are {', '.join(allowed)}{suggest(value, allowed)}")
        spec = InputSpec.of(input, self.default_input(backbone, architecture))
        super().__init__(
            input=spec, classes=classes, optim=optim, compile_network=compile_network, channels_last=channels_last
        )
        self.skeleton = Skeleton.of("coco17" if skeleton is None else skeleton)
        self.classes = self.classes or (self.skeleton.subject,)
        if len(self.classes) != 1:
            raise UsageError(
                f"model.classes: {len(self.classes)} are given, and a skeleton belongs to one kind of subject; "
                "let data.classes name one"
            )
        for key, number, least in (("deconvs", deconvs, 0), ("sigma", sigma, 0.5), ("stages", stages or 1, 1)):
            if number < least:
                raise UsageError(f"model.{key} {number}: at least {least} is needed")
        if stages not in (None, 1) and architecture in ("simple_baseline", "keypoint_rcnn"):
            raise UsageError(f"model.stages: {architecture} has one; choose --model.architecture cpm for more")
        if encoding == "udp" and architecture not in OF_MAPS:
            raise UsageError(f"model.encoding udp: is for {' and '.join(OF_MAPS)}, not {architecture}")
        self.architecture, self.encoding, self.decoding = architecture, encoding, decoding
        self.sigma, self.limb_width = sigma, limb_width
        self.stages = stages or STAGES[architecture]
        self.crop = self._crop(crop)
        self.score_threshold, self.joint_threshold = score_threshold, joint_threshold
        self.rcnn = rcnn or RCNN()
        self.stride = stride / 2**deconvs
        if architecture == "keypoint_rcnn":
            body = build_backbone(
                backbone,
                spec,
                (4, 8, 16, 32),
                pretrained=pretrained,
                norm=backbone_norm,
                eps=norm_eps,
                drop_path=drop_path,
            )
            joints, levels = len(self.skeleton), body.strides
            head = KeypointHead(levels, width, joints, keypoint_hidden, self.rcnn.pooling, self.rcnn.canonical)
            self.network = build_two_stage(body, 1, width, self.rcnn, head)
            self.outputs = self.network.outputs  # type: ignore[misc]
        else:
            body = self._body(backbone, pretrained, stride, drop_path)
            self.network = self._build(body, width, deconvs, stage_width, stage_convs, stage_kernel)
            self.outputs = OffsetOutputs if encoding == "udp" else _OUTPUTS[architecture]  # type: ignore[misc]
        self.normalize = Normalize(body.mean, body.std)
        self.metrics = MetricCollection({"poses": PoseMetrics(self.skeleton)})
        if flip_test:
            check_flip_test(self)
            self.network.flip_test = True

    def _body(self, backbone: str, pretrained: bool, stride: int, drop_path: float) -> Backbone:
        deep, spec = self.architecture == "deeppose" and self.stages > 1, self.input
        return Backbone(
            backbone,
            pretrained=pretrained,
            in_chans=spec.channels,
            strides=(stride, min(8, stride)) if deep else (stride,),
            image_size=spec.size if spec.fit != "native" else None,
            drop_path_rate=drop_path,
            use_final=False,
        )

    def _crop(self, given: PersonCrop | Mapping[str, Any] | None) -> PersonCrop | None:
        if self.architecture in WHOLE:
            if given is not None:
                raise UsageError(f"model.crop: {self.architecture} looks at whole pictures; leave the crop out")
            return None
        return PersonCrop(**given) if isinstance(given, Mapping) else given or PersonCrop()

    def _build(
        self, body: Backbone, width: int, deconvs: int, stage_width: int, stage_convs: int, stage_kernel: int
    ) -> Mirrored:
        mirror, joints = self.skeleton.mirror, len(self.skeleton)
        if self.architecture == "deeppose":
            if self.input.fit == "native":
                raise UsageError("model.input.fit native: deeppose wants one size; choose stretch or letterbox")
            return PlaceNetwork(body, self.input.size, joints, mirror, self.stages, 2 * width)
        vectors = [(number, 1.0) for number in mirror] if self.encoding == "udp" else []
        if self.architecture == "openpose":
            if not self.skeleton.limbs:
                raise UsageError(
                    f"skeleton {self.skeleton.name}: openpose wants edges; give it some, or another network"
                )
            same = [(number, 1.0) for number in range(len(self.skeleton.limbs))]
            vectors = mirrored_limbs(self.skeleton.limbs, mirror) or same
        decoder = DeconvDecoder(body.channels[body.strides[-1]], width, deconvs)
        outputs = joints + 2 * len(vectors)
        head = StagedHead(decoder.channels, outputs, self.stages, stage_width, stage_convs, stage_kernel)
        kind = OffsetOutputs if self.encoding == "udp" else FieldOutputs
        return HeatmapNetwork(body, decoder, head, mirror, vectors, kind)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if not getattr(self._trainer, "global_step", 0):  # a training ends with an evaluation of its own
            self.skeleton.warn_without_sigmas()

    # ------------------------------------------------------------------ what belongs together with the data

    @classmethod
    def default_input(
        cls, backbone: str = "resnet50", architecture: Architecture = "simple_baseline", **init_args: Any
    ) -> InputSpec:
        """A crop of 256x192, or a letterbox of 384x384 for networks of whole pictures."""
        if architecture in WHOLE:
            return InputSpec(size=(384, 384), fit="letterbox")
        return InputSpec(size=(256, 192), fit="stretch")

    @classmethod
    def linked(cls, name: str, **init_args: Any) -> Any:
        """The crop, by which the data knows whether this network looks at persons or at whole pictures."""
        if name == "crop" and init_args.get("architecture") not in WHOLE:
            return asdict(PersonCrop())
        return None

    def resolved(self) -> dict[str, Any]:
        return {**super().resolved(), "skeleton": self.skeleton, "crop": self.crop, "stages": self.stages}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses weights that were learnt for other keypoints, even where their number is the same."""
        super().on_load_checkpoint(checkpoint)
        stored = checkpoint.get("visionkit", {}).get("config", {}).get("skeleton")
        if stored is None:
            return
        known = Skeleton.of(stored)
        for number, (a, b) in enumerate(zip(known.keypoints, self.skeleton.keypoints, strict=False)):
            if a != b:
                raise UsageError(
                    f"the checkpoint's keypoint {number} is {a!r} and that of skeleton {self.skeleton.name} is {b!r}; "
                    "train anew or give the same skeleton"
                )
        if len(known) != len(self.skeleton):
            raise UsageError(
                f"the checkpoint knows {len(known)} keypoints and skeleton {self.skeleton.name} has "
                f"{len(self.skeleton)}; train anew or give the same skeleton"
            )

    # ------------------------------------------------------------------ learning

    def losses(self, outputs: Any, target: Any) -> dict[str, Tensor]:
        target = as_targets(target)
        if self.architecture == "keypoint_rcnn":
            joints = len(self.skeleton)
            return keypoint_rcnn_losses(self.network, outputs, target, self.rcnn, joints, self.training)
        if self.architecture == "openpose":
            return field_losses(outputs, target, self.skeleton.limbs, self.stride, self.sigma, self.limb_width)
        persons = single_persons(target, len(self.skeleton), outputs[0].device)
        if self.architecture == "deeppose":
            return place_losses(outputs, persons, self.input.size)
        of_maps = offset_losses if self.encoding == "udp" else heatmap_losses
        return of_maps(outputs, persons, self.stride, self.sigma)

    def measure(self, decoded: Sequence[FoundPersons], batch: Batch) -> None:
        found, true = [], []
        for persons, target, geometry, name in zip(
            decoded, batch["target"], batch["geometry"], batch["id"], strict=True
        ):
            there = in_file(persons, geometry, self.skeleton)
            # A box from a detector brings its score; 0 says that there was no box and the crop is not an answer.
            sure = float(target["found"]) if "found" in target else 1.0
            scores = there.scores.double().numpy() * sure
            keep = scores > 0 if "found" in target else np.ones(len(scores), bool)
            number = picture_number(name)
            found.append(Found(np.full(int(keep.sum()), number), there.places.numpy()[keep], scores[keep]))
            if "file_keypoints" in target:
                keypoints = target["file_keypoints"]
            else:
                keypoints = target["keypoints"].cpu().double()
                keypoints[..., :2] = geometry.invert_points(keypoints[..., :2])
            true.append(truth_of(target, keypoints, name))
        self.metrics.update(found, true)

    def tabulate(self, computed: Mapping[str, Tensor]) -> dict[str, list[dict[str, Any]]]:
        if "joints" not in computed:
            return {}
        images = image_table(computed["images"], self.metrics["poses"].names)  # type: ignore[arg-type]
        return {"per joint": joint_table(computed["joints"], self.skeleton), PER_IMAGE: images}

    def charts(self) -> dict[str, Chart]:
        return {"per joint": Bars("joint", "PCKh" if self.skeleton.head else "PCK")}

    @property
    def protocol(self) -> str:
        read = "udp" if self.encoding == "udp" else self.decoding
        height, width = self.input.size
        looked = f"whole pictures, {self.input.fit} to {height}x{width}"
        if self.crop is not None:
            looked = (
                f"one crop a person of {height}x{width} (box x {self.crop.padding:g}), boxes as the data gives them"
            )
        errors = errors_protocol(self.skeleton)
        flipped = "on" if getattr(self.network, "flip_test", False) else "off"
        return (
            f"COCO OKS AP/AR (.50:.05:.95, at most 20 a picture, {self.skeleton.sigmas_told}, {AREA_TOLD}); "
            f"{shares_protocol(self.skeleton)}; {f'{errors}; ' if errors else ''}{looked}; {read} decoding, "
            f"flip test {flipped}"
        )

    # ------------------------------------------------------------------ serving

    def looks_again(self) -> str:
        if self.crop is not None:
            return f"architecture {self.architecture} (one person a crop; openpose takes whole pictures)"
        return "flip_test" if getattr(self.network, "flip_test", False) else ""

    def plan(
        self, image: ImageSource, *, views: Views | None = None, found: Located | None = None, **options: Any
    ) -> Plan:
        """Crops of the people that were found; without them, for networks of one person a crop, the whole image."""
        if found is not None:
            if self.crop is None:
                return super().plan(image, found=found)
            views = [View(self.crop.region(box, self.input.size)) for box in found.boxes]
        elif views is None:
            views = (None if self.crop is None else View(whole_picture(image.size, self.input.size)),)
        nobody = Poses.none(self.skeleton, self.score_threshold, self.joint_threshold)
        return Plan(views, MergeObjects(partial(merge_crops, found=found, nobody=nobody)), crops=found is not None)

    def augmented(self, run: Callable[..., Any], *, flip_test: bool = False, **options: Any) -> Callable[..., Any]:
        """With `flip_test`, the mean with the outputs on the flipped image; takes twice as long."""
        if not flip_test or getattr(self.network, "flip_test", False):  # which then does so by itself
            return run
        check_flip_test(self)
        return flip_averaged(run, self.network.mirrored)

    def decode(
        self,
        outputs: Any,
        decoding: Decoding | None = None,
        max_persons: int | None = None,
        *,
        second: Callable[..., Tensor] | None = None,
    ) -> list[FoundPersons]:
        """The persons of each picture or crop, in input pixels.

        Args:
            outputs: Of the network.
            decoding: In place of the task's own; of Gaussians alone.
            max_persons: Of a whole picture, at most: 100 by default, 30 for `openpose`.
            second: For `keypoint_rcnn`, the engine of the second stage in place of the network's own.
        """
        how = decoding or self.decoding
        if self.architecture == "keypoint_rcnn":
            return persons_of_boxes(self, outputs, Thresholds().given(None, None, max_persons), second)
        if self.architecture == "deeppose":
            return persons_of_places(outputs, self.input.size)
        if self.encoding == "udp":
            return persons_of_offsets(outputs, self.stride, self.sigma)
        if self.architecture != "openpose":
            return persons_of_maps(outputs, self.stride, how)
        return [
            read_persons(
                maps, fields, self.skeleton.limbs, self.stride, decoding=how, max_persons=max_persons or MAX_PERSONS
            )
            for maps, fields in zip(outputs.heatmaps[:, -1], outputs.fields[:, -1], strict=True)
        ]

    def second_stage(self) -> Any:
        return self.network.second_stage() if self.architecture == "keypoint_rcnn" else None

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

    def restore(self, decoded: Sequence[FoundPersons], geometry: Sequence[Geometry]) -> list[Prediction]:
        return list(to_predictions(decoded, geometry, self.skeleton, self.score_threshold, self.joint_threshold))
