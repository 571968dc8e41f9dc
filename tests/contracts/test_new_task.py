"""A task and a type of prediction of another package, those of docs/add_a_task.md: they work with no file changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.contracts import test_every_task as suite
from tests.contracts.cases import CASES, Case, build, images
from tests.documented import blocks
from tests.own_package import install, own_packages, write
from tests.real_data import ROOT
from ui.cli import main
from visionkit.predictions import Prediction
from visionkit.registry import task_names, task_pages

PAGE = ROOT / "docs" / "add_a_task.md"
CASE = Case(
    classes=(),
    labels={"labels": lambda k, image: (np.arange(3) <= k % 3).astype(np.float32)},
    overfit=0.3,
    overfit_steps=60,
)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the package, which is installed while the tests of this module run."""
    folder = tmp_path_factory.mktemp("own")
    with own_packages(folder), pytest.MonkeyPatch.context() as patch:
        patch.setitem(CASES, "counting", CASE)
        for block in blocks(PAGE.name, PAGE.read_text("utf-8")):
            write(folder, block.text)
        status, said = install(folder)
        assert status == 0, said
        yield folder
    assert "counting" not in task_names() and "count" not in Prediction._kinds


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    from visionkit.export import export_bundle

    export_bundle(build("counting").eval(), folder / "models" / "counting", onnx=True, card={"data": "noise"})
    return folder / "models" / "counting"


def test_the_contract_suite_takes_it(tmp_path: Path) -> None:
    network = CASE.networks[0]
    suite.test_forward_returns_one_type_in_every_mode("counting", network)
    suite.test_losses_are_finite_and_reach_every_parameter("counting", network)
    suite.test_overfits_a_few_images("counting")
    suite.test_checkpoint_and_bundle_give_equal_predictions("counting", network, tmp_path)
    suite.test_prediction_survives_json_and_can_be_drawn("counting")
    suite.test_a_list_equals_one_by_one_whatever_the_sizes("counting")


def test_its_export_is_checked_by_its_own_difference(bundle: Path) -> None:
    graph = json.loads((bundle / "model.json").read_text())["graphs"]["model.onnx"]
    assert graph["difference"] <= graph["tolerance"] == 1e-4 and graph["same"] == 1


def test_predict_writes_its_record_text_drawing_and_files(bundle: Path, tmp_path: Path, capsys: Any) -> None:
    Image.fromarray(images(1)[0]).save(tmp_path / "a.png")
    out = tmp_path / "out"
    assert main(["predict", str(bundle), str(tmp_path / "a.png"), "--out", str(out), "--draw"]) == 0
    record = json.loads((out / "predictions.jsonl").read_text())
    prediction = Prediction.from_json(record["prediction"])
    assert prediction.kind == "count" and prediction.text() in capsys.readouterr().out
    assert [Path(file).name for file in record["files"]] == ["a.txt"]
    assert float((out / record["files"][0]).read_text()) == pytest.approx(record["prediction"]["value"], abs=1e-3)
    assert [Image.open(path).size for path in (out / "drawn").rglob("*.jpg")] == [(268, 164)]
    other = str(tmp_path / "other")
    assert main(["predict", str(bundle), str(tmp_path / "a.png"), "--out", other, "--coco-results"]) == 2
    assert "this model predicts count" in capsys.readouterr().err


def test_the_demo_has_its_page(bundle: Path, tmp_path: Path) -> None:
    from ui.downloads import Downloads
    from ui.inference import Upload
    from ui.model_registry import ModelRegistry
    from ui.server.api import Settings
    from ui.server.app import pages
    from ui.server.job_queue import JobQueue
    from ui.views import views_of

    assert task_pages()["counting"].question == "How many kinds of things does the image show?"
    model_registry = ModelRegistry(bundle.parent)
    job_queue = JobQueue(model_registry)
    config = pages(Settings(model_registry, "http://127.0.0.1", tmp_path), job_queue).get_config_file()
    assert ("counting", "Counting") in [tuple(page[:2]) for page in config["pages"]]
    shown = {each["id"] for each in config["components"] if each["props"].get("label") == "Kinds of things"}
    assert len(shown & set(config["page"]["counting"]["components"])) == 1

    Image.fromarray(images(1)[0]).save(tmp_path / "a.png")
    name = next(entry.name for entry in model_registry.entries() if entry.task == "counting")
    result = job_queue.ask(name, Upload(str(tmp_path / "a.png"), "a.png"))
    number, drawn = views_of("counting")["count"].show(result.prediction, result.image, Downloads(tmp_path))
    assert number == round(result.prediction.to_json()["value"], 1) and drawn.shape == (164, 268, 3)


def test_a_kind_without_a_view_is_shown_by_drawing_and_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ui import views as package
    from ui.downloads import Downloads

    package.views.cache_clear()
    monkeypatch.setattr(package, "installed", lambda group: ())
    try:
        view = package.views_of("counting")["count"]
    finally:
        package.views.cache_clear()
    prediction = Prediction.from_json({"kind": "count", "value": 2.0})
    drawn, text = view.show(prediction, images(1)[0], Downloads(tmp_path))
    assert drawn.any() and text == r"2\.0 kinds of things"


def test_a_record_of_its_kind_is_read_where_nothing_of_it_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] == "counting"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(Prediction._kinds, "count", raising=False)
    assert Prediction.from_json({"kind": "count", "value": 1.5}).text() == "1.5 kinds of things"
    with pytest.raises(ValueError, match=r"unknown type of prediction 'nothing'; known are .*classification, .*count"):
        Prediction.from_json({"kind": "nothing"})
