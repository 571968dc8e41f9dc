"""Bundles with graphs: what is written is tried on pictures first, and a graph that answers otherwise is not kept.

The graph is made by torch's dynamo exporter from the weights as the bundle holds them: one input `image` (B, C, H, W)
uint8, normalisation inside, one output for each field of the task's outputs, the batch free (and height and width too
where the input's fit is `native`).
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visionkit.bundle import FACTS, save_bundle
from visionkit.engines import GRAPHS, INPUT, Engine, OnnxEngine, TorchEngine
from visionkit.errors import CheckpointError, UsageError
from visionkit.images import ImageLike
from visionkit.predictions import Classification, Prediction
from visionkit.predictor import Predictor
from visionkit.quantize import quantize
from visionkit.quiet import quiet
from visionkit.task import VisionTask

TOLERANCE = 1e-4
"""Highest difference in probability between torch and a float graph."""

OUTPUT_TOLERANCE = 1e-3
"""Highest difference of a float graph's outputs, as a part of the largest output."""

INT8_COSINE = 0.995
"""Least cosine, in the mean over pictures, between the outputs of torch and of an 8-bit graph."""

INT8_AGREEMENT = 0.9
"""Least share of pictures on which an 8-bit graph gives the answer of torch."""

CHECKED = 64
"""Pictures that a graph is tried on, at most."""


def export_bundle(
    source: str | Path | VisionTask,
    out: str | Path,
    *,
    onnx: bool = False,
    int8: bool = False,
    calibration: Sequence[ImageLike] | None = None,
    pictures: Sequence[ImageLike] | None = None,
    half: bool = False,
    card: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a bundle, whole or not at all.

    Args:
        source: A checkpoint, a bundle, a public name, or a task with its weights.
        out: Folder of the bundle.
        onnx: Also write `model.onnx`.
        int8: Also write `model.int8.onnx`: 8-bit weights and activations, several times faster on CPUs and a little
            different in its answers.
        calibration: For `int8`, pictures like those to come; some hundred are enough.
        pictures: What the graphs are tried on; by default the calibration pictures, else photos that scikit-image
            brings.
        half: Store the weights in 16 bit. The graphs are made from the weights so rounded.
        card: Facts for the model card, see `visionkit.bundle.save_bundle`.
        overwrite: Replace a bundle that is there.

    Returns:
        The folder. `model.json` states under `graphs` how far each graph is from torch.

    Raises:
        CheckpointError: The model cannot be opened, or a graph cannot be made or differs too much; nothing is written.
        UsageError: Something is at `out` already, or `int8` without pictures.
    """
    if int8 and not calibration:
        raise UsageError("int8: wants calibration pictures, some hundred like those to come")
    task = _task(source)
    tried = list(pictures or calibration or example_photos())

    def complete(folder: Path) -> None:
        if not (onnx or int8):
            return
        from visionkit.checkpoint import load_task

        stored = load_task(folder)  # with the weights as they will be read: rounded where `half`
        with tempfile.TemporaryDirectory() as scratch:
            graph = Path(scratch) / GRAPHS["onnx"]
            write_graph(stored, graph)
            reports: dict[str, Any] = {}
            if onnx:
                reports[graph.name] = _checked(stored, graph, tried, TOLERANCE)
                (folder / graph.name).write_bytes(graph.read_bytes())
            if int8 and calibration:
                small = folder / GRAPHS["onnx-int8"]
                predictor = Predictor(stored)
                quantize(graph, small, (predictor.prepare(picture)["image"] for picture in calibration))
                reports[small.name] = _checked_int8(stored, small, tried)
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        facts["graphs"] = reports
        (folder / FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    return save_bundle(task, out, card=card or {}, half=half, overwrite=overwrite, complete=complete)


def _task(source: str | Path | VisionTask) -> VisionTask:
    if isinstance(source, VisionTask):
        return source
    from visionkit.checkpoint import load_task

    return load_task(source)


def example_photos() -> list[Path]:
    """Photos in scikit-image's wheel, of different sizes, colour and grey; nothing is downloaded."""
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


# ---------------------------------------------------------------------- the graph


class Graph(nn.Module):
    """What is exported: normalisation and network of a task, rewritten into operators that runtimes run fast.

    Args:
        task: It is not changed.
    """

    def __init__(self, task: VisionTask) -> None:
        super().__init__()
        self.normalize = copy.deepcopy(task.normalize)
        self.network = _without_prelu(copy.deepcopy(task.network))
        self.eval().requires_grad_(False).cpu().to(memory_format=torch.contiguous_format)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) uint8 to the outputs in the order of their fields."""
        return tuple(self.network(self.normalize(image)))


class _LinearPReLU(nn.Module):
    """PReLU as a * x + (1 - a) * relu(x): the same function by operators that ONNX Runtime runs vectorised."""

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
        CheckpointError: The network has something that the exporter cannot do; one line says what.
    """
    spec = task.input
    free: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=1 << 16)}
    if spec.fit == "native":
        free |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    # Two pictures: an example with one would fix the batch at one.
    example = torch.randint(0, 256, (2, spec.channels, *spec.size), dtype=torch.uint8)
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                Graph(task),
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=list(task.outputs._fields),  # type: ignore[attr-defined]
                dynamic_shapes=(free,),
                verbose=False,
            )
            assert program is not None
            # Every node carries the paths and the source lines it came from.
            for node in program.model.graph.all_nodes():
                node.metadata_props.clear()
                node.doc_string = None
            program.save(str(path))
    except Exception as error:  # the exporter has some dozens, each with pages of text
        raise CheckpointError(f"{task.name}: the network cannot be exported to ONNX: {_gist(error)}") from error


