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

from visionkit.bundle import save_bundle
from visionkit.engines import GRAPHS, INPUT, SECOND, SECOND_OUTPUT, Engine, OnnxEngine, TorchEngine, served_fields
from visionkit.errors import CheckpointError, UsageError
from visionkit.images import ImageLike, ImageSource
from visionkit.model_files import FACTS
from visionkit.predictions import Answers, Classification, DepthMap, Detections, Poses, Prediction
from visionkit.predictor import Predictor
from visionkit.quantize import quantize
from visionkit.quiet import quiet
from visionkit.task import VisionTask
from visionkit.types import View

TOLERANCE = 1e-4
"""Highest difference in probability between torch and a float graph."""

OUTPUT_TOLERANCE = 1e-3
"""Highest difference of a float graph's outputs, as a part of the largest output."""

INT8_COSINE = 0.995
"""Least cosine, in the mean over pictures, between the outputs of torch and of an 8-bit graph."""

INT8_AGREEMENT = 0.9
"""Least share of pictures on which an 8-bit graph gives the answer of torch."""

MIDDLE = 192
"""Of pictures that are taken at their own size, so many pixels a side are tried."""

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
            if (second := stored.second_stage()) is not None:
                write_second_stage(stored, second, folder / SECOND)
                (Path(scratch) / SECOND).write_bytes((folder / SECOND).read_bytes())
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
        outputs = self.network(self.normalize(image))
        return tuple(getattr(outputs, name) for name in served_fields(type(outputs)))


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
    _write(task, Graph(task), (example,), [INPUT], list(served_fields(task.outputs)), (free,), path)


def write_second_stage(task: VisionTask, second: nn.Module, path: Path) -> None:
    """Exports what `decode` asks about its findings; any number of pictures and rows.

    Raises:
        CheckpointError: The network has something that the exporter cannot do; one line says what.
    """
    task.eval()
    with torch.no_grad():
        outputs = task(torch.randint(0, 256, (2, task.input.channels, *task.input.size), dtype=torch.uint8))
    names: tuple[str, ...] = second.inputs  # type: ignore[assignment]
    sides = torch.tensor([task.input.size[1], task.input.size[0]] * 2) / 2
    rows = torch.cat([torch.tensor([[0.0], [1.0], [1.0]]), torch.rand(3, 4).sort(dim=1).values * sides], dim=1)
    example = (*(getattr(outputs, name).contiguous() for name in names[:-1]), rows)
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    free: list[dict[int, Any]] = [{0: batch} for _ in names[:-1]]
    if task.input.fit == "native":
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


@difference.register(Detections)
def _detections(ours: Detections, other: Prediction) -> tuple[float, bool]:
    """Largest difference of a score, or of a side of a box as a part of the picture's longer side.

    Objects are paired by class and place, since two of almost one score may change their order. One without a partner
    counts with its whole score, unless it lies at the end of the answer, where rounding decides what is still in.
    """
    assert isinstance(other, Detections)
    lowest = min([*ours.scores, *other.scores], default=0.0)
    apart, free = 0.0, set(range(len(other)))
    same = len(ours.above()) == len(other.above())
    alone: list[float] = []
    for box, score, label in zip(ours.boxes, ours.scores, ours.labels, strict=True):
        rows = [k for k in free if other.labels[k] == label and abs(other.scores[k] - score) <= _NEAR]
        far = [float(np.abs(other.boxes[k] - box).max()) / max(ours.size) for k in rows]
        if not rows or min(far) > _NEAR:
            alone.append(float(score))
            continue
        k = rows[int(np.argmin(far))]
        free.remove(k)
        apart = max(apart, min(far), abs(float(other.scores[k] - score)))
    alone += [float(other.scores[k]) for k in free]
    for score in alone:
        at_the_end = score - lowest <= _NEAR and score <= 0.25
        apart = max(apart, score - lowest if at_the_end else score)
    return apart, same


