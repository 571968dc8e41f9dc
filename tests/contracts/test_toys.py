"""Three toy tasks through the whole of visionkit: two named inputs, clips with state, two optimizers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from lightning import Trainer
from PIL import Image

from tests import tiny_clips
from tests.contracts import toy_clip
from tests.contracts.toy_pair import pair_of
from tests.contracts.toys import TOYS, as_rank, build, data_of, installed, train, train_and_kill
from tests.ranks import on_two_ranks
from tests.tiny_training import end_state
from tests.ui.browser import Watched, chromium, needs_chromium
from tests.ui.conftest import served
from ui.cli import main
from visionkit.errors import CheckpointError, DataError, UsageError
from visionkit.export import write_graph
from visionkit.predictions import Prediction
from visionkit.predictor import load


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(tmp_path_factory.mktemp("installed")):
        yield


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle, graph included, of each toy, and `pair.ckpt`, which states its task once it is opened."""
    from visionkit.export import export_bundle

    folder = tmp_path_factory.mktemp("models")
    for name in TOYS:
        export_bundle(build(name).eval(), folder / name, onnx=True, card={"data": "noise"})
    pair = build("toy_pair")
    checkpoint: dict[str, Any] = {"state_dict": pair.state_dict()}
    pair.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, folder / "pair.ckpt")
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three pairs as the folders `left` and `right`, and a list of them."""
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
    rows = ["left,right"]
    for number in range(3):
        for name, pixels in zip(("left", "right"), pair_of(number), strict=False):
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
        rows.append(f"left/{number}.png,right/{number}.png")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    return tmp_path


@pytest.fixture
def video(tmp_path: Path) -> list[Path]:
    """The frames of a video, as files of one folder."""
    (tmp_path / "video").mkdir()
    paths = [tmp_path / "video" / f"{frame:03d}.png" for frame in range(5)]
    for frame, path in enumerate(paths):
        Image.fromarray(toy_clip.frame_of(frame % 2, frame, frame)).save(path)
    return paths


# ---------------------------------------------------------------------- training


FIT = {
    "toy_pair": ({"max_epochs": 6}, "val/mae", 0.75),
    "toy_clip": ({"max_epochs": 5}, "val/certainty", None),
    "toy_adversarial": ({"max_epochs": 6, "accumulate_grad_batches": 2, "gradient_clip_val": 0.5}, "val/mse", 0.04),
}


@pytest.mark.parametrize("name", TOYS)
def test_fit_learns(name: str, tmp_path: Path) -> None:
    options, metric, limit = FIT[name]
    trainer = train(name, tmp_path, dropout=0.0, checkpoint_every=0, **options)
    reached = float(trainer.callback_metrics[metric])
    assert reached > 0.8 if limit is None else reached < limit
    assert type(load(tmp_path / "checkpoints" / "last.ckpt").task) is TOYS[name][0]


@pytest.mark.parametrize("name", TOYS)
def test_the_command_line_trains_and_measures(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task, data = (f"{each.__module__}.{each.__name__}" for each in TOYS[name])
    options = ["--data.batch_size", "4", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--ema", "0.9"]
    if name == "toy_adversarial":
        options += ["--trainer.gradient_clip_val", "0.5", "--trainer.accumulate_grad_batches", "2"]
    run = str(tmp_path / "run")
    assert main(["fit", "--model", task, "--data", data, "--trainer.logger", "false", "--run", run, *options]) == 0
    assert main(["test", "--ckpt_path", run]) == 0
    assert TOYS[name][0].monitor[0].replace("val", "test") in capsys.readouterr().out
    for file in ("training-images.png", "test/images.png", "test/images.csv"):
        assert (tmp_path / "run" / "report" / file).is_file()


def _killed(name: str, step: int, tmp_path: Path, **options: Any) -> None:
    given = {"max_epochs": 2, "checkpoint_every": 3, **options}
    train(name, tmp_path / "whole", **given)
    train_and_kill(name, tmp_path / "killed", step, **given)
    train(name, tmp_path / "killed", **given)
    data = TOYS[name][1].__name__
    assert end_state(tmp_path / "killed", data) == end_state(tmp_path / "whole", data)


def test_two_optimizers_that_were_killed_end_bit_for_bit_as_an_uninterrupted_training(tmp_path: Path) -> None:
    """Killed within an epoch, and where the discriminator has not stepped with the last step of the generator."""
    _killed("toy_adversarial", 4, tmp_path, gradient_clip_val=0.5, batch_size=3)
    state = torch.load(tmp_path / "whole" / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]
    assert state["count"] == 16 and state["parts"]["generator"]["state"][0]["step"] == 16


@pytest.mark.slow
@pytest.mark.parametrize(("name", "step"), [("toy_pair", 2), ("toy_clip", 7)])
def test_other_toys_that_were_killed_end_as_uninterrupted_ones(name: str, step: int, tmp_path: Path) -> None:
    _killed(name, step, tmp_path)


@pytest.mark.slow
def test_accumulation_survives_a_kill(tmp_path: Path) -> None:
    _killed("toy_adversarial", 3, tmp_path, accumulate_grad_batches=2, checkpoint_every=1)


# ---------------------------------------------------------------------- two ranks


def _evaluated(rank: int | None, name: str, folder: str) -> dict[str, float]:
    options: dict[str, Any] = {"accelerator": "cpu"} if rank is None else as_rank(rank)
    trainer = Trainer(default_root_dir=folder, logger=False, enable_progress_bar=False, enable_checkpointing=False,
                      **options)  # fmt: skip
    task = build(name)
    found = trainer.validate(task, datamodule=data_of(name, task, batch_size=3), verbose=False)[0]
    loader: Any = trainer.val_dataloaders
    return {**{key: float(value) for key, value in found.items()}, "samples": len(loader.sampler)}


def _check_evaluation(name: str, folder: Path) -> None:
    wanted = _evaluated(None, name, str(folder))
    ranks = on_two_ranks(_evaluated, name, str(folder))
    assert sum(found.pop("samples") for found in ranks) == wanted.pop("samples")
    for found in ranks:
        assert found == pytest.approx(wanted, rel=1e-5)


def _sequences(rank: int | None, folder: str) -> list[dict[str, float]]:
    detected = tiny_clips.evaluated({"accelerator": "cpu"} if rank is None else as_rank(rank), folder)
    return [_evaluated(rank, "toy_clip", folder), detected]


def test_two_ranks_evaluate_sequences_as_one(tmp_path: Path) -> None:
    """A frame that comes after another than the one before it fails in the toy itself; detections are tracked."""
    alone, ranks = _sequences(None, str(tmp_path)), on_two_ranks(_sequences, str(tmp_path))
    for wanted, *parts in zip(alone, *ranks, strict=True):
        assert sum(found.pop("samples") for found in parts) == wanted.pop("samples")
        for found in parts:
            assert found == pytest.approx(wanted, rel=1e-5)
    assert all(0.1 < alone[1][f"val/{name}"] < 0.95 for name in ("box_ap", "box_ap50", "voc_ap50", "track_hota"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["toy_pair", "toy_adversarial"])
def test_two_ranks_evaluate_as_one(name: str, tmp_path: Path) -> None:
    _check_evaluation(name, tmp_path)


def _trained(rank: int | None, folder: str) -> dict[str, list[float]]:
    options = {} if rank is None else as_rank(rank)
    batch_size = 8 if rank is None else 4
    trainer = train("toy_adversarial", Path(folder), dropout=0.0, batch_size=batch_size, checkpoint_every=0,
                    max_epochs=2, gradient_clip_val=0.5, **options)  # fmt: skip
    assert trainer.world_size == (1 if rank is None else 2)
    return {name: value.flatten().tolist() for name, value in trainer.lightning_module.state_dict().items()}


def test_two_ranks_train_two_optimizers_as_one(tmp_path: Path) -> None:
    wanted = _trained(None, str(tmp_path / "one"))
    for found in on_two_ranks(_trained, str(tmp_path / "two")):
        for name, values in wanted.items():
            assert found[name] == pytest.approx(values, abs=2e-5), name


# ---------------------------------------------------------------------- export


def test_graphs_have_the_names_of_the_inputs_and_predict_as_torch_does(bundles: Path) -> None:
    rank = {"toy_pair": 4, "toy_clip": 5, "toy_adversarial": 4}
    for name, (task, _) in TOYS.items():
        facts = json.loads((bundles / name / "model.json").read_text())
        assert facts["inputs"] == list(task.inputs)
        agreement = facts["graphs"]["model.onnx"]
        assert agreement["images"] >= 5 and agreement["outputs"] < 1e-4, name
        inputs = onnx.load(bundles / name / "model.onnx").graph.input
        assert [each.name for each in inputs] == list(task.inputs)
        assert {len(each.type.tensor_type.shape.dim) for each in inputs} == {rank[name]}
    left, right, _ = pair_of(1)
    given = {"left": left, "right": right}
    found = [load(bundles / "toy_pair", engine=engine)(given) for engine in ("torch", "onnx")]
    assert np.allclose(found[0].values, found[1].values, atol=1e-4)
    swapped = load(bundles / "toy_pair", engine="onnx")({"right": left, "left": right})
    assert not np.allclose(found[0].values, swapped.values, atol=1e-3)
    assert '({"left": "left.jpg", "right": "right.jpg"})' in (bundles / "toy_pair" / "README.md").read_text()
    assert '({"frames": ["frames1.jpg", "frames2.jpg"' in (bundles / "toy_clip" / "README.md").read_text()


def test_calibration_images_lie_in_one_folder_per_input(
    bundles: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pairs / "pairs.csv").unlink()
    model = str(bundles / "toy_pair")
    export = ["export", model, "--int8", "--out", str(tmp_path / "out"), "--calibrate"]
    assert main([*export, str(pairs / "left")]) == 2
    assert "left: no folder left in it; toy_pair needs one for each of left, right" in capsys.readouterr().err
    assert main([*export, str(pairs)]) == 0
    images = pair_of(1)
    small = load(tmp_path / "out", engine="onnx-int8")({"left": images[0], "right": images[1]})
    assert small.size == images[0].shape[:2]


def test_a_name_of_an_input_and_an_output_is_refused_at_export(monkeypatch: Any, tmp_path: Path) -> None:
    task = build("toy_adversarial")
    monkeypatch.setattr(type(task), "inputs", ("restored",))
    with pytest.raises(CheckpointError, match="restored is the name of an input and of an output"):
        write_graph(task, tmp_path / "model.onnx")


# ---------------------------------------------------------------------- from Python


def alike(one: Prediction, other: Prediction) -> bool:
    """Whether two predictions are equal but for the rounding by which convolutions differ with the size of a batch."""
    return one.difference(other).largest < 1e-4


def test_a_pair_is_a_mapping(bundles: Path) -> None:
    predictor = load(bundles / "toy_pair")
    left, right, _ = pair_of(1)
    one = predictor({"left": left, "right": right})
    assert one.size == left.shape[:2]
    for other in predictor([{"left": left, "right": right}, {"right": right, "left": left}]):
        assert alike(other, one)
    for given, words in (
        (left, "toy_pair needs several images; give them by name: left, right"),
        ({"left": left}, "toy_pair needs the input right"),
        ({"left": left, "rigth": right}, "rigth: no input of toy_pair; .* did you mean 'right'"),
    ):
        with pytest.raises(UsageError, match=words):
            predictor(given)
    with pytest.raises(DataError, match="they need one size"):
        predictor({"left": left, "right": right[:-1]})


def test_a_session_carries_state_over_the_frames(bundles: Path, video: list[Path]) -> None:
    predictor = load(bundles / "toy_clip")
    session, carried = predictor.session(), None
    for index, path in enumerate(video):
        clip = [video[max(0, index - k)] for k in (2, 1, 0)]
        now = predictor({"frames": clip}).probabilities
        carried = now if carried is None else toy_clip.KEPT * carried + (1 - toy_clip.KEPT) * now
        assert session.step(path).probabilities == pytest.approx(carried, abs=1e-6)
    both = predictor.session().with_those_before({"frames": "a", "beside": "b"})
    assert both == {"frames": ["a"] * 3, "beside": ["b"] * 3}
    with pytest.raises(UsageError, match="frames: 2 frames; the network takes 3"):
        predictor({"frames": video[:2]})


# ---------------------------------------------------------------------- from the command line


def _records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_predict_takes_pairs(
    bundles: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, left, right = (str(each) for each in (bundles / "toy_pair", pairs / "left", pairs / "right"))
    assert main(["predict", model, left, "--input", f"right={right}"]) == 0
    records = _records(capsys.readouterr().out)
    predictor = load(model)
    for number, record in enumerate(records):
        images = pair_of(number)
        assert alike(Prediction.from_json(record["prediction"]), predictor({"left": images[0], "right": images[1]}))
    assert len(records) == 3
    monkeypatch.chdir(pairs)
    assert main(["predict", model, "left", "--input", "right=right"]) == 0, "relative folders too"
    assert [each["prediction"] for each in _records(capsys.readouterr().out)] == [r["prediction"] for r in records]
    assert main(["predict", model, "--pairs", str(pairs / "pairs.csv")]) == 0
    assert [each["prediction"] for each in _records(capsys.readouterr().out)] == [r["prediction"] for r in records]


def test_predict_reports_wrong_inputs_in_one_line(
    bundles: Path, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair, single = str(bundles / "toy_pair"), str(bundles / "toy_adversarial")
    left, right, listed = (str(pairs / name) for name in ("left", "right", "pairs.csv"))
    (pairs / "lonely").mkdir()
    shutil.copy(pairs / "right" / "0.png", pairs / "lonely")
    (pairs / "headless.csv").write_text("left\nleft/0.png\n")
    for arguments, status, words in (
        ([pair, left], 2, "toy_pair needs the inputs left, right: give --input right=PATH, or --pairs FILE"),
        ([pair, left, "--input", f"rigth={right}"], 2, "rigth: no input of this model; its inputs are left, right"),
        ([pair, left, "--input", f"left={right}"], 2, "--input left: SOURCE is the input left; name the others: right"),
        ([pair, left, "--input", "right=nowhere"], 3, "nowhere does not exist"),
        ([pair, left, "--input", f"right={pairs / 'lonely'}"], 3, "right image"),
        ([pair, "--pairs", str(pairs / "headless.csv")], 3, "no column right"),
        ([single, left, "--input", f"right={right}"], 2, "--input: toy_adversarial takes one image"),
        ([single, "--pairs", listed], 2, "--pairs: toy_adversarial takes one image"),
    ):
        assert main(["predict", *arguments]) == status, arguments
        said = capsys.readouterr()
        assert words in said.err and len(said.err.strip().splitlines()) == 1 and not said.out, (arguments, said)


def test_predict_runs_through_the_frames_of_a_folder_in_order(
    bundles: Path, video: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "zvideo"
    shutil.copytree(video[0].parent, other)
    (other / "001.png").write_bytes(b"no image")
    assert main(["predict", str(bundles / "toy_clip"), str(video[0].parent), str(other)]) == 3
    records = {each["source"]: each["prediction"] for each in _records(capsys.readouterr().out)}
    predictor = load(bundles / "toy_clip")
    session, begins_again = predictor.session(), predictor.session()
    for path in video:
        assert records[str(path)] == session.step(path).to_json()
    for path in (other / video[k].name for k in (0, 2, 3, 4)):
        assert records[str(path)] == begins_again.step(path).to_json()


# ---------------------------------------------------------------------- from programs and in the demo


@pytest.fixture(scope="module")
def client(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of the routes beside the page, as of `visionkit serve`."""
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from ui.model_registry import ModelRegistry
    from ui.server.job_queue import JobQueue
    from ui.server.routes import add_routes

    app = FastAPI()
    add_routes(app, JobQueue(ModelRegistry(bundles)), tmp_path_factory.mktemp("asked"), lambda: True)
    with TestClient(app) as client:
        yield client


