"""A model repository for NVIDIA Triton, written from a bundle with a graph.

Four models: the network by ONNX Runtime under its own name, a Python backend before and one behind it
(`visionkit.triton_backend`), and the ensemble of the three, which takes encoded images and gives the json of
predictions.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visionkit.atomic import atomic_folder
from visionkit.engines import GRAPHS, SECOND
from visionkit.errors import CheckpointError, DataError, UsageError
from visionkit.images import ImageSource
from visionkit.model_files import FACTS
from visionkit.tiling import MapReducer
from visionkit.triton_backend import CONSTANTS, GEOMETRY, IMAGE, PREDICTION, only_view

if TYPE_CHECKING:
    from visionkit.task import VisionTask

MAX_BATCH = 16
"""Images that Triton puts into one batch."""

_TYPES = {
    "FLOAT": "FP32",
    "FLOAT16": "FP16",
    "DOUBLE": "FP64",
    "UINT8": "UINT8",
    "INT32": "INT32",
    "INT64": "INT64",
    "BOOL": "BOOL",
}
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_TEXTS = (IMAGE, GEOMETRY, PREDICTION)
_BEHIND = {"preprocess": "Preprocessing", "postprocess": "Postprocessing"}


@dataclass(frozen=True)
class GraphTensor:
    """An input or output of a graph.

    Attributes:
        name: Its name.
        data_type: Triton's name of its type, without `TYPE_`.
        shape: Its sides; text where the graph leaves one free.
    """

    name: str
    data_type: str
    shape: tuple[int | str, ...]

    def dims(self, batched: bool) -> list[int]:
        """The sides as a configuration has them: -1 where free, without the batch where Triton adds it."""
        return [side if isinstance(side, int) else -1 for side in self.shape[1 if batched else 0 :]]


@dataclass(frozen=True)
class _Interface:
    image: GraphTensor
    outputs: list[GraphTensor]
    constants: list[GraphTensor]  # outputs without a batch, which are the same for every image

    @property
    def batched(self) -> bool:
        """Whether all tensors begin with the batch, as Triton's batches require."""
        return all(each.shape[:1] == self.image.shape[:1] for each in self.outputs)


def check_servable(task: VisionTask) -> None:
    """Refuses a task that an ensemble of three models cannot serve.

    Raises:
        UsageError: It takes several images, or runs on an image in parts.
    """
    if len(task.inputs) > 1 or task.input.frames > 1:
        raise UsageError(f"--triton: {task.name} takes several images; an ensemble is written for tasks of one")
    for size in ((48, 64), (3000, 4000)):
        image = ImageSource(np.broadcast_to(np.uint8(0), (*size, 3)), f"an image of {size[0]}x{size[1]}")
        if isinstance(task.plan(image).reduce, MapReducer):
            raise UsageError(
                f"--triton: this {task.name} model takes images in tiles, which an ensemble cannot; use visionkit serve"
            )
        try:
            only_view(task, image)
        except DataError as error:
            raise UsageError(f"--triton: {error}; use visionkit serve") from None


