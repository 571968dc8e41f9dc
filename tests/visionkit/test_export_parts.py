"""How an export goes on, with the exporter and the checks in its place: which files, which images, which free sides."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.tiny_training import tiny_task
from visionkit import export
from visionkit.engines import SECOND
from visionkit.errors import CheckpointError, UsageError
from visionkit.export import Graph, example_inputs, example_photos, export_bundle, write_graph, write_second_stage
from visionkit.geometry import InputSpec


@pytest.fixture(scope="module")
def task() -> Any:
    torch.manual_seed(0)
    return tiny_task().eval()


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Notes what the parts of an export are given, and does the least in their place."""
    seen: dict[str, Any] = {}

    def wrote(task: Any, path: Path) -> None:
        seen["task"] = task
        path.write_bytes(b"graph")

    def second(task: Any, stage: Any, path: Path) -> None:
        seen["second"] = stage
        path.write_bytes(b"second")

    def checked(task: Any, path: Path, images: Any, progress: Any) -> dict[str, Any]:
        seen["images"] = images
        seen["beside"] = sorted(each.name for each in path.parent.iterdir())
        return {"graph": path.read_bytes().decode()}

    def quantize(graph: Path, small: Path, prepared: Any) -> None:
        seen["prepared"] = [{name: tuple(each.shape) for name, each in inputs.items()} for inputs in prepared]
        small.write_bytes(graph.read_bytes() + b" in 8 bit")

    for name, stand_in in (
        ("write_graph", wrote), ("write_second_stage", second), ("checked", checked), ("checked_int8", checked),
        ("quantize", quantize),
    ):  # fmt: skip
        monkeypatch.setattr(export, name, stand_in)
    return seen


IMAGES = [np.full((30, 40, 3), 50 * k, np.uint8) for k in range(3)]


def stages(**options: Any) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    seen: list[tuple[Any, ...]] = []
    return seen, {**options, "progress": lambda *given: seen.append(given)}


def graphs(folder: Path) -> Any:
    return json.loads((folder / "model.json").read_text()).get("graphs")


def test_a_bundle_alone_has_no_graph(task: Any, tried: dict[str, Any], tmp_path: Path):
    seen, options = stages()
    folder = export_bundle(task, tmp_path / "b", **options)
    assert folder == tmp_path / "b" and graphs(folder) is None and tried == {}
    assert seen == [("writing the weights",)] and not list(folder.glob("*.onnx"))
    assert json.loads((folder / "model.json").read_text())["weights"]["dtype"] == "float32"
    with pytest.raises(UsageError, match="allow overwriting"):
        export_bundle(task, tmp_path / "b")
    export_bundle(task, tmp_path / "b", half=True, overwrite=True, card={"data": "noise"})
    facts = json.loads((folder / "model.json").read_text())
    assert facts["weights"]["dtype"] == "float16" and facts["card"]["data"] == "noise"
    again = export_bundle(folder, tmp_path / "c")
    assert json.loads((again / "model.json").read_text())["config"] == facts["config"], "of a bundle as of a task"


def test_the_graph_is_made_of_the_stored_weights_and_tried_on_photos(task: Any, tried: dict[str, Any], tmp_path: Path):
    seen, options = stages(onnx=True, half=True)
    folder = export_bundle(task, tmp_path / "b", **options)
    assert (folder / "model.onnx").read_bytes() == b"graph" and graphs(folder) == {"model.onnx": {"graph": "graph"}}
    assert tried["images"] == example_photos() and len(example_photos()) >= 5
    stored = dict(tried["task"].network.named_parameters())
    assert all(torch.equal(stored[name], each.half().float()) for name, each in task.network.named_parameters())
    assert [stage for stage, *_ in seen] == ["writing the weights", "building the ONNX graph"]
    assert not (folder / "model.int8.onnx").exists()


def test_an_8_bit_graph_is_calibrated_on_the_images_and_tried_on_them(task: Any, tried: dict[str, Any], tmp_path: Path):
    seen, options = stages(int8=True, calibration=IMAGES)
    folder = export_bundle(task, tmp_path / "b", **options)
    assert sorted(path.name for path in folder.glob("*.onnx")) == ["model.int8.onnx"]
    assert (folder / "model.int8.onnx").read_bytes() == b"graph in 8 bit"
    assert graphs(folder) == {"model.int8.onnx": {"graph": "graph in 8 bit"}} and tried["images"] == IMAGES
    assert tried["prepared"] == [{"image": (3, 24, 24)}] * 3
    assert seen[2:] == [
        *(("calibrating the 8-bit graph", number, 3) for number in range(3)),
        ("quantizing the graph to 8 bit",),
    ]
    export_bundle(task, tmp_path / "c", int8=True, onnx=True, calibration=IMAGES, images=IMAGES[:1])
    assert tried["images"] == IMAGES[:1], "those that are named come first"
    assert sorted(graphs(tmp_path / "c")) == ["model.int8.onnx", "model.onnx"]
    for given in ({}, {"calibration": []}):
        with pytest.raises(UsageError, match="int8: needs calibration images"):
            export_bundle(task, tmp_path / "d", int8=True, **given)


