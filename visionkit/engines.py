"""What runs the network when a model is served: torch, ONNX Runtime or OpenVINO, all with one face.

An engine takes a batch (B, C, H, W) uint8 and gives the task's outputs. Preprocessing, decoding and the way back to
file pixels are the same code whatever the engine, see `visionkit.predictor`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import threading
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from visionkit.errors import CheckpointError, EnvironmentFault, UsageError, suggest
from visionkit.nn.memory_format import to_channels_last

if TYPE_CHECKING:
    from visionkit.task import VisionTask

log = logging.getLogger(__name__)

EngineName = Literal["torch", "onnx", "onnx-int8", "openvino"]

GRAPHS: dict[str, str] = {"onnx": "model.onnx", "onnx-int8": "model.int8.onnx", "openvino": "model.onnx"}
"""The file of a bundle that each engine runs; torch builds the task itself."""

SECOND, SECOND_OUTPUT = "model.roi.onnx", "values"
"""The file beside a graph that computes `VisionTask.second_stage`, and the name of its output."""


class Engine(Protocol):
    """Runs the network."""

    def __call__(self, *inputs: Tensor) -> Any:
        """Inputs in the order of the task's names, (B, C, H, W) uint8 each, to its outputs, a NamedTuple of tensors."""
        ...


class SecondStageSession:
    """Runs the graph of a second stage by ONNX Runtime.

    Args:
        path: The `.onnx` file.
        threads: See `OnnxEngine`.

    Raises:
        CheckpointError: The file is broken.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.session = _session(path, threads)
        self.names = [each.name for each in self.session.get_inputs()]

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Rows of the last input to as many rows."""
        values = [each.cpu().contiguous().numpy() for each in inputs]
        if not len(values[-1]):  # a graph need not know what to do with nothing
            one = [*values[:-1], np.zeros((1, *values[-1].shape[1:]), values[-1].dtype)]
            return torch.from_numpy(self._run(one)[:0])
        return torch.from_numpy(self._run(values))

    def _run(self, values: list[np.ndarray]) -> np.ndarray:
        (out,) = self.session.run([SECOND_OUTPUT], dict(zip(self.names, values, strict=True)))
        return np.asarray(out)


def _second(path: Path, threads: int | None) -> SecondStageSession | None:
    """The second stage that lies beside a graph."""
    beside = path.parent / SECOND
    return SecondStageSession(beside, threads) if beside.is_file() else None