def write_repository(
    bundle: Path, task: VisionTask, repository: str | Path, name: str, overwrite: bool = False
) -> list[Path]:
    """Adds a model to a repository, or a further version to a model that is there.

    Args:
        bundle: Folder of a bundle with `model.onnx`.
        task: Its task.
        repository: The repository, which `tritonserver --model-repository` gets.
        name: Name of the network's model; those of the others begin with it.
        overwrite: Replace all versions that are there.

    Returns:
        Folders of the four models, the ensemble last.

    Raises:
        UsageError: The name is not allowed, the task cannot be served so, or what is there has another interface.
        CheckpointError: The graph has an interface that Triton cannot state.
        EnvironmentFault: The disk is full.
    """
    check_servable(task)
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--triton-name {name}: allowed are letters, digits, '_', '.' and '-', a letter or digit first"
        )
    graph = bundle / GRAPHS["onnx"]
    interface = _interface(graph)
    constants = _constant_values(graph, interface, task) if interface.constants else {}
    files: dict[str, Callable[[Path], None]] = {
        f"{name}_preprocess": lambda folder: _write_python(folder, "preprocess", bundle),
        f"{name}_postprocess": lambda folder: _write_postprocessing(folder, bundle, constants),
        name: lambda folder: _copy(graph, folder),
        f"{name}_ensemble": lambda folder: (folder / ".keep").touch(),  # an empty folder would not survive a copy
    }
    configurations = _configurations(name, interface)
    root = Path(repository)
    there = [each for each in files if (root / each).exists()]
    version = 1
    if there and not overwrite:
        for each in files:
            config = root / each / "config.pbtxt"
            if not config.is_file() or config.read_text("utf-8") != configurations[each]:
                raise UsageError(
                    f"{root / each}: another model, or the same with another interface, is there; give another "
                    "--triton-name, or replace it and its versions with --overwrite"
                )
        version = 1 + max(int(path.name) for path in (root / name).iterdir() if path.name.isdigit())
    # The ensemble comes last, so that what it names is there.
    for each, write in files.items():
        if version > 1:
            with atomic_folder(root / each / str(version)) as folder:
                write(folder)
            continue
        with atomic_folder(root / each) as folder:
            (folder / "config.pbtxt").write_text(configurations[each], encoding="utf-8")
            (folder / "1").mkdir()
            write(folder / "1")
    return [root / each for each in files]


# ---------------------------------------------------------------------- the graph


def _interface(graph: Path) -> _Interface:
    """Inputs and outputs of a graph, those that are constants apart where the others have a batch."""
    import onnx

    def tensors(values: Any) -> list[GraphTensor]:
        found = []
        for each in values:
            kind = onnx.TensorProto.DataType.Name(each.type.tensor_type.elem_type)
            if kind not in _TYPES:
                raise CheckpointError(f"{graph}: {each.name} is of type {kind}, which Triton is not given")
            sides = each.type.tensor_type.shape.dim
            shape = tuple(side.dim_value if side.HasField("dim_value") else side.dim_param or "?" for side in sides)
            found.append(GraphTensor(each.name, _TYPES[kind], shape))
        return found

    model = onnx.load(str(graph), load_external_data=False).graph
    (image,), outputs = tensors(model.input), tensors(model.output)
    is_fixed = all(isinstance(side, int) for side in image.shape[1:])
    constants = [
        each
        for each in outputs
        if is_fixed and each.shape[:1] != image.shape[:1] and all(isinstance(side, int) for side in each.shape)
    ]
    found = _Interface(image, [each for each in outputs if each not in constants], constants)
    for each in (image, *found.outputs):
        if not each.dims(found.batched):
            raise CheckpointError(f"{graph}: {each.name} has no side beside the batch, which Triton's tensors need")
    return found


def _constant_values(graph: Path, interface: _Interface, task: VisionTask) -> dict[str, np.ndarray]:
    """The values of outputs that are the same for every image, from two of noise.

    Raises:
        CheckpointError: They are not the same.
    """
    import onnxruntime as ort

    session = ort.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    names = [each.name for each in interface.constants]
    runs = [session.run(names, {interface.image.name: task.example_inputs(batch)[0].numpy()}) for batch in (1, 2)]
    for name, one, two in zip(names, *runs, strict=True):
        if not np.array_equal(one, two):
            raise CheckpointError(f"{graph}: its output {name} has no batch and is another one for another image")
    return dict(zip(names, runs[0], strict=True))


# ---------------------------------------------------------------------- the files


def _write_python(folder: Path, which: str, bundle: Path) -> None:
    base = _BEHIND[which]
    (folder / "model.py").write_text(
        '"""Written by `visionkit export --triton`; needs visionkit in the Python of Triton."""\n\n'
        f"from pathlib import Path\n\nfrom visionkit.triton_backend import {base}\n\n\n"
        f"class TritonPythonModel({base}):\n    folder = Path(__file__).parent\n",
        encoding="utf-8",
    )
    _copy(bundle / FACTS, folder)