def _gist(error: BaseException) -> str:
    """The one line of an exporter's failure that names the cause: that of the innermost exception."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -=\u2588")]
    return f"{type(error).__name__}: {lines[0][:240]}" if lines else type(error).__name__


# ---------------------------------------------------------------------- the trial


@singledispatch
def difference(ours: Prediction, other: Prediction) -> tuple[float, bool] | None:
    """How far two answers are apart and whether they say the same; None for kinds that register nothing.

    Kinds without it are judged by the network's outputs alone.
    """
    return None


@difference.register(Classification)
def _classification(ours: Classification, other: Prediction) -> tuple[float, bool]:
    assert isinstance(other, Classification)
    same = {label.name for label in ours.labels} == {label.name for label in other.labels}
    return float(np.abs(ours.probabilities - other.probabilities).max()), same


@dataclass(frozen=True)
class Agreement:
    """How a graph's answers compare with torch's.

    Attributes:
        pictures: Number tried.
        outputs: Largest difference of an output, as a part of the largest value of that output.
        cosine: Mean over pictures of the cosine between the outputs.
        difference: Largest difference between predictions (of a probability), or None where that is not defined.
        same: Share of pictures with the same answer, or None.
    """

    pictures: int
    outputs: float
    cosine: float
    difference: float | None
    same: float | None


@torch.inference_mode()
def compare(task: VisionTask, engine: Engine, pictures: Sequence[ImageLike], limit: int = CHECKED) -> Agreement:
    """Tries an engine on pictures, beside torch.

    Args:
        task: With its weights.
        engine: Of a graph of the same task.
        pictures: Any that `visionkit.images` reads.
        limit: Take at most so many of them, evenly.
    """
    predictor, reference = Predictor(task), TorchEngine(task)
    outputs, cosines, distances, same = [0.0], [], [], []
    step = max(1, len(pictures) // limit)
    for picture in pictures[::step][:limit]:
        example = predictor.prepare(picture)
        # Twice the same picture, so a graph with a fixed batch shows.
        image = torch.stack([example["image"]] * 2)
        ours, other = reference(image), engine(image)
        for a, b in zip(ours, other, strict=True):
            scale = float(a.abs().max()) or 1.0
            outputs.append(float((a.float() - b.float()).abs().max()) / scale)
        flat = [torch.cat([v.double().flatten() for v in values]) for values in (ours, other)]
        cosines.append(float(torch.cosine_similarity(flat[0], flat[1], dim=0)))
        geometry = [example["geometry"]] * 2
        answers = [task.restore(task.decode(values), geometry)[0] for values in (ours, other)]
        if (found := difference(answers[0], answers[1])) is not None:
            distances.append(found[0])
            same.append(found[1])
    return Agreement(
        len(cosines),
        max(outputs) if np.isfinite(outputs).all() else float("inf"),
        float(np.mean(cosines)),
        max(distances) if distances else None,
        float(np.mean(same)) if same else None,
    )


def _checked(task: VisionTask, path: Path, pictures: Sequence[ImageLike], tolerance: float) -> dict[str, Any]:
    found = compare(task, OnnxEngine(path, type(task).outputs), pictures)
    wrong = found.outputs > OUTPUT_TOLERANCE
    if found.difference is not None:
        # Probabilities are what is served; outputs may differ more where a softmax does not show it.
        wrong = not found.difference <= tolerance
    if wrong:
        told = (
            f"{found.difference:.2g} in probability"
            if found.difference is not None
            else f"{found.outputs:.2g} in outputs"
        )
        allowed = tolerance if found.difference is not None else OUTPUT_TOLERANCE
        raise CheckpointError(
            f"{path.name}: not kept: on {found.pictures} pictures it differs from torch by up to {told}, allowed is "
            f"{allowed:g}"
        )
    return {**asdict(found), "tolerance": tolerance if found.difference is not None else OUTPUT_TOLERANCE}


def _checked_int8(task: VisionTask, path: Path, pictures: Sequence[ImageLike]) -> dict[str, Any]:
    found = compare(task, OnnxEngine(path, type(task).outputs), pictures)
    if not found.cosine >= INT8_COSINE or (found.same is not None and found.same < INT8_AGREEMENT):
        told = f", the same answer on {found.same:.1%}" if found.same is not None else ""
        raise CheckpointError(
            f"{path.name}: not kept: on {found.pictures} pictures its outputs have a cosine of {found.cosine:.4f} with "
            f"torch's{told}; wanted are {INT8_COSINE:g} and {INT8_AGREEMENT:.0%}; try more calibration pictures"
        )
    return {**asdict(found), "tolerance": {"cosine": INT8_COSINE, "same": INT8_AGREEMENT}}