class TorchEngine:
    """Runs the task itself, in evaluation mode, without gradients.

    Args:
        task: Task with its weights; it is moved to the device. A task that is being trained is put back into training
            mode after every call.
        device: "cpu", "cuda", "cuda:1"; where the task is, when left out.
        precision: "float32", or "bfloat16" or "float16" by autocast.

    Raises:
        UsageError: Unknown device or precision.
        EnvironmentFault: The device is not there.
    """

    def __init__(
        self,
        task: VisionTask,
        device: str | torch.device | None = None,
        precision: Literal["float32", "bfloat16", "float16"] = "float32",
    ) -> None:
        if precision not in ("float32", "bfloat16", "float16"):
            raise UsageError(f"precision {precision!r}: allowed are float32, bfloat16, float16")
        self.task, self.precision = task, precision
        self._lock, self._inside, self._was_training = threading.Lock(), 0, False
        if device is not None:
            task.to(find_device(device))
        if task.channels_last:
            to_channels_last(task.network)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.task.parameters()).device

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Any:
        device = self.device
        moved = [each.to(device, non_blocking=True) for each in inputs]
        with self._evaluating():
            if self.precision == "float32":
                return self.forward(*moved)
            with torch.autocast(device.type, dtype=getattr(torch, self.precision)):
                outputs = self.forward(*moved)
        return type(outputs)(*(v.float() if isinstance(v, Tensor) and v.is_floating_point() else v for v in outputs))

    def forward(self, *inputs: Tensor) -> Any:
        """The pass itself, on inputs that are on the device."""
        return self.task(*inputs)

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Evaluation mode for as long as any thread is inside; the last one out restores training mode."""
        with self._lock:
            if not self._inside:
                self._was_training = self.task.training
                if self._was_training:
                    self.task.eval()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside and self._was_training:
                    self.task.train()


class OnnxEngine:
    """Runs an exported graph by ONNX Runtime on the CPU.

    Args:
        path: The `.onnx` file.
        outputs: The task's NamedTuple type; its fields are the names of the graph's outputs.
        threads: Threads inside an operator; as many as torch uses by default.
        inputs: The task's names of its inputs, which are those of the graph.

    Raises:
        CheckpointError: The file is missing, broken, or gives other outputs.
    """

    def __init__(
        self,
        path: str | Path,
        outputs: type[tuple[Any, ...]],
        threads: int | None = None,
        inputs: tuple[str, ...] = ("image",),
    ) -> None:
        path = Path(path)
        self.session = _session(path, threads)
        self.second = _second(path, threads)
        self.outputs, self.inputs = outputs, inputs
        given = self.session.get_inputs()
        self.sizes = {each.name: tuple(each.shape[-2:]) for each in given}
        _check_names(path, [i.name for i in given], inputs, [o.name for o in self.session.get_outputs()], outputs)
        for each in given:
            if each.type != "tensor(uint8)":
                raise CheckpointError(
                    f"{path}: its input {each.name} is {each.type} and should be tensor(uint8); export it "
                    "with visionkit"
                )

    def __call__(self, *inputs: Tensor) -> Any:
        values = self.session.run(list(served_fields(self.outputs)), _feed(self.inputs, inputs, self.sizes))
        return self.outputs(*map(torch.from_numpy, values))


class OpenVinoEngine:
    """Runs an exported graph by OpenVINO on the CPU; fast in bfloat16 on processors that have it.

    Needs the optional package: `pip install 'visionkit[openvino]'`.

    Args:
        path: The `.onnx` file.
        outputs: The task's NamedTuple type.
        threads: Number of threads: as many as torch uses by default.
        precision: "bfloat16" is about twice as fast and differs in the third digit of a logit; "float32" does not.
        inputs: The task's names of its inputs.

    Raises:
        EnvironmentFault: The package is not installed.
        CheckpointError: The file is missing, broken, or gives other outputs.
    """

    def __init__(
        self,
        path: str | Path,
        outputs: type[tuple[Any, ...]],
        threads: int | None = None,
        precision: Literal["bfloat16", "float32"] = "bfloat16",
        inputs: tuple[str, ...] = ("image",),
    ) -> None:
        if importlib.util.find_spec("openvino") is None:
            raise EnvironmentFault("engine openvino: the package is not installed; pip install 'visionkit[openvino]'")
        import openvino

        path = Path(path)
        _exists(path)
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            self.model = openvino.Core().compile_model(str(path), "CPU", settings)
        except Exception as error:
            raise _unusable(path, error) from error
        self.outputs, self.second, self.inputs = outputs, _second(path, threads), inputs
        self.sizes = {
            each.get_any_name(): tuple(side.get_length() if side.is_static else "" for side in each.partial_shape[-2:])
            for each in self.model.inputs
        }
        found = [each.get_any_name() for each in self.model.outputs]
        _check_names(path, [each.get_any_name() for each in self.model.inputs], inputs, found, outputs)

    def __call__(self, *inputs: Tensor) -> Any:
        # A request of its own each time: the model's shared one belongs to one thread at a time.
        values = self.model.create_infer_request().infer(_feed(self.inputs, inputs, self.sizes))
        # The result's memory is the runtime's own and is used again by the next call.
        return self.outputs(*(torch.from_numpy(values[name].copy()) for name in served_fields(self.outputs)))


def graph_engine(
    name: str,
    folder: Path,
    outputs: type[tuple[Any, ...]],
    threads: int | None = None,
    inputs: tuple[str, ...] = ("image",),
) -> OnnxEngine | OpenVinoEngine:
    """The engine of that name for the graph in a bundle's folder.

    Raises:
        UsageError: Unknown name.
        CheckpointError: The bundle has no such graph, or it is broken.
    """
    check_engine(name)
    path = folder / GRAPHS[name]
    if not path.is_file():
        option = "--int8" if name == "onnx-int8" else "--onnx"
        raise CheckpointError(
            f"{folder}: it has no {path.name}, which engine {name} runs; visionkit export {option} writes it"
        )
    if name == "openvino":
        return OpenVinoEngine(path, outputs, threads, inputs=inputs)
    return OnnxEngine(path, outputs, threads, inputs)


def check_engine(name: str) -> None:
    """Refuses an unknown engine.

    Raises:
        UsageError: With the names that are known.
    """
    known = get_args(EngineName)
    if name not in known:
        raise UsageError(f"engine {name!r}: allowed are {', '.join(known)}{suggest(name, known)}")


def served_fields(outputs: type[tuple[Any, ...]]) -> tuple[str, ...]:
    """The fields of a task's outputs that a graph gives: those without a default; the others are for losses alone."""
    return tuple(name for name in outputs._fields if name not in outputs._field_defaults)  # type: ignore[attr-defined]


