"""Bundles with graphs: what is kept predictions as torch does, what is not is reported."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import visionkit.export
from tasks.classification import ClassificationTask
from visionkit.engines import OnnxEngine, TorchEngine
from visionkit.errors import CheckpointError, DataError, UsageError
from visionkit.export import Graph, compare, example_photos, export_bundle, write_graph
from visionkit.export_check import _middle
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.predictor import Predictor, load


class _PReLUTask(ClassificationTask):
    """A small network with PReLU, batch norm after and before convolutions, and weights that were fitted a little."""

    def __init__(self, *, classes: Sequence[str] = ("a", "b", "c"), input: InputSpec | None = None) -> None:
        super().__init__("test_resnet", classes=classes, input=input or InputSpec(size=(32, 32)))
        body = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.PReLU(16),
            nn.BatchNorm2d(16),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.PReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, len(classes)),
        )
        self.network = _Named(body)


class _Named(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, image: Tensor) -> Any:
        return ClassificationTask.outputs(self.body(image))


def fitted(task: ClassificationTask) -> ClassificationTask:
    """Weights, statistics and slopes away from their beginnings."""
    torch.manual_seed(0)
    task.train()
    for parameter in task.parameters():
        nn.init.normal_(parameter, std=0.3)
    for _ in range(3):
        task(torch.randint(0, 256, (8, 3, *task.input.size), dtype=torch.uint8))
    return task.eval()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClassificationTask, Path]:
    torch.manual_seed(0)
    task = ClassificationTask("test_resnet", classes=["cat", "dog", "bird"], input=InputSpec(size=(64, 64))).eval()
    folder = tmp_path_factory.mktemp("export") / "bundle"
    message: list[tuple[Any, ...]] = []
    options: dict[str, Any] = {"onnx": True, "int8": True, "calibration": example_photos(), "card": {"data": "none"}}
    export_bundle(task, folder, **options, progress=lambda *given: message.append(given))
    stages = list(dict.fromkeys(stage for stage, *_ in message))
    assert stages == [
        "writing the weights",
        "building the ONNX graph",
        "checking the graph on images",
        "calibrating the 8-bit graph",
        "quantizing the graph to 8 bit",
    ]
    assert ("checking the graph on images", 2, len(example_photos())) in message
    return task, folder


def test_every_engine_gives_the_predictions(bundle):
    task, folder = bundle
    expected = [Predictor(task)(photo) for photo in example_photos()]
    for engine, tolerance in (("torch", 0), ("onnx", 1e-5), ("onnx-int8", 0.05)):
        predictor = load(folder, engine=engine)
        assert predictor.classes == ("cat", "dog", "bird")
        for found, wanted in zip(predictor([*example_photos()]), expected, strict=True):
            assert np.abs(found.probabilities - wanted.probabilities).max() <= tolerance + 1e-6
    assert load(folder / "model.onnx", engine="onnx")(example_photos()[0]).classes == ("cat", "dog", "bird")


def test_what_was_measured_is_written_down(bundle):
    _, folder = bundle
    graphs = json.loads((folder / "model.json").read_text())["graphs"]
    assert graphs["model.onnx"]["tolerance"] == 1e-4 and 0 <= graphs["model.onnx"]["difference"] <= 1e-4
    assert graphs["model.onnx"]["images"] == len(example_photos()) >= 5
    assert graphs["model.int8.onnx"]["cosine"] >= 0.995 and graphs["model.int8.onnx"]["same"] >= 0.9
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sizes["model.int8.onnx"] < 0.4 * sizes["model.onnx"]


def test_the_graph_is_clean(bundle):
    _, folder = bundle
    model = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(model)
    operators = {node.op_type for node in model.graph.node}
    assert "BatchNormalization" not in operators, "folded into the convolutions"
    (image,) = model.graph.input
    shape = [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim]
    assert image.name == "image" and image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert isinstance(shape[0], str) and shape[1:] == [3, 64, 64]
    assert [output.name for output in model.graph.output] == list(ClassificationTask.outputs._fields)
    here = str(Path(visionkit.export.__file__).parent)
    assert here.encode() not in (folder / "model.onnx").read_bytes(), "no path of the machine that wrote it"


def test_the_weights_are_not_loaded_for_a_graph(bundle):
    _, folder = bundle
    predictor = load(folder, engine="onnx")
    assert all(parameter.is_meta for parameter in predictor.task.network.parameters())
    assert isinstance(predictor.engine, OnnxEngine)


def test_batches_of_any_size(bundle):
    task, folder = bundle
    engine, reference = OnnxEngine(folder / "model.onnx", task.outputs), TorchEngine(task)
    for count in (1, 2, 7):
        image = torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8)
        assert torch.allclose(engine(image).logits, reference(image).logits, atol=1e-5)


def test_prelu_is_rewritten_exactly(tmp_path):
    task = fitted(_PReLUTask())
    image = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    graph = Graph(task)
    assert not [m for m in graph.modules() if isinstance(m, nn.PReLU)]
    assert [m for m in task.modules() if isinstance(m, nn.PReLU)], "the task itself is not changed"
    assert torch.allclose(graph(image)[0], task(image).logits, atol=1e-5)
    write_graph(task, tmp_path / "a.onnx")
    assert "PRelu" not in {node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node}
    found = compare(task, OnnxEngine(tmp_path / "a.onnx", task.outputs), example_photos())
    assert found.difference is not None and found.difference < 1e-4 and found.same == 1.0


def test_a_native_input_is_free_in_height_and_width(tmp_path):
    task = fitted(_PReLUTask(input=InputSpec(size=(64, 64), resize_mode="native", divisor=16)))
    write_graph(task, tmp_path / "a.onnx")
    engine = OnnxEngine(tmp_path / "a.onnx", task.outputs)
    for size in ((64, 64), (48, 112), (16, 16)):
        image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
        assert torch.allclose(engine(image).logits, task(image).logits, atol=1e-4)


def test_16_bit_weights_and_graph_agree(tmp_path):
    task = ClassificationTask("test_resnet", classes=["a", "b"], input=InputSpec(size=(32, 32))).eval()
    folder = export_bundle(task, tmp_path / "b", onnx=True, half=True)
    rounded = load(folder)
    before, after = task.network.state_dict(), rounded.task.network.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    graph = load(folder, engine="onnx")
    for photo in example_photos()[:3]:
        assert np.allclose(rounded(photo).probabilities, graph(photo).probabilities, atol=1e-6)


def test_a_graph_that_differs_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    task = ClassificationTask("test_resnet", classes=["a", "b"], input=InputSpec(size=(32, 32))).eval()

    def slightly_wrong(given: ClassificationTask, path: Path) -> None:
        other = copy.deepcopy(given)
        with torch.no_grad():
            list(other.network.parameters())[-1][0] += 0.05  # the bias of the first class
        write_graph(other, path)

    monkeypatch.setattr(visionkit.export, "write_graph", slightly_wrong)
    message = r"model\.onnx: not kept: on \d+ images it differs from torch by up to 0\.\d+ in probability"
    with pytest.raises(CheckpointError, match=message) as caught:
        export_bundle(task, tmp_path / "b", onnx=True)
    assert "\n" not in str(caught.value) and "allowed is 0.0001" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_cannot_be_exported_is_reported_in_one_line(tmp_path, capfd):
    class Moody(nn.Module):
        def forward(self, image: Tensor) -> Any:
            if image.sum() > 0:  # depends on the values, which no graph can hold
                image = image * 2
            return ClassificationTask.outputs(image.mean((2, 3)))

    task = _PReLUTask()
    task.network = Moody()
    with pytest.raises(CheckpointError, match="classification: the network cannot be exported to ONNX: ") as caught:
        write_graph(task, tmp_path / "a.onnx")
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    report = capfd.readouterr()
    assert report.out == report.err == "", "the exporter's pages are held back"
    assert not (tmp_path / "a.onnx").exists()


def test_8_bit_requires_images_that_can_be_read(tmp_path):
    task = ClassificationTask("test_resnet", classes=["a", "b"], input=InputSpec(size=(32, 32))).eval()
    with pytest.raises(UsageError, match="calibration"):
        export_bundle(task, tmp_path / "b", int8=True)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    Image.new("RGB", (40, 40)).save(tmp_path / "good.png")
    with pytest.raises(DataError, match=r"bad\.png: not an image"):
        export_bundle(
            task,
            tmp_path / "b",
            int8=True,
            calibration=[tmp_path / "good.png", tmp_path / "bad.png"],
            images=example_photos(),
        )
    assert not (tmp_path / "b").exists()


def test_a_graph_that_fails_on_an_image_is_not_kept(monkeypatch: pytest.MonkeyPatch):
    """A runtime's own exception is no defect of visionkit: one line names the size it fails on."""
    task = ClassificationTask("test_resnet", classes=["a", "b"], input=InputSpec(size=(32, 32))).eval()

    def engine(*inputs: torch.Tensor) -> Any:
        raise RuntimeError("axis 0 has\nmismatched dimensions")

    image = np.zeros((20, 30, 3), np.uint8)
    message = r"^a\.onnx: not kept: it fails on two images of 32x32 pixels: axis 0 has mismatched"
    with pytest.raises(CheckpointError, match=message):
        compare(task, engine, [image], name="a.onnx")

    class SecondStage(TorchEngine):
        def second(self, *given: Any) -> Any:
            raise RuntimeError("no such kernel")

    def decode(outputs: Any, second: Any = None) -> list[Any]:
        return [] if second is None else second()

    monkeypatch.setattr(task, "decode", decode)
    with pytest.raises(CheckpointError, match="fails on two images of 32x32 pixels: no such kernel"):
        compare(task, SecondStage(task), [image])


def test_images_of_native_size_are_tried_at_unequal_sides():
    assert _middle(ImageSource(np.zeros((100, 200, 3), np.uint8))) is None
    view = _middle(ImageSource(np.zeros((300, 200, 3), np.uint8)))
    assert view is not None and tuple(view.box) == (0, 70, 200, 230)
