"""Row 10: MobileFaceNet by ONNX Runtime over eager torch, one face, one thread; file sizes; a face with its alignment.

- `eager`: torch in inference mode with channels-last weights.
- `naive`: `torch.onnx.export` of the network as it is, with its PReLU left to the runtime.
- `onnx`: what `visionkit export --onnx` writes: batch norms folded, PReLU as `a * x + (1 - a) * relu(x)`.
- A face with alignment, and of the image and its flip: `Predictor` on a 1280x960 photo with a view from five landmarks.

Weights are random, with batch statistics of images; PReLU's time depends on the signs of its input, so the input is an
image and not a constant.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks import timing
from benchmarks.timing import Goal, Options, Quartiles, Report
from tasks.face_recognition.alignment import face_view, template
from tasks.face_recognition.task import FaceRecognitionTask
from visionkit.bundle import save_bundle
from visionkit.engines import OnnxEngine, TorchEngine
from visionkit.export import write_graph
from visionkit.predictor import Predictor

MIB = 2**20


def build(mirror: bool) -> FaceRecognitionTask:
    """The paper's network with random weights and the batch statistics of noise that is smooth as images are."""
    torch.manual_seed(0)
    task = FaceRecognitionTask("mobilefacenet", head="own", flip_tta=mirror)
    task.setup("predict")
    coarse = torch.rand(16, 3, 14, 14)
    images = (torch.nn.functional.interpolate(coarse, size=(112, 112), mode="bicubic").clamp(0, 1) * 255).byte()
    for module in task.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        task.train()(images)
    return task.eval()


def naive_graph(task: FaceRecognitionTask, path: Path) -> None:
    """What one line of torch gives."""
    from visionkit.log_filters import quiet

    example = torch.randint(0, 256, (1, 3, 112, 112), dtype=torch.uint8)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            task.cpu(), (example,), dynamo=True, input_names=["image"], output_names=["embedding"], optimize=False
        )
        assert program is not None
        program.save(str(path))


def run(options: Options) -> Report:
    """Measures the row."""
    report = Report(10, "MobileFaceNet by ONNX Runtime, one thread", options.clock or "cpu")
    with timing.watched(report), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task = build(mirror=False)
        write_graph(task, folder / "a.onnx")
        naive_graph(task, folder / "naive.onnx")
        eager, graph = TorchEngine(task), OnnxEngine(folder / "a.onnx", type(task).outputs, threads=1)
        naive = OnnxEngine(folder / "naive.onnx", type(task).outputs, threads=1)
        rng = np.random.default_rng(0)
        coarse = torch.from_numpy(rng.random((1, 3, 14, 14), np.float32))
        image = (torch.nn.functional.interpolate(coarse, size=(112, 112), mode="bicubic").clamp(0, 1) * 255).byte()
        expected = eager(image).embedding
        for other in (graph, naive):
            assert torch.allclose(other(image).embedding, expected, atol=1e-3 * float(expected.abs().max()))
        repeats = 2 if options.quick else 20

        def several(engine: object) -> object:
            def work(watch: object) -> None:
                for _ in range(repeats):
                    engine(image)  # type: ignore[operator]

            return work

        arms = {"eager": several(eager), "onnx": several(graph), "naive": several(naive)}
        times = timing.measure(
            arms,  # type: ignore[arg-type]
            rounds=options.rounds or (3 if options.quick else 15),
            clock=report.clock,
            wanted=lambda t: [t.speed("onnx", "eager")],
        )
        report.add("eager", times.per_unit("eager", repeats * 1e-3), unit="ms")
        report.add("ONNX Runtime, ours", times.per_unit("onnx", repeats * 1e-3), unit="ms")
        report.add("ours over eager", times.speed("onnx", "eager"), Goal(1.75), times=times)
        report.add("ours over a naive export", times.speed("onnx", "naive"), times=times)
        _sizes(report, task, folder)
        _whole_face(report, options, folder)
    return report


def _sizes(report: Report, task: FaceRecognitionTask, folder: Path) -> None:
    def size(path: Path) -> Quartiles:
        return Quartiles.of([sum(each.stat().st_size for each in folder.glob(f"{path.name}*")) / MIB])

    report.add("fp32 file", size(folder / "a.onnx"), Goal(4.0, "at most"), unit="MiB")
    save_bundle(task, folder / "half", card={}, half=True)
    weights = (folder / "half" / "model.safetensors").stat().st_size / 1e6
    report.add("fp16 weights", Quartiles.of([weights]), Goal(2.2, "at most"), unit="MB")


def _whole_face(report: Report, options: Options, folder: Path) -> None:
    """Alignment out of a large photo, the image and its flip, to the embedding of length 1."""
    task = build(mirror=True)
    write_graph(task, folder / "mirror.onnx")
    predictor = Predictor(task, OnnxEngine(folder / "mirror.onnx", type(task).outputs, threads=1))
    photo = np.random.default_rng(1).integers(0, 256, (960, 1280, 3), dtype=np.uint8)
    turn = np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    landmarks = (template() - 56) @ turn.T * 2.3 + (600, 480)
    repeats = 2 if options.quick else 10

    def work(watch: object) -> None:
        for _ in range(repeats):
            predictor(photo, views=[face_view(landmarks)])

    times = timing.measure(
        {"face": work},
        rounds=options.rounds or (3 if options.quick else 15),
        clock=report.clock,
        wanted=lambda t: [t.per_unit("face", repeats)],
    )
    value = times.per_unit("face", repeats * 1e-3)
    report.add("a face: alignment, the image and its flip", value, Goal(24.0, "at most"), unit="ms", times=times)


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))
