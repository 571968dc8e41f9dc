"""Bundles with graphs: what is written is tried on images first, and a graph that predicts otherwise is not kept.

The graph is made by torch's dynamo exporter from the weights as the bundle holds them: one input `image` (B, C, H, W)
uint8, normalization inside, one output for each field of the task's outputs, the batch free (and height and width too
where the input's `resize_mode` is `native`).
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visionkit.bundle import save_bundle
from visionkit.engines import GRAPHS, SECOND, SECOND_OUTPUT, served_fields
from visionkit.errors import CheckpointError, UsageError
from visionkit.export_check import TOLERANCE, Progress, checked, checked_int8, compare, no_progress
from visionkit.images import ImageSource
from visionkit.inputs import Given
from visionkit.log_filters import quiet
from visionkit.model_files import FACTS
from visionkit.predictor import Predictor
from visionkit.quantize import quantize
from visionkit.task import VisionTask

__all__ = ["TOLERANCE", "Graph", "compare", "example_photos", "export_bundle", "write_graph"]


def export_bundle(
    source: str | Path | VisionTask,
    out: str | Path,
    *,
    onnx: bool = False,
    int8: bool = False,
    calibration: Sequence[Given] | None = None,
    images: Sequence[Given] | None = None,
    half: bool = False,
    card: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Writes a bundle, whole or not at all.

    Args:
        source: A checkpoint, a bundle, a public name, or a task with its weights.
        out: Folder of the bundle.
        onnx: Also write `model.onnx`.
        int8: Also write `model.int8.onnx`: 8-bit weights and activations, several times faster on CPUs and a little
            different in its predictions.
        calibration: For `int8`, images like those to come, as a predictor is called with them; some hundred are enough.
        images: What the graphs are tried on; by default the calibration images, else photos that scikit-image
            brings.
        half: Store the weights in 16 bit. The graphs are made from the weights so rounded.
        card: Facts for the model card, see `visionkit.bundle.save_bundle`.
        overwrite: Replace a bundle that is there.
        progress: Called with each stage as it begins, and with every image of the stages that go through images.

    Returns:
        The folder. `model.json` states under `graphs` how far each graph is from torch.

    Raises:
        CheckpointError: The model cannot be opened, or a graph cannot be made or differs too much; nothing is written.
        UsageError: Something is at `out` already, or `int8` without images.
    """
    if int8 and not calibration:
        raise UsageError("int8: needs calibration images, some hundred like those to come")
    task = _task(source)
    tried = list(images or calibration or example_inputs(task))

    def complete(folder: Path) -> None:
        if not (onnx or int8):
            return
        from visionkit.checkpoint import load_task

        stored = load_task(folder)  # with the weights as they will be read: rounded where `half`
        with tempfile.TemporaryDirectory() as scratch:
            graph = Path(scratch) / GRAPHS["onnx"]
            progress("building the ONNX graph")
            write_graph(stored, graph)
            if (second := stored.second_stage()) is not None:
                progress("building the ONNX graph of the second stage")
                write_second_stage(stored, second, folder / SECOND)
                (Path(scratch) / SECOND).write_bytes((folder / SECOND).read_bytes())
            reports: dict[str, Any] = {}
            if onnx:
                reports[graph.name] = checked(stored, graph, tried, progress=progress)
                (folder / graph.name).write_bytes(graph.read_bytes())
            if int8 and calibration:
                small = folder / GRAPHS["onnx-int8"]
                quantize(graph, small, _prepared(stored, calibration, progress))
                reports[small.name] = checked_int8(stored, small, tried, progress=progress)
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        facts["graphs"] = reports
        (folder / FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    progress("writing the weights")
    return save_bundle(task, out, card=card or {}, half=half, overwrite=overwrite, complete=complete)


def _prepared(task: VisionTask, images: Sequence[Given], progress: Progress) -> Iterator[dict[str, Tensor]]:
    """The calibration images as the network takes them, by the names of its inputs."""
    predictor = Predictor(task)
    for number, image in enumerate(images):
        progress("calibrating the 8-bit graph", number, len(images))
        yield predictor.prepare(image)["inputs"]
    progress("quantizing the graph to 8 bit")


def _task(source: str | Path | VisionTask) -> VisionTask:
    if isinstance(source, VisionTask):
        return source
    from visionkit.checkpoint import load_task

    return load_task(source)


def example_photos() -> list[Path]:
    """Photos in scikit-image's wheel, of different sizes, color and gray; nothing is downloaded."""
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    names = (
        "astronaut.png",
        "chelsea.png",
        "coffee.png",
        "rocket.jpg",
        "camera.png",
        "coins.png",
        "hubble_deep_field.jpg",
    )
    return [folder / name for name in names if (folder / name).is_file()]


def example_inputs(task: VisionTask) -> list[Given]:
    """The photos as a predictor of the task is called with them.

    For a task of several inputs, or of clips, each further image is the photo moved by some pixels, so an input that
    takes the place of another shows.
    """
    photos, frames = example_photos(), task.input.frames
    if len(task.inputs) == 1 and frames == 1:
        return list(photos)

    def moved(pixels: np.ndarray, steps: int) -> ImageSource:
        return ImageSource(np.roll(pixels, (-steps, -3 * steps), axis=(0, 1)))

    out: list[Given] = []
    for pixels in (ImageSource(photo).read() for photo in photos):
        images = [moved(pixels, steps) for steps in range(frames * len(task.inputs))]
        named = {name: images[k * frames : (k + 1) * frames] for k, name in enumerate(task.inputs)}
        out.append(named if frames > 1 else {name: some[0] for name, some in named.items()})
    return out


# ---------------------------------------------------------------------- the graph


TRACED = 320
"""Pixels of each side, at least, of the images that a network for any size is traced with: where a map of a pyramid has
one position along a side, the graph would have one there for every size."""


class Graph(nn.Module):
    """What is exported: normalization and network of a task, rewritten into operators that runtimes run fast.

    Args:
        task: It is not changed.
    """

    def __init__(self, task: VisionTask) -> None:
        super().__init__()
        self.normalize = copy.deepcopy(task.normalize)
        self.network = _without_prelu(copy.deepcopy(task.network))
        self.eval().requires_grad_(False).cpu().to(memory_format=torch.contiguous_format)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) uint8 each to the outputs in the order of their fields."""
        outputs = self.network(*(self.normalize(each) for each in inputs))
        return tuple(getattr(outputs, name) for name in served_fields(type(outputs)))


class _LinearPReLU(nn.Module):
    """PReLU as a * x + (1 - a) * relu(x): the same function by operators that ONNX Runtime runs vectorized."""

    def __init__(self, prelu: nn.PReLU) -> None:
        super().__init__()
        self.weight = nn.Parameter(prelu.weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        slope = self.weight.view(1, -1, *([1] * (x.dim() - 2)))
        return slope * x + (1 - slope) * x.relu()


def _without_prelu(network: nn.Module) -> nn.Module:
    if isinstance(network, nn.PReLU):
        return _LinearPReLU(network)
    for name, child in network.named_children():
        setattr(network, name, _without_prelu(child))
    return network


def write_graph(task: VisionTask, path: Path) -> None:
    """Exports the network of a task as ONNX. Batch norms that follow a convolution are folded into it.

    Raises:
        CheckpointError: The network has something that the exporter cannot do; one line states what.
    """
    spec, shared = task.input, set(task.inputs) & set(served_fields(task.outputs))
    if shared:
        raise CheckpointError(
            f"{task.name}: the network cannot be exported to ONNX: {', '.join(sorted(shared))} is the name of an input "
            f"and of an output; rename the field of {task.outputs.__name__}"
        )
    free: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=1 << 16)}
    if spec.resize_mode == "native":
        last = 2 if spec.frames == 1 else 3
        free |= {last: torch.export.Dim.DYNAMIC, last + 1: torch.export.Dim.DYNAMIC}
    # Two images: an example with one would fix the batch at one.
    example = task.example_inputs(batch=2, min_side=TRACED)
    shapes = (tuple(dict(free) for _ in example),)  # the graph takes them as one tuple
    _write(task, Graph(task), example, list(task.inputs), list(served_fields(task.outputs)), shapes, path)


def write_second_stage(task: VisionTask, second: nn.Module, path: Path) -> None:
    """Exports what `decode` asks about its findings; any number of images and rows.

    Raises:
        CheckpointError: The network has something that the exporter cannot do; one line states what.
    """
    task.eval()
    with torch.no_grad():
        outputs = task(*task.example_inputs(batch=2, min_side=TRACED))
    names: tuple[str, ...] = second.inputs  # type: ignore[assignment]
    height, width = task.input.size
    rows = torch.tensor([[number, 0, 0, width / 2, height / 2] for number in (0.0, 1.0, 1.0)])
    example = (*(getattr(outputs, name).contiguous() for name in names[:-1]), rows)
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    free: list[dict[int, Any]] = [{0: batch} for _ in names[:-1]]
    if task.input.resize_mode == "native":
        free = [each | {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC} for each in free]
    free.append({0: torch.export.Dim("rows", min=1, max=1 << 20)})
    copied = copy.deepcopy(second).eval().requires_grad_(False).cpu().to(memory_format=torch.contiguous_format)
    _write(task, copied, example, list(names), [SECOND_OUTPUT], (tuple(free),), path)


def _write(
    task: VisionTask,
    network: nn.Module,
    example: tuple[Tensor, ...],
    inputs: list[str],
    outputs: list[str],
    free: Any,
    path: Path,
) -> None:
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                network,
                example,
                dynamo=True,
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=free,
                verbose=False,
            )
            assert program is not None
            # Every node carries the paths and the source lines it came from.
            for node in program.model.graph.all_nodes():
                node.metadata_props.clear()
                node.doc_string = None
            program.save(str(path))
    except OSError:  # a full disk is no fault of the network
        raise
    except Exception as error:  # the exporter has some dozens, each with pages of text
        raise CheckpointError(f"{task.name}: the network cannot be exported to ONNX: {_gist(error)}") from error


def _gist(error: BaseException) -> str:
    """The one line of an exporter's failure that names the cause: that of the innermost exception."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -=\u2588")]
    return f"{type(error).__name__}: {lines[0][:240]}" if lines else type(error).__name__