@difference.register(DepthMap)
def _depth_map(ours: DepthMap, other: Prediction) -> tuple[float, bool]:
    """Largest difference as a part of the largest value; they say the same where the median pixel is within 1 %."""
    assert isinstance(other, DepthMap)
    apart = np.abs(ours.values - other.values)
    most = max(float(ours.values.max()), 1e-12)
    return float(apart.max()) / most, bool(np.median(apart / np.maximum(ours.values, 1e-12)) <= 0.01)


@difference.register(Answers)
def _answers(ours: Answers, other: Prediction) -> tuple[float, bool] | None:
    """Of the head that differs most; they say the same where all heads do."""
    assert isinstance(other, Answers)
    found = [difference(part, other[name]) for name, part in ours.items()]
    known = [each for each in found if each is not None]
    return (max(each[0] for each in known), all(each[1] for each in known)) if known else None


_NEAR = 0.01
"""Two objects are the same where neither score nor place, as a part of the picture, differs by more."""


@difference.register(Poses)
def _poses(ours: Poses, other: Prediction) -> tuple[float, bool]:
    """Of the scores, and of visible joints as a share of the person's size."""
    assert isinstance(other, Poses)
    if len(ours) != len(other):
        return 1.0, False
    of_scores = float(np.abs(ours.joint_scores - other.joint_scores).max(initial=0.0))
    sides = np.maximum(ours.boxes[:, 2:] - ours.boxes[:, :2], 1.0).max(axis=1, initial=1.0)
    far = np.linalg.norm(ours.joints - other.joints, axis=2) / sides[:, None]
    of_places = float(far[ours.visible | other.visible].max(initial=0.0))
    return max(of_scores, of_places), bool((ours.visible == other.visible).all())


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
        example = predictor.prepare(picture, _middle(picture) if task.input.fit == "native" else None)
        # Twice the same picture, so a graph with a fixed batch shows.
        image = torch.stack([example["image"]] * 2)
        ours, other = reference(image), engine(image)
        values = [[getattr(each, name) for name in served_fields(type(each))] for each in (ours, other)]
        for a, b in zip(*values, strict=True):
            scale = float(a.abs().max()) or 1.0
            outputs.append(float((a.float() - b.float()).abs().max()) / scale)
        flat = [torch.cat([v.double().flatten() for v in each]) for each in values]
        cosines.append(float(torch.cosine_similarity(flat[0], flat[1], dim=0)))
        geometry = [example["geometry"]] * 2
        decoded = [task.decode(ours), _decode(task, engine, other)]
        answers = [task.restore(each, geometry)[0] for each in decoded]
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


def _middle(picture: ImageLike) -> View | None:
    """The middle of a picture that a network takes at its own size: a photo at whole size would take minutes."""
    height, width = ImageSource(picture).size
    if max(height, width) <= MIDDLE:
        return None
    top, left = max(0, (height - MIDDLE) // 2), max(0, (width - MIDDLE) // 2)
    return View((left, top, min(left + MIDDLE, width), min(top + MIDDLE, height)))


def _decode(task: VisionTask, engine: Engine, outputs: Any) -> Any:
    task.second_engine = getattr(engine, "second", None)
    try:
        return task.decode(outputs)
    finally:
        task.second_engine = None


def _checked(task: VisionTask, path: Path, pictures: Sequence[ImageLike], tolerance: float) -> dict[str, Any]:
    found = compare(task, OnnxEngine(path, task.outputs), pictures)
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
    found = compare(task, OnnxEngine(path, task.outputs), pictures)
    if not found.cosine >= INT8_COSINE or (found.same is not None and found.same < INT8_AGREEMENT):
        told = f", the same answer on {found.same:.1%}" if found.same is not None else ""
        raise CheckpointError(
            f"{path.name}: not kept: on {found.pictures} pictures its outputs have a cosine of {found.cosine:.4f} with "
            f"torch's{told}; wanted are {INT8_COSINE:g} and {INT8_AGREEMENT:.0%}; try more calibration pictures"
        )
    return {**asdict(found), "tolerance": {"cosine": INT8_COSINE, "same": INT8_AGREEMENT}}
