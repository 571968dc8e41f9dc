"""What the contract suite needs to know of a task: a tiny network and its arguments.

A task without a case fails the suite. A new one brings its own: `CASE` in `tests/tasks/case_<name>.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.inputs import Clip
from visionkit.loading import SampleDataset, collate
from visionkit.preprocess import Preprocessor
from visionkit.registry import task_class
from visionkit.synthetic import OBJECT_CLASSES
from visionkit.task import VisionTask
from visionkit.types import Batch, Sample

BACKBONES = ("test_resnet", "test_convnext", "test_vit")
SIZE = (64, 64)
SHIFT = 2
"""Pixels between the inputs of a task that has several."""


@dataclass(frozen=True)
class Case:
    """One task in the suite.

    Attributes:
        classes: Class names that the scene generator's data gives for it.
        arguments: Constructor arguments beside backbone, classes and input.
        data: Command line options that make the scene data give this task's targets.
        overfit: What two overfit images must reach of the monitored metric: at least this, or at most where less
            is better.
        overfit_steps: Steps that it may take.
        networks: Tiny networks, by the name that the task's first argument takes.
        choice: Name of that argument.
        input: What the networks take.
        steered: Prefix of the parameters that learning must reach.
        one_size: Images of a batch have one size, since the network takes them as they are and measures them so.
        loss_left: Fraction of the first loss that may be left then.
        overfit_images: How many there are, where two carry no information.
        loader: Name of the file in `configs/data`, and options that make it small.
        charts: What a run's report draws of the tables of a split.
        architectures: Arguments that make further architectures tiny; each stands in for a network of that name.
        labels: Makes a value of a target from the number of a sample and its image, where none here suits the task.
    """

    classes: tuple[str, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    overfit: float = 1.0
    overfit_steps: int = 40
    networks: tuple[str, ...] = BACKBONES
    choice: str = "backbone"
    input: InputSpec = field(default_factory=lambda: InputSpec(size=SIZE, resize_mode="stretch"))
    steered: str = "network.backbone."
    one_size: bool = False
    loss_left: float = 0.2
    overfit_images: int = 2
    loader: tuple[str, ...] = ("scenes", "--data.count", "8", "--data.eval_count", "5")
    charts: frozenset[str] = frozenset()
    architectures: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    labels: Mapping[str, Callable[[int, np.ndarray], Any]] = field(default_factory=dict)


_MASK_RCNN = {
    "neck_channels": 32,
    "mask_hidden": 32,
    "hidden": 64,
    "canonical_box_size": 56,
    "anchor_scale": 4,
    "pre_nms_top_n": 100,
    "post_nms_top_n": 50,
    "train_pre_nms_top_n": 100,
    "train_post_nms_top_n": 50,
    "rpn_batch_size_per_image": 64,
    "box_batch_size_per_image": 64,
}

_QUERIES = {
    "strides": (16, 32),
    "neck_channels": 32,
    "channels": 32,
    "encoder_feedforward": 32,
    "encoder_blocks": 1,
    "feedforward": 32,
    "heads": 4,
    "layers": 2,
    "queries": 20,
    "denoising": 4,
}
_MASKS = {**_QUERIES, "mask_stride": 8, "mask_channels": 8, "mask_side": 16, "mask_grid": 8}

_OF_OBJECTS = frozenset({"confusion", "precision-recall", "per-class"})

CASES: dict[str, Case] = {
    "classification": Case(classes=("disc", "stripe", "noise"), charts=frozenset({"confusion", "precision-recall"})),
    "pose": Case(
        classes=("person",),
        arguments={"simple_baseline": {"width": 32}},
        data=("--data.target", "keypoints", "--data.size", "[64,80]", "--model.simple_baseline.width", "16"),
        architectures={"dfine": _QUERIES},
        overfit=0.9,
        overfit_steps=80,
        charts=frozenset({"per-keypoint"}),
    ),
    "depth": Case(
        classes=(),
        arguments={"unet": {"channels": [32, 24, 16, 8, 8]}},
        data=("--data.target", "depth", "--data.size", "[48,64]"),
        overfit=0.1,
        overfit_steps=90,
    ),
    "super_resolution": Case(
        classes=(),
        arguments={"scale": 2},
        data=(
            "--data.target",
            "high_res",
            "--data.size",
            "[32,40]",
            "--model.compact.width",
            "8",
            "--model.compact.blocks",
            "1",
        ),
        overfit=20.0,
        overfit_steps=120,
        networks=("compact", "srcnn", "espcn", "fsrcnn"),
        choice="architecture",
        input=InputSpec(size=SIZE, resize_mode="native", divisor=1),
        steered="network.body.",
        one_size=True,
    ),
    "detection": Case(
        classes=OBJECT_CLASSES,
        arguments={"fcos": {"neck_channels": 32, "convs": 1}},
        data=("--data.target", "boxes", "--model.fcos.neck_channels", "32", "--model.fcos.convs", "1"),
        charts=_OF_OBJECTS,
        loss_left=0.35,  # the entropy of centerness stays
        overfit=0.5,
        overfit_steps=150,
    ),
    "instance_segmentation": Case(
        classes=OBJECT_CLASSES,
        arguments={"mask_rcnn": _MASK_RCNN},
        architectures={"dfine": _MASKS, "rtdetr": _MASKS},
        data=(
            *("--data.target", "masks"),
            *(part for name, value in _MASK_RCNN.items() for part in (f"--model.mask_rcnn.{name}", str(value))),
        ),
        charts=_OF_OBJECTS,
        overfit=0.5,
        overfit_steps=150,
    ),
    "semantic_segmentation": Case(
        classes=("background", "disc", "stripe"),
        arguments={"unet": {"channels": (16, 16, 8, 8, 8)}},
        data=("--data.target", "label_map", "--model.unet.channels", "[16,16,8,8,8]"),
        overfit=0.8,
        overfit_steps=80,
        charts=frozenset({"confusion", "per-class"}),
    ),
    "multitask": Case(
        classes=(),
        arguments={
            "heads": {
                "what": {"task": "classification", "arguments": {"classes": ["disc", "stripe", "noise"]}},
                "objects": {
                    "task": "detection",
                    "arguments": {"classes": list(OBJECT_CLASSES), "fcos": {"neck_channels": 32, "convs": 1}},
                },
                "far": {
                    "task": "depth",
                    "arguments": {"architecture": "segformer", "segformer": {"channels": 16}},
                },
            }
        },
        data=(
            *("--model.input.size", "[64,64]"),
            *(
                part
                for head in ("scene", "objects", "regions", "depth", "poses")
                for name, value in (("count", "8"), ("eval_count", "5"), ("size", "[64,80]"))
                for part in (f"--data.parts.{head}.init_args.{name}", value)
            ),
        ),
        loader=("joint_scenes",),
        charts=frozenset(
            {
                *("scene-confusion", "scene-precision-recall", "regions-confusion", "regions-per-class"),
                *("objects-confusion", "objects-precision-recall", "objects-per-class", "poses-per-keypoint"),
            }
        ),
        overfit=0.8,
        overfit_steps=120,
        loss_left=0.3,
    ),
    # Two images each of two people: the least that can be distinguished.
    "face_recognition": Case(
        classes=(),
        arguments={"identities": 3, "embedding": 32, "scale": 16.0},
        data=("--data.target", "identity", "--data.size", "[64,64]"),
        overfit_steps=80,
        overfit_images=4,
        charts=frozenset({"roc", "cmc"}),
    ),
}

for _path in sorted((Path(__file__).parents[1] / "tasks").glob("case_*.py")):
    CASES[_path.stem.removeprefix("case_")] = import_module(f"tests.tasks.{_path.stem}").CASE


def build(name: str, network: str = "", **arguments: Any) -> VisionTask:
    """The task with a tiny network or architecture of its case, the first where none is named, and random weights."""
    case = CASES[name]
    given: dict[str, Any] = {"classes": case.classes} if case.classes else {}
    if network in case.architectures:
        by_name = {} if case.choice == "architecture" else {"architecture": network}
        given |= {**by_name, network: case.architectures[network], "input": case.input}
    else:
        given |= {"input": case.input, **case.arguments}
    kind: Any = task_class(name)
    task: VisionTask = kind(backbone_of(name, network), **{**given, **arguments})
    return task


def backbone_of(name: str, network: str = "") -> str:
    """The first argument of the task for a network that `build` takes: a backbone, or the architecture itself."""
    case = CASES[name]
    if case.choice == "architecture" and network in case.architectures:
        return network
    return case.networks[0] if network in ("", *case.architectures) else network


def images(count: int, seed: int = 0) -> list[np.ndarray]:
    """Noise images of different odd sizes, (h, w, 3) uint8."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (41 + 7 * k, 67 - 4 * k, 3), dtype=np.uint8) for k in range(count)]