def test_a_second_stage_lies_beside_its_graph(task: Any, tried: dict[str, Any], tmp_path: Path, monkeypatch: Any):
    stage = nn.Identity()
    monkeypatch.setattr(type(task), "second_stage", lambda self: stage)
    seen, options = stages(onnx=True)
    folder = export_bundle(task, tmp_path / "b", **options)
    assert (folder / SECOND).read_bytes() == b"second" and tried["second"] is stage
    assert tried["beside"] == sorted(["model.onnx", SECOND]), "also where the graph is tried"
    assert seen[-1] == ("building the ONNX graph of the second stage",)


# ---------------------------------------------------------------------- images to try a graph on


def stub(inputs: tuple[str, ...], frames: int = 1) -> Any:
    return SimpleNamespace(inputs=inputs, input=InputSpec(size=(8, 8), frames=frames))


def test_each_input_and_each_frame_is_moved_so_that_none_stands_for_another():
    assert example_inputs(stub(("image",))) == example_photos()
    pair: Any = example_inputs(stub(("left", "right")))[0]
    left, right = pair["left"].read(), pair["right"].read()
    assert np.array_equal(right[:-1, :-3], left[1:, 3:]) and not np.array_equal(left, right)
    clips: Any = example_inputs(stub(("left", "right"), frames=2))[0]
    frames = [frame.read() for name in ("left", "right") for frame in clips[name]]
    assert [len(clips[name]) for name in ("left", "right")] == [2, 2]
    assert all(np.array_equal(each, np.roll(left, (-k, -3 * k), (0, 1))) for k, each in enumerate(frames))
    single: Any = example_inputs(stub(("image",), frames=3))[0]
    assert list(single) == ["image"] and len(single["image"]) == 3


# ---------------------------------------------------------------------- the graph


class Outputs(NamedTuple):
    logits: Tensor
    extra: Tensor = torch.zeros(())


class Slopes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.PReLU(3, 0.1), nn.Sequential(nn.PReLU(), nn.Dropout(0.9)))

    def forward(self, image: Tensor) -> Outputs:
        return Outputs(self.body(image).mean((2, 3)), image)


def graph_of(network: nn.Module, normalize: nn.Module | None = None) -> Graph:
    return Graph(SimpleNamespace(normalize=normalize or nn.Identity(), network=network))  # type: ignore[arg-type]


def test_the_graph_is_the_network_in_evaluation_and_leaves_it_as_it_was():
    network = Slopes().train()
    graph = graph_of(network, nn.Flatten(0, 0))
    image = torch.randn(2, 3, 4, 4)
    (found,) = graph(image)  # the field with a default is for losses alone
    assert torch.allclose(found, network.eval()(image).logits, atol=1e-6)
    assert not graph.training and not any(each.requires_grad for each in graph.parameters())
    assert all(each.requires_grad for each in network.parameters())
    assert sum(isinstance(each, nn.PReLU) for each in network.modules()) == 2
    assert not any(isinstance(each, nn.PReLU) for each in graph.modules())
    alone = export._without_prelu(nn.PReLU(2, 0.5))  # type: ignore[attr-defined]
    assert alone(torch.tensor([[-2.0, 4.0]])).tolist() == [[-1, 4]]


