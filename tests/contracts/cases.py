"""What the contract suite needs to know of a task: a tiny network and its arguments.

A task without a case fails the suite.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visionkit.data import SampleDataset, collate
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.preprocess import Preprocessor
from visionkit.registry import task_class
from visionkit.task import VisionTask
from visionkit.types import Batch, Sample

BACKBONES = ("test_resnet", "test_convnext", "test_vit")
SIZE = (64, 64)


@dataclass(frozen=True)
class Case:
    """One task in the suite.

    Attributes:
        classes: Class names that the scene generator's data gives for it.
        arguments: Constructor arguments beside backbone, classes and input.
        data: Command line options that make the scene data give this task's targets.
        overfit: Highest metric that two memorised pictures must reach, by name of the monitored metric without its
            split.
        overfit_steps: Steps that it may take.
        networks: Tiny networks, by the name that the task's first argument takes.
        choice: Name of that argument.
        input: What the networks take.
        steered: Prefix of the parameters that learning must reach.
        one_size: Pictures of a batch have one size, since the network takes them as they are and measures them so.
    """

    classes: tuple[str, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    overfit: float = 1.0
    overfit_steps: int = 40
    networks: tuple[str, ...] = BACKBONES
    choice: str = "backbone"
    input: InputSpec = field(default_factory=lambda: InputSpec(size=SIZE, fit="stretch"))
    steered: str = "network.backbone."
    one_size: bool = False


CASES: dict[str, Case] = {
    "classification": Case(classes=("disc", "stripe", "noise")),
    "super_resolution": Case(
        classes=(),
        arguments={"scale": 2},
        data=("--data.target", "high_res", "--data.size", "[32,40]", "--model.network_args", "{width: 8, blocks: 1}"),
        overfit=20.0,
        overfit_steps=120,
        networks=("compact", "srcnn", "espcn", "fsrcnn"),
        choice="network",
        input=InputSpec(size=SIZE, fit="native", divisor=1),
        steered="network.body.",
        one_size=True,
    ),
}


def build(name: str, network: str = "", **arguments: Any) -> VisionTask:
    """The task with a tiny network, the first of its case where none is named, and random weights."""
    case = CASES[name]
    classes = {"classes": case.classes} if case.classes else {}
    return task_class(name)(
        network or case.networks[0], **{**classes, "input": case.input, **case.arguments, **arguments}
    )


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    """Noise pictures of different odd sizes, (h, w, 3) uint8."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (41 + 7 * k, 67 - 4 * k, 3), dtype=np.uint8) for k in range(count)]


def samples(name: str, count: int, seed: int = 0) -> list[Sample]:
    """Samples with every target that the task names, made of noise pictures and plausible labels."""
    targets = {
        "labels": lambda k, image: np.int64(k % len(CASES[name].classes)),
        # Something that bicubic is far from and a small network can learn by heart: the negative.
        "high_res": lambda k, image: 255 - image.repeat(2, axis=0).repeat(2, axis=1).transpose(2, 0, 1),
    }
    wanted = task_class(name).targets
    shown = pictures(count, seed)
    if CASES[name].one_size:
        shown = [np.resize(image, shown[0].shape) for image in shown]
    return [
        Sample(ImageSource(image, name=f"picture-{k}"), {key: targets[key](k, image) for key in wanted}, f"picture-{k}")
        for k, image in enumerate(shown)
    ]


def batch(task: VisionTask, count: int = 2, seed: int = 0) -> Batch:
    """A batch as a loader would give it."""
    dataset = SampleDataset(samples(task.name, count, seed), Preprocessor(task.input))
    return collate([dataset[k] for k in range(count)])