def _object(k: int, image: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """One object, in another place of every image; the image is darkened there."""
    height, width = image.shape[:2]
    x1, y1 = 4 + 3 * k, 6 + 2 * k
    x2, y2 = x1 + width // 2, y1 + height // 2
    image[y1:y2, x1:x2] //= 8
    mask = np.zeros((1, height, width), dtype=bool)
    mask[:, y1:y2, x1:x2] = True
    return {"boxes": np.array([[x1, y1, x2, y2]], np.float32), "labels": np.array([k % classes]), "masks": mask}


def samples(name: str, count: int, seed: int = 0) -> list[Sample]:
    """Samples with every target that the task names, made of noise images and plausible labels."""
    classes, wanted = len(CASES[name].classes), task_class(name).targets
    targets = {
        "labels": lambda k, image: np.int64(k % classes),
        # A floor under a wall, with a part that was not measured.
        "depth": lambda k, image: _floor(image.shape[:2], 1.0 + k),
        # Something that bicubic is far from and a small network can overfit : the negative.
        "high_res": lambda k, image: 255 - image.repeat(2, axis=0).repeat(2, axis=1).transpose(2, 0, 1),
        "label_map": lambda k, image: _stripes(image.shape[:2], k, classes),
        "keypoints": _one_person,
        "heads": lambda k, image: {
            "what": {"labels": np.int64(k % 3)},
            "objects": {key: value for key, value in _object(k, image, 8).items() if key != "masks"},
            "far": {"depth": _floor(image.shape[:2], 1.0 + k)},
        },
        "identity": lambda k, image: np.int64(k // 2 % CASES[name].arguments["identities"]),
    }
    targets |= CASES[name].labels
    shown = images(count, seed)
    if CASES[name].one_size:
        shown = [np.resize(image, shown[0].shape) for image in shown]
    out = []
    for k, image in enumerate(shown):
        objects = _object(k, image, classes) if "boxes" in wanted else {}
        keys = dict.fromkeys((*wanted, *CASES[name].labels))  # a case may add what is measured and not trained on
        target: Any = {key: objects[key] if key in objects else targets[key](k, image) for key in keys}
        if "keypoints" in target:
            places = target["keypoints"][..., :2]
            target["boxes"] = np.concatenate([places.min(axis=1), places.max(axis=1)], axis=1)
            target["labels"] = np.zeros(len(places), np.int64)
        inputs = {each: _opened(pixels, f"image-{k}") for each, pixels in given(name, image, named=True).items()}
        out.append(Sample(inputs, target, f"image-{k}"))
    return out


def given(name: str, image: np.ndarray, shift: int = SHIFT, *, named: bool = False) -> Any:
    """What a predictor of the task is called with: the image, or one for each of its inputs.

    Args:
        name: Name of the task.
        image: (h, w, 3) uint8, the reference.
        shift: Pixels by which each further input is moved to the left, beyond the one before it; what leaves the image
            enters at its right.
        named: A mapping also of a single input.

    A task of clips gets a list of frames that end with the image, each moved as much from the one before it.
    """
    names, frames = task_class(name).inputs, CASES[name].input.frames
    inputs: dict[str, Any] = {each: np.roll(image, -k * shift, axis=1) for k, each in enumerate(names)}
    if frames > 1:
        inputs = {each: [np.roll(image, (frames - 1 - k) * shift, axis=1) for k in range(frames)] for each in names}
    return inputs if named or frames > 1 or len(names) > 1 else image


def _opened(pixels: Any, name: str) -> ImageSource | Clip:
    return (
        Clip([ImageSource(frame, name) for frame in pixels]) if isinstance(pixels, list) else ImageSource(pixels, name)
    )


def _stripes(size: tuple[int, int], start: int, classes: int) -> np.ndarray:
    """Bands of classes from top to bottom, with an ignored row."""
    labels = (np.arange(size[0]) * classes // size[0] + start) % classes
    labels[-1] = 255
    return np.repeat(labels[:, None], size[1], axis=1).astype(np.uint8)


def _one_person(k: int, image: np.ndarray) -> np.ndarray:
    """(1, 17, 3) keypoints all over the image, a few of them hidden."""
    rng = np.random.default_rng(k)
    height, width = image.shape[:2]
    places = rng.uniform(0.1, 0.9, (1, 17, 2)) * (width, height)
    return np.concatenate([places, rng.integers(1, 3, (1, 17, 1))], axis=2).astype(np.float32)


def _floor(size: tuple[int, int], nearest: float) -> np.ndarray:
    depth = np.linspace(3 * nearest, nearest, size[0], dtype=np.float32)[:, None].repeat(size[1], axis=1)
    depth[: size[0] // 4, : size[1] // 4] = 0
    return depth


def batch(task: VisionTask, count: int = 2, seed: int = 0) -> Batch:
    """A batch as a loader would give it."""
    dataset = SampleDataset(samples(task.name, count, seed), Preprocessor(task.input))
    return collate([dataset[k] for k in range(count)])
