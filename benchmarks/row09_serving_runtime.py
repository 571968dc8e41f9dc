"""Row 9: the CPU serving runtimes over eager torch, ResNet-50 at 224, one image, one thread.

- `eager`: torch in inference mode with channels-last weights, the faster of its two memory formats.
- `compile`: `torch.compile` of the same, where a C++ compiler is at hand; how long its first call takes is reported
  too.
- `onnx`, `onnx-int8`: what `visionkit export --onnx --int8` writes, by ONNX Runtime.
- `openvino`: the same graph in bfloat16, where the optional package is installed.

Weights are random (the benchmark downloads nothing) with batch statistics of real images; times do not depend on
values here, the cosine of the 8-bit outputs does, so it is reported but to be judged on trained weights.
"""

from __future__ import annotations

import copy
import importlib.util
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import timing
from benchmarks.sample_images import jpegs
from benchmarks.timing import Goal, Options, Quartiles, Report, Stopwatch
from tasks.classification import ClassificationTask
from visionkit.engines import GRAPHS, OnnxEngine, OpenVinoEngine, TorchEngine
from visionkit.export import write_graph
from visionkit.images import ImageSource
from visionkit.loading import collate
from visionkit.preprocess import Preprocessor
from visionkit.quantize import quantize
from visionkit.types import Sample

CALIBRATION = 16


def build(backbone: str, options: Options) -> tuple[ClassificationTask, list[dict[str, Tensor]]]:
    """A task whose batch norms have seen images, and those images as input tensors."""
    torch.manual_seed(0)
    task = ClassificationTask(backbone, classes=[str(index) for index in range(1000)])
    task.setup("predict")
    files, _ = jpegs((500, 375), 4 if options.quick else CALIBRATION, options.data)
    preprocessor = Preprocessor(task.input)
    examples = [preprocessor(Sample.of(ImageSource(data))) for data in files]
    batch = collate(examples)["inputs"]["image"]
    for module in task.network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the mean of what it sees
    with torch.no_grad():
        task.train()(batch)
    return task.eval(), [example["inputs"] for example in examples]


def engines(task: ClassificationTask, images: list[dict[str, Tensor]], folder: Path, quick: bool) -> dict[str, Any]:
    """Everything at hand that runs the network."""
    out: dict[str, Any] = {"eager": TorchEngine(task)}
    graph = folder / GRAPHS["onnx"]
    write_graph(task, graph)
    out["onnx"] = OnnxEngine(graph, type(task).outputs, threads=1)
    if not quick:
        small = folder / GRAPHS["onnx-int8"]
        quantize(graph, small, images)
        out["onnx-int8"] = OnnxEngine(small, type(task).outputs, threads=1)
        if shutil.which("g++"):
            compiled = copy.deepcopy(task)
            compiled.network.compile()
            out["compile"] = TorchEngine(compiled)
    if importlib.util.find_spec("openvino"):
        out["openvino"] = OpenVinoEngine(graph, type(task).outputs, threads=1)
    return out


def cosines(predictions: Mapping[str, Tensor]) -> dict[str, float]:
    """Of each runtime's logits with eager's, the least over the images."""
    wanted = predictions["eager"].double()
    return {
        name: float(torch.cosine_similarity(value.double(), wanted, dim=1).min()) for name, value in predictions.items()
    }


def run(options: Options) -> Report:
    clock = options.clock or "cpu"
    report = Report(9, "CPU serving runtime over eager torch, ResNet-50, one image, one thread", clock)
    with timing.watched(report), tempfile.TemporaryDirectory() as folder:
        task, images = build("test_resnet" if options.quick else "resnet50", options)
        found = engines(task, images, Path(folder), options.quick)
        batch = torch.stack([each["image"] for each in images[:4]])
        one = images[0]["image"][None]
        if "compile" in found:
            began = time.perf_counter()
            found["compile"](one)
            report.note(f"the first call of torch.compile took {time.perf_counter() - began:.0f} s")
        alike = cosines({name: engine(batch).logits for name, engine in found.items()})
        for name in ("onnx", "compile"):
            assert alike.get(name, 1.0) > 0.99999, f"{name} gives other logits than eager: cosine {alike[name]}"
        repeats = 1 if options.quick else 3

        def arm(engine: Any) -> timing.Arm:
            def predict(watch: Stopwatch) -> None:
                for _ in range(repeats):
                    engine(one)

            return predict

        times = timing.measure(
            {name: arm(engine) for name, engine in found.items()},
            rounds=options.rounds or (2 if options.quick else 15),
            clock=clock,
            attempts=1 if options.quick else 3,
            wanted=lambda t: [t.speed(name, "eager") for name in found if name != "eager"],
        )
        report.add("eager", times.per_unit("eager", repeats * 1e-3), unit="ms")
        goals = {"onnx": 1.35, "onnx-int8": 4.5, "openvino": 2.5}
        words = {"onnx": "ONNX Runtime, fp32", "onnx-int8": "ONNX Runtime, int8", "openvino": "OpenVINO, bf16"}
        for name in found:
            if name != "eager":
                goal = Goal(goals[name]) if name in goals else None
                report.add(words.get(name, "torch.compile"), times.speed(name, "eager"), goal, times=times)
        if "onnx-int8" in alike:
            value = alike["onnx-int8"]
            report.add("int8, least cosine of the logits", Quartiles(value, value, value), Goal(0.999), unit="")
        if "openvino" not in found:
            report.note("bf16 is OpenVINO's, an optional extra that is not installed here")
    return report


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))
