"""Model repositories of NVIDIA Triton: by its rules, and the ensemble gives what the bundle gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tasks.detection import DetectionTask
from tests.contracts.cases import build
from tests.visionkit.triton_server import Server, TritonError, many, read_pbtxt
from ui.cli import build_parser, main
from ui.commands.export import name_in_triton
from visionkit.errors import UsageError
from visionkit.export import example_photos, export_bundle
from visionkit.geometry import InputSpec, ResizeMode
from visionkit.predictor import load
from visionkit.task import VisionTask
from visionkit.triton_repository import MAX_BATCH, check_servable, write_repository


def served(task: VisionTask, folder: Path) -> tuple[Path, Server]:
    """A bundle of the task, and a server of a repository that was written from it."""
    bundle = export_bundle(task, folder / "bundle", onnx=True, images=example_photos()[:1])
    write_repository(bundle, task, folder / "repository", "model")
    return bundle, Server(folder / "repository")


def ask(server: Server, files: list[bytes]) -> list[Any]:
    """The predictions on a request of several files."""
    column = (len(files), 1) if server.configs["model_ensemble"]["max_batch_size"] else (len(files),)
    given = np.empty(len(files), dtype=np.object_)
    given[:] = files
    out = server.infer("model_ensemble", {"encoded_image": given.reshape(column)})["prediction"]
    return [json.loads(text) for text in out.ravel()]


def same(found: Any, expected: Any) -> None:
    """Equal but for the last digits of numbers: ONNX Runtime and torch add up in another order."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            same(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=2e-3, rel=1e-3)
    else:
        assert found == expected


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Server]:
    torch.manual_seed(0)
    return served(build("classification").eval(), tmp_path_factory.mktemp("classifier"))


def test_a_batch_of_files_gives_what_the_bundle_gives(classifier: tuple[Path, Server]) -> None:
    bundle, server = classifier
    photos = example_photos()[:3]
    expected = [each.to_json() for each in load(bundle)([*photos])]
    found = ask(server, [photo.read_bytes() for photo in photos])
    same(found, expected)
    assert found == [each.to_json() for each in load(bundle, engine="onnx")([*photos])], "the graph's own, to the digit"


def test_the_configuration_is_that_of_the_graph(classifier: tuple[Path, Server]) -> None:
    _, server = classifier
    config = server.configs["model"]
    graph = onnx.load(server.repository / "model" / "1" / "model.onnx").graph
    assert [each["name"] for each in many(config["input"])] == [each.name for each in graph.input]
    assert [each["name"] for each in many(config["output"])] == [each.name for each in graph.output]
    (image,) = many(config["input"])
    assert (image["data_type"], image["dims"]) == ("TYPE_UINT8", [3, 64, 64])
    assert many(config["output"])[0]["data_type"] == "TYPE_FP32" and many(config["output"])[0]["dims"] == [3]
    assert config["max_batch_size"] == MAX_BATCH and config["dynamic_batching"]["max_queue_delay_microseconds"] > 0
    assert config["instance_group"][0]["kind"] == "KIND_AUTO" and config["backend"] == "onnxruntime"
    assert server.configs.keys() == {"model", "model_preprocess", "model_postprocess", "model_ensemble"}
    assert config["version_policy"] == {"latest": {"num_versions": 1}}


def test_a_file_that_is_no_image_is_an_error_of_its_request(classifier: tuple[Path, Server]) -> None:
    _, server = classifier
    with pytest.raises(TritonError, match="image 1: not an image"):
        ask(server, [example_photos()[0].read_bytes(), b"a shopping list"])


def test_a_second_export_is_a_further_version(classifier: tuple[Path, Server], tmp_path: Path) -> None:
    bundle, server = classifier
    repository = Path(shutil.copytree(server.repository, tmp_path / "repository"))
    task = load(bundle).task
    write_repository(bundle, task, repository, "model")
    assert {path.name for path in (repository / "model").iterdir()} == {"config.pbtxt", "1", "2"}
    assert ask(Server(repository), [example_photos()[0].read_bytes()])
    config = repository / "model_postprocess" / "config.pbtxt"
    config.write_text(config.read_text("utf-8").replace("dims: [ 3 ]", "dims: [ 4 ]"))
    with pytest.raises(UsageError, match=r"model_postprocess: another model, or the same with another interface"):
        write_repository(bundle, task, repository, "model")
    write_repository(bundle, task, repository, "model", overwrite=True)
    assert [path.name for path in (repository / "model").iterdir() if path.is_dir()] == ["1"]
    with pytest.raises(UsageError, match="--triton-name"):
        write_repository(bundle, task, repository, "../up")