def test_programs_send_images_by_the_names_of_the_inputs(client: Any, bundles: Path, pairs: Path) -> None:
    left, right = ((pairs / name / "1.png").read_bytes() for name in ("left", "right"))

    def ask(model: str, **files: bytes) -> Any:
        return client.post(f"/api/predict?model={model}", files={key: (f"{key}.png", f) for key, f in files.items()})

    wanted = load(bundles / "toy_pair")({"left": left, "right": right}).to_json()
    assert ask("toy_pair", right=right, left=left).json() == wanted
    assert ask("pair.ckpt", right=right, left=left).json() == wanted
    assert ask("toy_adversarial", anything=left).json()["kind"] == "image"
    assert ask("toy_clip", frames=left).json()["kind"] == "classification"
    bare = client.post("/api/predict?model=toy_pair", content=left)
    for response, words in (
        (ask("toy_pair", left=left), "this model needs the input right"),
        (ask("toy_pair", left=left, right=right, middle=left), "middle: no input of this model; its inputs are left"),
        (ask("toy_adversarial", image=left, right=right), "right: no input of this model; its inputs are image"),
        (bare, "this model needs the inputs left, right; send each as a file: curl -F left=@left.jpg"),
    ):
        assert response.status_code == 400, response.text
        assert words in response.json()["error"] and "\n" not in response.json()["error"]


