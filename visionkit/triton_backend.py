"""What runs before and after the network in NVIDIA Triton: the Python backends of an exported model repository.

`visionkit.triton_repository` writes the repository; its `model.py` files derive Triton's class from those here. Both
hold the task without its weights and call what `Predictor` calls, so the prediction is that of all other ways to serve.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from visionkit.checkpoint import StoredModel
from visionkit.engines import SECOND, SecondStageSession, served_fields
from visionkit.errors import DataError, VisionKitError
from visionkit.forward_pass import decoded_outputs
from visionkit.geometry import Geometry
from visionkit.images import ImageSource
from visionkit.model_facts import read_facts
from visionkit.predictor import Predictor, without_weights
from visionkit.results import Call
from visionkit.task import VisionTask

IMAGE, GEOMETRY, PREDICTION = "encoded_image", "geometry", "prediction"
"""Names of the tensors that are none of the network's, each one text or one file per image."""

CONSTANTS = "constants.npz"
"""Outputs of the network that are the same for every image, which a batch cannot carry."""


class _Backend:
    """Handles requests one by one; what is wrong with one of them is its own response.

    Attributes:
        folder: Folder of this version of the model, which holds `model.json`.
    """

    folder: ClassVar[Path]

    def initialize(self, args: dict[str, str]) -> None:
        """Called by Triton when the model is loaded.

        Args:
            args: Triton's configuration of the model; not needed.
        """
        self.triton: Any = importlib.import_module("triton_python_backend_utils")  # exists inside Triton alone
        facts = read_facts(self.folder)
        stored = StoredModel(str(self.folder), facts["task"], facts["config"], dict, inputs=facts["inputs"])
        self.task: VisionTask = without_weights(stored.blank)
        torch.set_num_threads(1)  # Triton has as many instances of a model as it is configured to have

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response per request, in order.

        Args:
            requests: Triton's `InferenceRequest` objects.
        """
        return [self._response(request) for request in requests]

    def _response(self, request: Any) -> Any:
        try:
            values = self.run(lambda name: self.triton.get_input_tensor_by_name(request, name).as_numpy())
        except VisionKitError as error:
            return self.triton.InferenceResponse(output_tensors=[], error=self.triton.TritonError(str(error)))
        tensors = [self.triton.Tensor(name, value) for name, value in values.items()]
        return self.triton.InferenceResponse(output_tensors=tensors)

    def run(self, given: Any) -> dict[str, np.ndarray]:
        """The outputs of one request by name; `given` takes the name of an input."""
        raise NotImplementedError


class Preprocessing(_Backend):
    """From encoded images to the network's input, and where each pixel went."""

    def initialize(self, args: dict[str, str]) -> None:
        super().initialize(args)
        self.predictor = Predictor(self.task, _no_engine)

    def run(self, given: Any) -> dict[str, np.ndarray]:
        files = given(IMAGE)
        examples = [self._example(bytes(data), f"image {k}") for k, data in enumerate(files.ravel())]
        images = [example["inputs"][self.task.inputs[0]] for example in examples]
        sizes = {tuple(image.shape[1:]) for image in images}
        if len(sizes) > 1:
            shown = ", ".join(f"{height}x{width}" for height, width in sorted(sizes))
            raise DataError(f"the images of one request need one size, and these are {shown}; send one per request")
        geometries = [json.dumps(example["geometry"]._asdict()).encode() for example in examples]
        return {
            self.task.inputs[0]: np.ascontiguousarray(torch.stack(images).numpy()),
            GEOMETRY: np.array(geometries, dtype=np.object_).reshape(files.shape),
        }

    def _example(self, data: bytes, name: str) -> Any:
        image = self.predictor.decoded(ImageSource(data, name))
        return self.predictor.prepare(image, only_view(self.task, image))


class Postprocessing(_Backend):
    """From the network's outputs to the json of predictions in file pixels."""

    def initialize(self, args: dict[str, str]) -> None:
        super().initialize(args)
        second = self.folder / SECOND
        self.second = SecondStageSession(second, threads=1) if second.is_file() else None
        constants = self.folder / CONSTANTS
        self.constants = dict(np.load(constants)) if constants.is_file() else {}

    @torch.inference_mode()
    def run(self, given: Any) -> dict[str, np.ndarray]:
        fields = served_fields(self.task.outputs)
        values = [self.constants[name] if name in self.constants else given(name) for name in fields]
        # A copy: the memory is Triton's own, and not to be written to.
        outputs = self.task.outputs(*(torch.from_numpy(np.array(each)) for each in values))
        decoded = decoded_outputs(self.task, _Known(outputs, self.second), (), Call({}, {}))
        stated = given(GEOMETRY)
        geometries = [_geometry(text) for text in stated.ravel()]
        texts = [
            json.dumps(_prediction(self.task, part, geometry).to_json()).encode()
            for part, geometry in zip(self.task.restore(decoded, geometries), geometries, strict=True)
        ]
        return {PREDICTION: np.array(texts, dtype=np.object_).reshape(stated.shape)}


class _Known:
    """An engine whose network has run already, elsewhere."""

    def __init__(self, outputs: Any, second: SecondStageSession | None) -> None:
        self.outputs, self.second = outputs, second

    def __call__(self, *inputs: torch.Tensor) -> Any:
        return self.outputs


def only_view(task: VisionTask, image: ImageSource) -> Any:
    """The one view of an image that a task is served with.

    Args:
        task: Plans how the image is predicted on.
        image: Only its size matters.

    Raises:
        DataError: The task would run on several views of it, such as tiles, which no ensemble does.
    """
    views = task.plan(image).views
    if len(views) != 1:
        raise DataError(f"{image.name}: the model takes an image of this size in {len(views)} parts; Triton runs one")
    return views[0]


def _prediction(task: VisionTask, part: Any, geometry: Geometry) -> Any:
    blank = np.broadcast_to(np.uint8(0), (*geometry.source, 3))  # takes no memory: its size alone is asked for
    reduce: Any = task.plan(ImageSource(blank)).reduce
    return reduce.prediction([part])


def _geometry(text: Any) -> Geometry:
    stated: dict[str, Any] = json.loads(bytes(text))
    values: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in stated.items()}
    return Geometry(**values)


def _no_engine(*inputs: torch.Tensor) -> Any:
    raise AssertionError("the network runs in another model of the ensemble")