def _feed(
    names: tuple[str, ...], inputs: tuple[Tensor, ...], sizes: Mapping[str, tuple[Any, ...]]
) -> dict[str, np.ndarray]:
    """Inputs by name; `sizes` are height and width in the graph, numbers where they are fixed.

    The image itself is of 8 bit. What stands beside it, such as a noise level, is rounded to whole gray levels.
    """
    if inputs[0].dtype != torch.uint8:
        raise UsageError("an exported graph takes images of 8 bit; use engine torch for 16 bit")
    inputs = tuple(
        each if each.dtype == torch.uint8 else _rounded(name, each) for name, each in zip(names, inputs, strict=True)
    )
    for name, each in zip(names, inputs, strict=True):
        fixed = sizes[name]
        if any(isinstance(want, int) and want != side for want, side in zip(fixed, each.shape[-2:], strict=True)):
            given = f"{each.shape[-2]}x{each.shape[-1]}"
            raise UsageError(
                f"the exported graph takes images of {fixed[0]}x{fixed[1]}, not {given}; leave tta_scales out or use "
                "engine torch"
            )
    return {name: each.cpu().contiguous().numpy() for name, each in zip(names, inputs, strict=True)}


def _rounded(name: str, values: Tensor) -> Tensor:
    whole = values.round().clamp(0, 255)
    if not torch.equal(whole, values):
        _note_rounding(name)
    return whole.to(torch.uint8)


@cache  # once, not for every tile
def _note_rounding(name: str) -> None:
    log.warning("%s is rounded to whole gray levels, which is what an exported graph takes", name)


def _check_names(
    path: Path, given: list[str], inputs: tuple[str, ...], found: list[str], outputs: type[tuple[Any, ...]]
) -> None:
    needed = list(served_fields(outputs))
    if sorted(given) != sorted(inputs) or sorted(found) != sorted(needed):
        raise CheckpointError(
            f"{path}: its inputs are {', '.join(given)} and its outputs {', '.join(found)}; this task needs "
            f"{', '.join(inputs)} and {', '.join(needed)}"
        )


def _session(path: Path, threads: int | None) -> Any:
    import onnxruntime as ort

    _exists(path)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads keep the cores from whatever torch does next: decoding is otherwise twice as slow.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a dozen unrelated exception types
        raise _unusable(path, error) from error


def _exists(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path}: the file is empty (0 bytes); export the model again")


def _unusable(path: Path, error: Exception) -> CheckpointError:
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    return CheckpointError(f"{path}: not a usable ONNX file ({reason[:200]}); export the model again")


def find_device(device: str | torch.device) -> torch.device:
    """The device of that name.

    Raises:
        UsageError: No such type of device.
        EnvironmentFault: This machine lacks it.
    """
    try:
        found = torch.device(device)
    except RuntimeError:
        raise UsageError(f"device {device!r}: give cpu, cuda, cuda:<number> or mps") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise EnvironmentFault(f"device {device}: this machine has {torch.cuda.device_count()} CUDA devices; use cpu")
    if found.type == "mps" and not torch.backends.mps.is_available():
        raise EnvironmentFault(f"device {device}: this machine has no Apple GPU that torch can use; use cpu")
    return found