@pytest.mark.slow
def test_a_second_stage_runs_behind_the_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = build("instance_segmentation").eval()
    bundle, server = served(task, tmp_path)
    photo = example_photos()[1]
    prediction = load(bundle, engine="onnx")(photo)
    assert len(prediction), "untrained boxes, yet some"
    assert ask(server, [photo.read_bytes()] * 2) == [prediction.to_json()] * 2
    assert (server.repository / "model_postprocess" / "1" / "model.roi.onnx").is_file()


@pytest.mark.parametrize("mode", ["letterbox", pytest.param("native", marks=pytest.mark.slow)])
def test_outputs_without_a_batch(mode: ResizeMode, tmp_path: Path) -> None:
    """The number of anchors per level: a constant of a fixed input, and of a free one the end of Triton's batches."""
    torch.manual_seed(0)
    # Of 64 pixels the last levels of RetinaNet have one position, and the exporter takes a side of 1 for a fixed one.
    side, network = (64, "localizer") if mode == "letterbox" else (256, "retinanet")
    task = DetectionTask(
        "test_resnet",
        classes=["a", "b"],
        architecture=network,
        retinanet={"neck_channels": 32, "convs": 1} if network == "retinanet" else None,
        input=InputSpec(size=(side, side), resize_mode=mode),
    ).eval()
    bundle, server = served(task, tmp_path)
    names = [each["name"] for each in many(server.configs["model"]["output"])]
    batched, photos = mode == "letterbox", example_photos()
    assert ("counts" in names) == (not batched)
    assert [config["max_batch_size"] for config in server.configs.values()] == [MAX_BATCH * batched] * 4
    assert ("dynamic_batching" in server.configs["model"]) == batched
    shown = photos[:2] if batched else photos[:1]
    found = ask(server, [photo.read_bytes() for photo in shown])
    assert found == [each.to_json() for each in load(bundle, engine="onnx")([*shown])]
    if not batched:
        (image,) = many(server.configs["model"]["input"])
        assert image["dims"] == [-1, 3, -1, -1]
        with pytest.raises(TritonError, match="one size"):
            ask(server, [photos[0].read_bytes(), photos[3].read_bytes()])


def test_what_an_ensemble_cannot_serve_is_refused() -> None:
    for name, message in (("super_resolution", "tiles"), ("stereo", "several images")):
        with pytest.raises(UsageError, match=message):
            check_servable(build(name))


def test_the_command_writes_a_repository(
    classifier: tuple[Path, Server], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, _ = classifier

    def exported(task: VisionTask, out: Path, **options: Any) -> Path:
        assert options["onnx"], "the repository needs the graph"
        return Path(shutil.copytree(bundle, out))

    monkeypatch.setattr("visionkit.export.export_bundle", exported)
    repository = tmp_path / "repository"
    given = ["export", str(bundle), "--triton", str(repository), "--triton-name", "shapes"]
    assert main(given) == 0
    assert f"tritonserver --model-repository {repository}" in capsys.readouterr().out
    assert {path.name for path in repository.iterdir()} >= {"shapes", "shapes_ensemble"}
    for words, name in (
        ("runs/flowers --triton r", "flowers"),
        ("runs/flowers/checkpoints/last.ckpt --triton r", "flowers"),
        ("timm:resnet50 --triton r", "resnet50"),
        ("runs/a --out models/b --triton r", "b"),
    ):
        assert name_in_triton(build_parser("export").parse(words.split())) == name
    assert main(["export", str(bundle), "--triton-name", "a", "--out", str(tmp_path / "o")]) == 2
    assert main(["export", str(bundle)]) == 2


def test_the_reader_reads() -> None:
    text = 'a: "x y"\nb [ { c: 1 d: [ -1, 2 ] }, { c: 2 } ]\ne { f { key: "k" } f { key: "l" } }\n'
    assert read_pbtxt(text) == {
        "a": "x y",
        "b": [{"c": 1, "d": [-1, 2]}, {"c": 2}],
        "e": {"f": [{"key": "k"}, {"key": "l"}]},
    }
