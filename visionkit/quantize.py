"""A float graph to an 8-bit one: static quantization of weights and activations, calibrated on images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from visionkit.errors import CheckpointError, VisionKitError
from visionkit.log_filters import quiet

PERCENTILE = 99.999
"""Fraction of an activation's values that its 8-bit range holds; what is beyond is clipped."""

CHUNK = 4
"""Images whose activations are in memory together while calibrating."""

CONVOLUTIONAL = (
    "Conv",
    "Gemm",
    "MatMul",
    "Add",
    "Mul",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Relu",
    "Concat",
)
"""What computes in 8 bit in a network of convolutions, so that a chain of them stays in 8 bit throughout."""

TRANSFORMER = ("Conv", "Gemm", "MatMul")
"""In a transformer only products with weights do: residual sums and attention have outliers that 8 bit cannot hold."""


def quantize(graph: Path, out: Path, images: Iterable[Mapping[str, Tensor]]) -> None:
    """Writes an 8-bit graph (QDQ format, weights per channel) that takes and gives what the float graph does.

    Args:
        graph: The float `.onnx` file.
        out: The file to write.
        images: Calibration inputs by name, (C, H, W) uint8 each; ranges are taken from what they make of every
            activation.

    Raises:
        CheckpointError: ONNX Runtime cannot quantize this graph.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as scratch, quiet():
        prepared, ranges = Path(scratch) / "prepared.onnx", Path(scratch) / "ranges.json"
        try:
            quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)  # it fails on ReduceMax
            nodes = {node.op_type for node in onnx.load(prepared, load_external_data=False).graph.node}
            operators = list(TRANSFORMER if "Softmax" in nodes else CONVOLUTIONAL)
            calibrator = create_calibrator(
                prepared,
                operators,
                augmented_model_path=str(Path(scratch) / "augmented.onnx"),
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"percentile": PERCENTILE},
            )
            for chunk in _chunks(images, CHUNK):
                # The collector keeps every activation until it is done with a reader: hence one for a few images.
                calibrator.collect_data(_Reader(chunk))
            save_tensors_data(calibrator.compute_data(), ranges)
            del calibrator
            quantize_static(
                str(prepared),
                str(out),
                None,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=operators,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile,
                calibration_cache_path=ranges,
                extra_options={"MatMulConstBOnly": True},
            )
        except VisionKitError:  # a calibration image that cannot be read
            raise
        except Exception as error:  # ONNX Runtime's tools raise plain ones of every type
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise CheckpointError(f"{graph.name}: cannot be quantized to 8 bit: {lines[0][:240]}") from error


class _Reader:
    """A few images as ONNX Runtime's calibration reads them."""

    def __init__(self, samples: list[Mapping[str, Tensor]]) -> None:
        self.feeds = iter(
            [{name: np.ascontiguousarray(each[None].numpy()) for name, each in inputs.items()} for inputs in samples]
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