def test_the_demo_has_a_page_of_each_with_one_image_per_input(bundles: Path, pairs: Path, tmp_path: Path) -> None:
    from ui.inference import Upload
    from ui.model_registry import ModelRegistry
    from ui.server.api import Settings
    from ui.server.app import pages
    from ui.server.job_queue import JobQueue

    registry = ModelRegistry(bundles)
    job_queue = JobQueue(registry)
    blocks = pages(Settings(registry, "http://127.0.0.1", tmp_path), job_queue)
    config = blocks.get_config_file()
    images = {each["id"]: each["props"] for each in config["components"] if each["type"] == "image"}
    left, right = (Upload(str(pairs / name / "1.png"), f"{name}.png") for name in ("left", "right"))
    for name, labels in (("toy_pair", ["Left", "Right"]), ("toy_clip", ["Image"]), ("toy_adversarial", ["Image"])):
        page = name.replace("_", "-")
        here = [images[key] for key in config["page"][page]["components"] if key in images]
        inputs = [each for each in here if str(each.get("elem_id")).startswith("vk-input") and each["visible"]]
        assert [each["label"] for each in inputs] == labels
        (show,) = [each.fn for each in blocks.fns.values() if each.name == "show" and each.page == page]
        further = [right] if name == "toy_pair" else []
        for model in (name, "pair.ckpt") if further else (name,):
            shown = {each.elem_id: value for each, value in show(left, model, None, None, *further).items()}
            (kind,) = TOYS[name][0].kinds
            assert shown[f"vk-{kind}"]["visible"] and not shown["vk-message"]["value"], shown
        if further:
            shown = {each.elem_id: value for each, value in show(left, name, None, None, None).items()}
            assert not shown["vk-depth_map"]["visible"] and shown["vk-message"]["value"]


@pytest.mark.slow  # the pages of pairs and of clips are visited in tests/ui, and made of the toys above
@needs_chromium
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::Warning:gradio.queueing")  # its use of pandas
def test_a_visitor_gets_a_prediction_on_the_page_of_each(bundles: Path, pairs: Path, tmp_path: Path) -> None:
    left, right = (pairs / name / "1.png" for name in ("left", "right"))
    with served(bundles, tmp_path) as demo, chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        watched = Watched(page, demo.address)
        for name in TOYS:
            watched.open(name.replace("_", "-"))
            watched.upload(left)
            if name == "toy_pair":
                page.get_by_text("This model also needs: Right.").first.wait_for()
                watched.upload(right, "#vk-input-right")
            watched.done()
            watched.settled()
            (kind,) = TOYS[name][0].kinds
            assert page.locator(f"#vk-{kind}").is_visible()
        watched.go("about:blank")
        assert watched.faults == []
