"""Distillation: a trained model teaches another one, by its features, its logits, or both.

Features (FitNets, Romero et al., ICLR 2015, arXiv:1412.6550): a 1x1 projection takes the student's map to the width of
the teacher's at every stride that both have, and the distance of both, each position scaled to length 1, is a loss;
where the student has no pyramid, the pooled features are compared. Logits (Hinton et al., 2015, arXiv:1503.02531): the
divergence of the two distributions over the classes, of an image or of every pixel, both softened by a temperature.

The teacher sees the student's own batch, augmentation included, by its own normalization. It is never trained, is in
evaluation mode, belongs to no checkpoint, and is looked for when a training begins and not before. The projections are
trained with the student, lie in the checkpoints of the training, and are not handed out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.backbones import Backbone, Features, Tap, backbone_facts, declared_strides
from visionkit.backbones.build import declared_maps
from visionkit.errors import UsageError
from visionkit.model_files import public_name
from visionkit.names import classes_differ
from visionkit.nn.normalize import Normalize

if TYPE_CHECKING:
    from visionkit.task import VisionTask
    from visionkit.types import Batch

PREFIX = "distillation."
"""What the names of the projections begin with in the checkpoints of a training."""


@dataclass(frozen=True)
class DistillConfig:
    """A teacher, and what is learned from it.

    Attributes:
        teacher: A checkpoint, a bundle or a public name such as `timm:resnet50`.
        features: Weight of the loss on the features of the backbone; 0 is off.
        logits: Weight of the loss on the logits, of a teacher of the same task and classes; 0 is off.
        temperature: Both logits are divided by it, and the loss is multiplied by its square.
    """

    teacher: str
    features: float = 1.0
    logits: float = 0.0
    temperature: float = 4.0

    def __post_init__(self) -> None:
        for name, value in (("features", self.features), ("logits", self.logits)):
            if value < 0 or not math.isfinite(value):
                raise UsageError(f"model.distill.{name} {value:g}: must be at least 0")
        if self.features == 0 and self.logits == 0:
            raise UsageError("model.distill: features and logits are both 0, so nothing is learned; set one of them")
        if self.temperature <= 0 or not math.isfinite(self.temperature):
            raise UsageError(f"model.distill.temperature {self.temperature:g}: must be above 0")


class BareTeacher(nn.Module):
    """A backbone with public weights as a teacher of features.

    Args:
        name: Name, as timm has it.
        channels: Channels of the student's images.
        size: Height and width of the student's images, or None where they differ.
        strides: Strides of the student's maps; empty for pooled features.
    """

    def __init__(self, name: str, channels: int, size: tuple[int, int] | None, strides: tuple[int, ...]) -> None:
        super().__init__()
        exist = set(declared_strides(name))
        common = tuple(stride for stride in strides if stride in exist)
        if strides and not common:
            raise _no_common_stride(strides, exist)
        maps: dict[str, Any] = {"use_final": not strides}
        if len(exist) == 1 and strides:
            maps["taps"] = 1
        else:
            maps["strides"] = common
        self.backbone = Backbone(name, pretrained=True, in_chans=channels, image_size=size, **maps)
        self.normalize = Normalize(self.backbone.mean, self.backbone.std)

    def forward(self, image: Tensor) -> None:
        """Its features are taken where they arise."""
        self.backbone(self.normalize(image))


class Distillation(nn.Module):
    """The teacher of a task and the projections that are trained with it.

    Args:
        config: Teacher and weights.
        task: The student.

    Raises:
        UsageError: Teacher and student do not belong together; states what does.
        CheckpointError, EnvironmentFault: The teacher cannot be opened.
    """

    def __init__(self, config: DistillConfig, task: VisionTask) -> None:
        super().__init__()
        self.config = config
        student: Any = task.network
        spec = task.input
        size = spec.size if spec.resize_mode != "native" else None
        wanted = tuple(_channels(student.backbone)) if config.features else ()
        public = public_name(config.teacher)
        teacher: nn.Module
        if public and public[0] == "timm" and not config.logits:
            teacher = BareTeacher(public[1], spec.channels, size, wanted)
        else:
            teacher = _model(config, task, size, wanted)
        # In a list, so that it is no part of the module: not in its state, its parameters or its modes.
        self._teacher = [teacher.requires_grad_(False).eval()]
        self.projections = nn.ModuleDict()
        if config.features:
            self.projections.update(_projections(student.backbone, self.teacher.backbone))
        if config.logits and (found := _of_classes(task)) is not None:
            raise UsageError(f"model.distill.logits {config.logits:g}: {found}; set features alone")
        self.independent = bool(getattr(task, "multilabel", False))

    @property
    def teacher(self) -> Any:
        """The teacher: a module with a `backbone` behind a normalization of its own, that gives its raw outputs."""
        teacher = self._teacher[0]
        return teacher.network if hasattr(teacher, "network") else teacher

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._teacher[0]._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self

    def losses(self, task: VisionTask, batch: Batch) -> tuple[Any, dict[str, Tensor]]:
        """One pass of the student and one of the teacher.

        Args:
            task: The student.
            batch: Batch on the device.

        Returns:
            The student's outputs, and the named terms, weighted.
        """
        student: Any = task.network
        with _features_of(student.backbone) as seen:
            outputs = task.run(batch)
        with torch.no_grad(), _features_of(self.teacher.backbone) as shown:
            expected = self._teacher[0](*(batch["inputs"][name] for name in task.inputs))
        terms: dict[str, Tensor] = {}
        if self.config.features:
            own, other = _maps(student.backbone, seen[0]), _maps(self.teacher.backbone, shown[0])
            parts = [_distance(each(own[name]), other[name]) for name, each in self._named(own, other)]
            terms["distill_features"] = self.config.features * torch.stack(parts).mean()
        if self.config.logits:
            terms["distill_logits"] = self.config.logits * self._divergence(outputs.logits, expected.logits)
        return outputs, terms

    def _named(self, own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Iterator[tuple[str, nn.Module]]:
        return ((name, each) for name, each in self.projections.items() if name in own and name in other)

    def _divergence(self, logits: Tensor, expected: Tensor) -> Tensor:
        if logits.ndim == 4 and expected.shape[-2:] != logits.shape[-2:]:
            expected = F.interpolate(expected, size=logits.shape[-2:], mode="bilinear", align_corners=False)
        heat = self.config.temperature
        own, other = logits.float() / heat, expected.float() / heat
        if self.independent:  # every class is a distribution of two
            target = other.sigmoid()
            per = F.binary_cross_entropy_with_logits(own, target, reduction="none")
            per = per - F.binary_cross_entropy(target, target, reduction="none")
        else:
            per = F.kl_div(own.log_softmax(1), other.log_softmax(1), reduction="none", log_target=True)
        return heat**2 * per.sum(1).mean()


def refusal(config: DistillConfig, task: VisionTask) -> str | None:
    """Why a task cannot have a teacher, as far as that is known before the teacher is opened; None where it can."""
    from visionkit.task import VisionTask

    if task.parts() or type(task).training_step is not VisionTask.training_step:
        return (
            f"{task.name} trains several heads or parts at once, and a teacher is for tasks of one: classification, "
            "detection, semantic segmentation and others; distill them one by one"
        )
    if config.features and (task.optim.freeze == "backbone" or task.optim.backbone_lr_scale == 0):
        return "optim.freeze backbone keeps the features as they are; set distill.features 0, or leave freeze out"
    if config.features and task.compile_network:
        return "the features of a compiled network cannot be read; leave compile_network out, or set distill.features 0"
    return None


def _model(config: DistillConfig, task: Any, size: tuple[int, int] | None, wanted: tuple[int, ...]) -> nn.Module:
    """A model of visionkit as a teacher."""
    from visionkit.checkpoint import load_task

    if public_name(config.teacher) is None and "/" not in config.teacher and _is_timms(config.teacher):
        raise UsageError(f"model.distill.teacher {config.teacher}: no such file; timm's is timm:{config.teacher}")
    teacher: Any = load_task(config.teacher)
    what = f"model.distill.teacher {config.teacher}"
    backbone = getattr(teacher.network, "backbone", None)
    if not isinstance(backbone, Backbone):
        raise UsageError(f"{what}: {teacher.name} has no backbone to learn from; give a model that has one")
    if teacher.inputs != task.inputs or teacher.input.channels != task.input.channels:
        raise UsageError(
            f"{what}: it takes {', '.join(teacher.inputs)} of {teacher.input.channels} channels, and the student "
            f"{', '.join(task.inputs)} of {task.input.channels}; both must be the same"
        )
    if backbone_facts(backbone.name).fixed_input_size and size != teacher.input.size:
        height, width = teacher.input.size
        raise UsageError(f"{what}: its network takes {height}x{width} alone; set model.input.size [{height},{width}]")
    for module in teacher.modules():
        if getattr(module, "flip_tta", False):
            module.flip_tta = False  # one image, one pass
    padding, own = (getattr(each.network, "reflect_padding", 0) for each in (teacher, task))
    if padding != own:
        raise UsageError(f"{what}: it extends images by {padding} pixels and the student by {own}; give both the same")
    if config.logits:
        if teacher.name != task.name:
            raise UsageError(
                f"{what}: a model of {teacher.name}, and logits are learned from one of {task.name}; give one, or set "
                "distill.logits 0 and learn from its features"
            )
        if teacher.classes != task.classes:
            differ = classes_differ(teacher.classes, task.classes).replace("the checkpoint", "the teacher")
            raise UsageError(
                f"{what}: {differ.partition(';')[0]}; logits need a teacher of the same classes, features do not"
            )
    if wanted and not backbone.taps and not backbone.strides:  # a whole network that nobody asked for its maps
        exist = set(declared_strides(backbone.name, backbone.output_stride))
        common = tuple(stride for stride in wanted if stride in exist)
        if not common:
            raise _no_common_stride(wanted, exist)
        backbone.give(common)
    return cast(nn.Module, teacher)


def _is_timms(name: str) -> bool:
    import timm

    return timm.is_model(name)


def _no_common_stride(student: Any, teacher: Any) -> UsageError:
    own, other = (", ".join(str(each) for each in sorted(strides)) for strides in (student, teacher))
    return UsageError(
        f"model.distill.features: the student's maps have strides {own} and the teacher's {other}; at least one must "
        "be the same: choose another teacher, or another architecture"
    )


def _of_classes(task: VisionTask) -> str | None:
    """Why the logits of a task cannot be compared; None where they can."""
    fields = getattr(task.outputs, "_fields", ())
    if "logits" in fields:
        training = task.training
        task.eval()
        with torch.no_grad():
            shape = task(*(each.to(task.device) for each in task.example_inputs(1))).logits.shape
        task.train(training)
        if len(shape) in (2, 4) and shape[1] == len(task.classes):
            return None
    return f"{task.name} has no logits per image or pixel; classification and semantic segmentation have"


def _channels(backbone: Backbone) -> dict[int, int]:
    """Strides of the maps that can be compared, with their channels; none where pooled features are."""
    if backbone.taps:
        return {declared_maps(backbone.model)[-1][1]: backbone.tap_channels[-1]}
    return dict(backbone.channels)


def _projections(student: Backbone, teacher: Backbone) -> dict[str, nn.Module]:
    own, other = _channels(student), _channels(teacher)
    if not own:
        width = teacher.num_features if teacher.use_final else list(other.values())[-1]
        return {"pooled": nn.Linear(student.num_features, width)}
    if not own.keys() & other.keys():
        raise _no_common_stride(own, other)
    common = sorted(own.keys() & other.keys())
    return {f"stride{stride}": nn.Conv2d(own[stride], other[stride], 1) for stride in common}


def _maps(backbone: Backbone, features: Features) -> dict[str, Tensor]:
    """Maps and pooled features of one pass, by the names of the projections."""
    if backbone.taps:
        last: Tap = features.final[-1]
        maps = dict.fromkeys(_channels(backbone), last.map)
    else:
        maps = features.pyramid
    named = {f"stride{stride}": each for stride, each in maps.items()}
    if backbone.use_final:
        named["pooled"] = backbone.pool(features.final)
    elif maps:
        named["pooled"] = list(maps.values())[-1].mean((2, 3))
    return named


def _distance(own: Tensor, other: Tensor) -> Tensor:
    """Mean squared distance of vectors of length 1: 0 where they point in the same direction, at most 4."""
    if own.ndim == 4 and own.shape[-2:] != other.shape[-2:]:
        other = F.interpolate(other, size=own.shape[-2:], mode="bilinear", align_corners=False)
    own, other = F.normalize(own.float(), dim=1), F.normalize(other.float(), dim=1)
    return (own - other).square().sum(1).mean()


@contextmanager
def _features_of(backbone: Backbone) -> Iterator[list[Features]]:
    """Within it, what a backbone gives is kept."""
    seen: list[Features] = []
    handle = backbone.register_forward_hook(lambda _module, _given, features: seen.append(features))
    try:
        yield seen
    finally:
        handle.remove()
