"""Row 18: five heads on one backbone over the dearest of them alone, and over five models one after another.

The joint model is the one that `configs/experiment/multitask_scenes.yaml` trains, the five others are its heads, taken
apart by `split`: the same weights, the same image, the same predictions, which are compared before anything is timed.

- `network`: the pass of the network, by torch and by ONNX Runtime.
- `prediction`: from the decoded image to the prediction, so preparing, network, decoding and the way back.

Each is compared by itself: long rounds pick up more noise from other programs. The same heads on a larger backbone
follow, the network alone.

The weights are those of the example model where it lies in the repository, otherwise random: boxes and people that are
found cost time, so the note states which.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import timing
from benchmarks.timing import Goal, Options, Quartiles, Report, Stopwatch, Times
from tasks.multitask import MultiTask
from tasks.multitask.joining import split
from visionkit.checkpoint import load_task
from visionkit.engines import GRAPHS, OnnxEngine, TorchEngine
from visionkit.export import write_graph
from visionkit.predictor import Predictor
from visionkit.synthetic import OBJECT_CLASSES, SEMANTIC_CLASSES, make_scene
from visionkit.task import VisionTask

EXAMPLE_MODEL = Path(__file__).resolve().parents[1] / "ui" / "starters" / "multitask" / "scenes"
SIZE = (128, 160)
LARGE = "resnet50"
"""A backbone of the usual size: the example model's is so small that its heads weigh as much as it does."""

HEADS: dict[str, Any] = {
    "classification": {"task": "classification", "arguments": {"classes": list(OBJECT_CLASSES)}},
    "detection": {
        "task": "detection",
        "arguments": {
            "classes": list(OBJECT_CLASSES),
            "fcos": {"strides": [8, 16, 32], "extra_levels": "none", "neck_channels": 32, "convs": 1},
        },
    },
    "segmentation": {
        "task": "semantic_segmentation",
        "arguments": {
            "classes": list(SEMANTIC_CLASSES),
            "architecture": "segformer",
            "segformer": {"channels": 24},
        },
    },
    "depth": {"task": "depth", "arguments": {"architecture": "segformer", "segformer": {"channels": 24}}},
    "pose": {
        "task": "pose",
        "arguments": {
            "architecture": "openpose",
            "openpose": {"stride": 16, "deconvs": 2, "width": 48, "stages": 1, "sigma": 1.0},
        },
    },
}


def build(quick: bool) -> tuple[MultiTask, str]:
    """The joint model, and what its weights are."""
    if EXAMPLE_MODEL.is_dir() and not quick:
        task = load_task(EXAMPLE_MODEL)
        assert isinstance(task, MultiTask)
        return task, "the weights are the example model's"
    torch.manual_seed(0)
    name = "test_resnet" if quick else "regnetx_002"
    return MultiTask(name, heads=HEADS, input={"size": SIZE, "resize_mode": "stretch"}).eval(), "the weights are random"


def over_dearest(times: Times, names: list[str]) -> Quartiles:
    """Time of the joint model over that of the head which is dearest in the median."""
    return times.ratio("joint", max(names, key=lambda name: times.per_unit(name, 1.0).median))


def over_all(times: Times, names: list[str]) -> Quartiles:
    """Time of the joint model over that of all models one after another, round by round."""
    rounds = zip(*(times.seconds[name] for name in names), strict=True)
    return Quartiles.of([a / sum(row) for a, row in zip(times.seconds["joint"], rounds, strict=True)])


def same(joint: Any, alone: Mapping[str, Any]) -> None:
    """The joint model's outputs are those of its heads alone.

    Raises:
        AssertionError: They are not.
    """
    for name, outputs in alone.items():
        for field in outputs._fields:
            ours, other = getattr(joint, f"{name}_{field}"), getattr(outputs, field)
            if isinstance(ours, Tensor) and isinstance(other, Tensor):
                scale = max(1.0, float(other.abs().max()))
                assert float((ours - other).abs().max()) <= 1e-3 * scale, f"{name}.{field} differs"


def run(options: Options) -> Report:
    clock = options.clock or "cpu"
    report = Report(18, "five heads on one backbone over the dearest alone and over five models", clock)
    with timing.watched(report):
        joint, message = build(options.quick)
        report.note(message)
        compare(report, options, joint, ("network", "prediction"), 1 if options.quick else 5)
        if not options.quick:
            report.note(f"and on {LARGE}, the weights random: there the backbone is most of the network")
            torch.manual_seed(0)
            large = MultiTask(LARGE, heads=HEADS, input={"size": SIZE, "resize_mode": "stretch"}).eval()
            compare(report, options, large, ("network",), 1, f"{LARGE}, ")
    return report


def compare(
    report: Report, options: Options, joint: MultiTask, parts: Sequence[str], repeats: int, of: str = ""
) -> None:
    """Measures one joint model against its heads.

    Args:
        report: Gets the numbers.
        options: Options of the command line.
        joint: Joint with its heads.
        parts: Parts of `network` and `prediction`.
        repeats: Passes of an arm in a round.
        of: What the numbers' names begin with.
    """
    tasks: dict[str, VisionTask] = {"joint": joint, **split(joint)}
    names = [name for name in tasks if name != "joint"]
    scene = make_scene(seed=0, index=16, size=SIZE).image
    image = Predictor(joint).prepare(scene)["inputs"]["image"][None]
    engines: dict[str, dict[str, Any]] = {"torch": {}, "onnx": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, task in tasks.items():
            engines["torch"][name] = TorchEngine(task)
            graph = Path(folder) / f"{name}-{GRAPHS['onnx']}"
            write_graph(task, graph)
            engines["onnx"][name] = OnnxEngine(graph, task.outputs, threads=1)
    for found in engines.values():
        same(found["joint"](image), {name: found[name](image) for name in names})
    for what in parts:
        for kind, found in engines.items():
            arms: dict[str, timing.Arm] = {}
            for name, task in tasks.items():
                if what == "network":
                    arms[name] = _passes(found[name], image, repeats)
                else:
                    arms[name] = _predictions(Predictor(task, found[name]), scene, repeats)
            times = timing.measure(
                arms,
                rounds=options.rounds or (2 if options.quick else 15),
                clock=report.clock,
                attempts=1 if options.quick else 3,
                wanted=lambda t: [over_dearest(t, names), over_all(t, names)],
            )
            label = f"{of}{what}, {kind}"
            report.add(f"{label}: joint", times.per_unit("joint", repeats * 1e-3), unit="ms")
            report.add(
                f"{label}: over the dearest head", over_dearest(times, names), Goal(1.35, "at most"), times=times
            )
            report.add(f"{label}: over five models", over_all(times, names), Goal(0.45, "at most"), times=times)


def _passes(engine: Any, image: Tensor, repeats: int) -> timing.Arm:
    def work(watch: Stopwatch) -> None:
        for _ in range(repeats):
            engine(image)

    return work


def _predictions(predictor: Predictor, image: np.ndarray, repeats: int) -> timing.Arm:
    def work(watch: Stopwatch) -> None:
        for _ in range(repeats):
            predictor(image)

    return work


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))
