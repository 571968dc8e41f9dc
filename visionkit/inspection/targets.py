"""What can be inspected: a model, a backbone, an architecture of a task, or a configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from timm.models import is_model
from torch import Tensor, nn

from visionkit.backbones import backbone_facts, backbone_names
from visionkit.backbones.build import build_model
from visionkit.backbones.hub_names import architecture_of
from visionkit.backbones.weights import are_at_hand, find_weights
from visionkit.configurations import resolve, shipped
from visionkit.construction import WithoutInit
from visionkit.errors import CheckpointError, UsageError, suggest
from visionkit.geometry import InputSpec
from visionkit.hub import local
from visionkit.model_files import public_name
from visionkit.plain_values import plain
from visionkit.registry import task_class, task_names
from visionkit.text_files import read_yaml

if TYPE_CHECKING:
    from visionkit.task import VisionTask

CLASSES = 80
"""Classes of a task that is named without data: those of COCO."""


@dataclass(frozen=True)
class Target:
    """A network to inspect.

    Attributes:
        name: As it was given.
        network: The network, in evaluation mode.
        shapes: Shapes of its inputs, with a batch of one.
        task: The task that it is of; None for a backbone.
    """

    name: str
    network: nn.Module
    shapes: tuple[tuple[int, ...], ...]
    task: VisionTask | None = None

    def inputs(self) -> tuple[Tensor, ...]:
        """Zeros of the shapes of the inputs, on the device of the network."""
        device = next((each.device for each in self.network.parameters()), torch.device("cpu"))
        return tuple(torch.zeros(shape, device=device) for shape in self.shapes)


def open_target(source: str, size: tuple[int, int] | None = None, weights: bool = False) -> Target:
    """Builds what a name or a path stands for.

    Args:
        source: A checkpoint, a run or a bundle; a backbone (`resnet50`, `timm:resnet50`); a task with one of its
            architectures (`detection:fcos`), on the task's own backbone; or a configuration, by path or by name.
        size: Height and width of the input in pixels; by default the model's own.
        weights: With the weights of a model, the public ones of a backbone where they are at hand, and random ones
            otherwise. Without, the network is built without memory, on the meta device, where it can be run there.

    Raises:
        UsageError: No such name, or a network that refuses the size.
        CheckpointError: A model that cannot be opened.
    """
    scheme, _, name = source.partition(":")
    if scheme == "timm" and not Path(source).exists():
        return _backbone(source, name, size, weights)
    if scheme in task_names() and not Path(source).exists():
        return _of_task(source, *_default_task(scheme, name), size, weights)
    if Path(source).suffix in (".yaml", ".yml") or (source in shipped() and source not in backbone_names(source)):
        return _of_task(source, *_configured_task(source), size, weights)
    is_path = Path(source).exists() or bool(set(source) & set("/\\")) or source.endswith(".ckpt")
    if is_path or public_name(source) is not None:
        from visionkit.checkpoint import read_model  # with all that a task needs

        stored = read_model(local(source))
        if size is not None:
            spec = InputSpec.of(stored.config.get("input"), InputSpec())
            stored = replace(stored, config={**stored.config, "input": plain(replace(spec, size=size))})
        return _target(source, stored.build if weights else stored.blank, weights)
    return _backbone(source, source, size, weights)


def open_task(source: str) -> VisionTask:
    """Builds a task with its weights for images; a backbone becomes a classifier.

    Args:
        source: As `open_target`. A backbone takes its public weights and classes where they are at hand, and random
            weights otherwise.

    Raises:
        UsageError, CheckpointError: As `open_target`; or the backbone has no classifier.
    """
    scheme, _, rest = source.partition(":")
    name = rest if scheme == "timm" else source
    if scheme != "timm" and (Path(source).exists() or not is_model(source.partition(".")[0])):
        task = open_target(source, weights=True).task
        if task is None:  # a misspelled name, which is reported with the nearest
            raise UsageError(f"{source}: no model")
        return task
    kind = task_class("classification")
    facts = backbone_facts(name, pretrained=are_at_hand(name))
    classes = facts.class_names()
    if classes is not None and are_at_hand(name):
        return kind.from_public("timm", name).eval()
    names = classes or [f"class {number}" for number in range(1, max(2, facts.num_classes) + 1)]
    return kind.from_config({"backbone": name, "classes": list(names)}).eval()


def _backbone(source: str, name: str, size: tuple[int, int] | None, weights: bool) -> Target:
    facts = backbone_facts(name)
    size = size or facts.train_size
    arguments = {"img_size": size} if facts.fixed_input_size and size != facts.train_size else {}
    shapes = ((1, facts.channels, *size),)
    if weights:
        public = find_weights(name) if are_at_hand(name) else None
        return Target(source, build_model(architecture_of(name), arguments, public).eval(), shapes)
    with torch.device("meta"), WithoutInit():
        return Target(source, build_model(architecture_of(name), arguments, None).eval(), shapes)


def _of_task(
    source: str, kind: type[VisionTask], config: dict[str, Any], size: tuple[int, int] | None, weights: bool
) -> Target:
    def build() -> VisionTask:
        task = _with_classes(kind, config)
        if size is None or task.input.size == size:
            return task
        return _with_classes(kind, config | {"input": plain(replace(task.input, size=size))})

    return _target(source, build, weights)


def _target(source: str, build: Callable[[], VisionTask], weights: bool) -> Target:
    def built() -> Target:
        task = build()
        spec = task.input
        clip = (spec.frames,) if spec.frames > 1 else ()
        shape = (1, *clip, spec.channels, *spec.size)
        return Target(source, task.network.eval(), (shape,) * len(task.inputs), task.eval())

    return built() if weights else _light(built)


def _light(build: Callable[[], Target]) -> Target:
    """Built on the meta device where that works and the network runs there; otherwise with memory for its weights."""
    try:
        with torch.device("meta"), WithoutInit():
            target = build()
        with torch.no_grad():
            target.network(*target.inputs())
        return target
    except (RuntimeError, NotImplementedError, CheckpointError):  # what needs values, such as anchors or NMS
        with WithoutInit():
            return build()


def _default_task(name: str, architecture: str) -> tuple[type[VisionTask], dict[str, Any]]:
    kind = task_class(name)
    known = list(getattr(kind, "architectures", ()))
    if architecture and architecture not in known:
        allowed = f"its architectures are {', '.join(known)}" if known else f"it has one architecture; give {name}:"
        raise UsageError(f"{name}:{architecture}: no architecture of {name}; {allowed}{suggest(architecture, known)}")
    return kind, {"architecture": architecture} if architecture else {}


def _with_classes(kind: type[VisionTask], config: dict[str, Any]) -> VisionTask:
    """Built with `CLASSES` classes where the data would name them, or with one where the task has a single one."""
    if "classes" not in inspect.signature(kind.__init__).parameters or config.get("classes"):
        return kind.from_config(config)
    try:
        return kind.from_config({**config, "classes": [f"class {number}" for number in range(1, CLASSES + 1)]})
    except UsageError:
        return kind.from_config({**config, "classes": ["object"]})


def _configured_task(source: str) -> tuple[type[VisionTask], dict[str, Any]]:
    path = resolve(source)
    model = (read_yaml(path, "configuration") or {}).get("model") or {}
    named = str(model.get("class_path", "")).rpartition(".")[2]
    tasks = {each.__name__: each for each in map(task_class, task_names())}
    if named not in tasks:
        raise UsageError(
            f"{path}: model.class_path {named!r}: is no installed task; they are {', '.join(tasks)}"
            f"{suggest(named, tasks)}"
        )
    kind = tasks[named]
    config = {**(model.get("init_args") or {})}
    if "pretrained" in inspect.signature(kind.__init__).parameters:
        config["pretrained"] = False
    return kind, config