def given_to_the_exporter(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    node = SimpleNamespace(metadata_props={"path": "/home"}, doc_string="text")

    def exported(network: Any, example: Any, **options: Any) -> Any:
        seen.update(network=network, example=example, node=node, **options)
        model = SimpleNamespace(graph=SimpleNamespace(all_nodes=lambda: [node]))
        return SimpleNamespace(model=model, save=lambda path: Path(path).write_bytes(b"graph"))

    monkeypatch.setattr(torch.onnx, "export", exported)
    return seen


@pytest.mark.parametrize(
    ("spec", "sides"),
    [
        ({"resize_mode": "stretch"}, [0]),
        ({"resize_mode": "native"}, [0, 2, 3]),
        ({"resize_mode": "native", "frames": 2}, [0, 3, 4]),
        ({"resize_mode": "letterbox", "frames": 2}, [0]),
    ],
)
def test_the_batch_is_free_and_of_native_inputs_height_and_width(
    spec: dict[str, Any], sides: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = given_to_the_exporter(monkeypatch)
    shape = (2, *((2,) if spec.get("frames") else ()), 3, 8, 8)
    task: Any = SimpleNamespace(
        name="stub", input=InputSpec(size=(8, 8), **spec), inputs=("left", "right"), outputs=Outputs,
        normalize=nn.Identity(), network=nn.Identity(),
        example_inputs=lambda batch, min_side: (torch.zeros(batch, *shape[1:]),) * 2,
    )  # fmt: skip
    write_graph(task, tmp_path / "a.onnx")
    assert [sorted(each) for (both,) in [seen["dynamic_shapes"]] for each in both] == [sides, sides]
    batch = seen["dynamic_shapes"][0][0][0]
    assert (batch.min, batch.max) == (1, 1 << 16) and [tuple(each.shape) for each in seen["example"]] == [shape] * 2
    assert (seen["input_names"], seen["output_names"]) == (["left", "right"], ["logits"])
    assert (tmp_path / "a.onnx").read_bytes() == b"graph" and seen["dynamo"] is True and seen["verbose"] is False
    assert (seen["node"].metadata_props, seen["node"].doc_string) == ({}, None), "no path of this machine"


@pytest.mark.parametrize(
    ("resize_mode", "size", "expected"),
    [
        ("native", (64, 96), (320, 480)),  # at 64 pixels a coarse map has one position, for every size of the graph
        ("native", (352, 320), (352, 320)),
        ("stretch", (64, 96), (64, 96)),
    ],
)
def test_a_network_for_any_size_is_traced_with_a_large_image(
    resize_mode: Any, size: tuple[int, int], expected: tuple[int, int]
):
    task = tiny_task()
    task.input = InputSpec(size=size, resize_mode=resize_mode)
    assert task.example_inputs(2, min_side=export.TRACED)[0].shape == (2, 3, *expected)


def test_an_output_may_not_have_the_name_of_an_input(tmp_path: Path):
    task: Any = SimpleNamespace(name="stub", input=InputSpec(), inputs=("logits", "image"), outputs=Outputs)
    with pytest.raises(CheckpointError, match="stub: the network cannot be exported to ONNX: logits is the name of"):
        write_graph(task, tmp_path / "a.onnx")


def test_a_full_disk_is_no_fault_of_the_network(task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*given: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.onnx, "export", full)
    with pytest.raises(OSError, match="No space left"):
        write_graph(task, tmp_path / "a.onnx")

    def fails(*given: Any, **options: Any) -> Any:
        try:
            raise ValueError("-----\n\n  the cause  \nmore")
        except ValueError as cause:
            raise RuntimeError("pages of text") from cause

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(CheckpointError) as caught:
        write_graph(task, tmp_path / "a.onnx")
    assert str(caught.value) == "classification: the network cannot be exported to ONNX: ValueError: the cause"
    gist = export._gist  # type: ignore[attr-defined]
    assert gist(KeyError()) == "KeyError" and gist(ValueError("x" * 300)) == "ValueError: " + "x" * 240


class Stage(nn.Module):
    """Sums a map within rows of number and box: here what lies left of their right side."""

    inputs = ("map4", "rois")

    def forward(self, *inputs: Tensor) -> Tensor:
        maps, rois = inputs
        chosen = maps[rois[:, 0].long()]
        return (chosen * (torch.arange(maps.shape[3]) < rois[:, 3, None])[:, None, None]).sum((1, 2, 3))


class Maps(NamedTuple):
    map4: Tensor


class TwoStage(nn.Module):
    name, inputs = "stub", ("image",)

    def __init__(self, resize_mode: Any) -> None:
        super().__init__()
        self.input, self.norm = InputSpec(size=(8, 16), resize_mode=resize_mode), nn.BatchNorm2d(3)

    def example_inputs(self, batch: int, min_side: int) -> tuple[Tensor, ...]:
        return (torch.rand(batch, 3, 8, 16),)

    def forward(self, image: Tensor) -> Maps:
        return Maps(self.norm(image))


@pytest.mark.parametrize(("resize_mode", "sides"), [("stretch", [0]), ("native", [0, 2, 3])])
def test_a_second_stage_takes_any_number_of_images_and_rows(
    resize_mode: str, sides: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = given_to_the_exporter(monkeypatch)
    task: Any = TwoStage(resize_mode).train()
    stage = Stage().train()
    write_second_stage(task, stage, tmp_path / "a.onnx")
    assert task.norm.running_mean.abs().sum() == 0, "what the network has learned of its data stays"
    assert stage.training and not seen["network"].training and seen["network"] is not stage
    ((maps, rows),) = seen["dynamic_shapes"]
    assert sorted(maps) == sides and list(rows) == [0] and (maps[0].max, rows[0].max) == (1 << 16, 1 << 20)
    assert (maps[0].min, rows[0].min) == (1, 1)
    assert (seen["input_names"], seen["output_names"]) == (["map4", "rois"], ["values"])
    values, boxes = seen["example"]
    assert values.shape == (2, 3, 8, 16) and boxes.shape[1] == 5 and not values.requires_grad
    assert (
        boxes[:, 0].max() < 2
        and (boxes[:, 3:] > boxes[:, 1:3]).all()
        and boxes[:, 3].max() <= 16
        and boxes[:, 4].max() <= 8
    )


def test_the_graph_of_a_second_stage_computes_what_it_does(tmp_path: Path):
    import onnxruntime

    stage = Stage()
    write_second_stage(TwoStage("stretch"), stage, tmp_path / "a.onnx")  # type: ignore[arg-type]
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    for images, count in ((1, 1), (3, 5)):
        maps = torch.rand(images, 3, 8, 16)
        rows = torch.tensor([[k % images, 0, 0, 3 + k, 8] for k in range(count)], dtype=torch.float32)
        (found,) = session.run(["values"], {"map4": maps.numpy(), "rois": rows.numpy()})
        assert np.allclose(found, stage(maps, rows), atol=1e-5)