def _write_postprocessing(folder: Path, bundle: Path, constants: dict[str, Any]) -> None:
    _write_python(folder, "postprocess", bundle)
    if (bundle / SECOND).is_file():
        _copy(bundle / SECOND, folder)
    if constants:
        np.savez(folder / CONSTANTS, **constants)


def _copy(file: Path, folder: Path) -> None:
    shutil.copyfile(file, folder / file.name)


# ---------------------------------------------------------------------- the configurations


def _configurations(name: str, interface: _Interface) -> dict[str, str]:
    """`config.pbtxt` of each model."""
    batched = interface.batched
    # One text or file per image: with a batch it is a column beside it, without one the batch itself.
    texts = {each: f'{{ name: "{each}" data_type: TYPE_STRING dims: [ {1 if batched else -1} ] }}' for each in _TEXTS}
    image, outputs = _tensor(interface.image, batched), [_tensor(each, batched) for each in interface.outputs]
    size = f"max_batch_size: {MAX_BATCH if batched else 0}\n"
    # Requests wait a millisecond at most for others to share a batch with.
    dynamic = "dynamic_batching { max_queue_delay_microseconds: 1000 }\n" if batched else ""
    latest = "version_policy: { latest: { num_versions: 1 } }\n"

    def model(name: str, kind: str, inputs: Sequence[str], outputs: Sequence[str], rest: str) -> str:
        return f'name: "{name}"\n{kind}\n{size}{_listed("input", inputs)}{_listed("output", outputs)}{rest}'

    workers = "instance_group [ { count: 2 kind: KIND_CPU } ]\n"
    python, graph = 'backend: "python"', 'backend: "onnxruntime"'
    before, behind, whole = f"{name}_preprocess", f"{name}_postprocess", f"{name}_ensemble"
    names = [each.name for each in interface.outputs]
    steps = ",\n".join(
        (
            _step(before, {IMAGE: IMAGE}, [interface.image.name, GEOMETRY]),
            _step(name, {interface.image.name: interface.image.name}, names),
            _step(behind, {each: each for each in (*names, GEOMETRY)}, [PREDICTION]),
        )
    )
    return {
        before: model(before, python, [texts[IMAGE]], [image, texts[GEOMETRY]], latest + workers),
        behind: model(behind, python, [*outputs, texts[GEOMETRY]], [texts[PREDICTION]], latest + workers),
        name: model(
            name, graph, [image], outputs, f"{latest}{dynamic}instance_group [ {{ count: 1 kind: KIND_AUTO }} ]\n"
        ),
        whole: model(
            whole,
            'platform: "ensemble"',
            [texts[IMAGE]],
            [texts[PREDICTION]],
            f"ensemble_scheduling {{\n  step [\n{steps}\n  ]\n}}\n",
        ),
    }


def _listed(side: str, tensors: Sequence[str]) -> str:
    lines = ",\n".join(f"  {each}" for each in tensors)
    return f"{side} [\n{lines}\n]\n"


def _tensor(tensor: GraphTensor, batched: bool) -> str:
    dims = ", ".join(map(str, tensor.dims(batched)))
    return f'{{ name: "{tensor.name}" data_type: TYPE_{tensor.data_type} dims: [ {dims} ] }}'


def _step(model: str, inputs: dict[str, str], outputs: Sequence[str]) -> str:
    maps = [f'input_map {{ key: "{key}" value: "{value}" }}' for key, value in inputs.items()]
    maps += [f'output_map {{ key: "{each}" value: "{each}" }}' for each in outputs]
    lines = "".join(f"      {each}\n" for each in maps)
    return f'    {{\n      model_name: "{model}"\n      model_version: -1\n{lines}    }}'
