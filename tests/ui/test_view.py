"""`visionkit view`: the page that it writes, and what it refuses."""

from __future__ import annotations

import html
import json
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.contracts.cases import build
from tests.ui.browser import chromium, needs_chromium
from tests.visionkit.checkup.drawn_set import copied, write_clean
from tests.visionkit.checkup.object_faults import FAULTS
from ui.cli import main
from visionkit.checkpoint import save_checkpoint

DRAWN = ["view", "--data", "SceneData", "--data.target", "boxes", "--data.count", "6", "--data.eval_count", "2"]
DRAWN += ["--data.size", "[96,128]"]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clean(tmp_path_factory.mktemp("drawn") / "clean")


def figures(folder: Path) -> list[str]:
    return re.findall(r"<figure .*?</figure>", (folder / "index.html").read_text("utf-8"), re.DOTALL)


def test_drawn_scenes_become_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page"
    assert main([*DRAWN, "--count", "7", "--out", str(out)]) == 0
    assert f"{out / 'index.html'}: 7 of 10 images" in capsys.readouterr().out
    found = figures(out)
    assert len(found) == 7 and all(each.count("<a ") == 2 for each in found)
    named = re.findall(r'(?:href|src)="([^"]+)"', (out / "index.html").read_text("utf-8"))
    assert len(named) == 28 and all((out / each).is_file() for each in named)
    assert main([*DRAWN, "--out", str(out)]) == 2 and "not an empty folder" in capsys.readouterr().err
    chosen = ["--overwrite", "--no-augment", "--class", "person", "--split", "train"]
    assert main([*DRAWN, "--out", str(out), *chosen]) == 0
    assert all("person" in each and "augmented" not in each for each in figures(out))


@needs_chromium
def test_the_page_filters_without_a_server(tmp_path: Path) -> None:
    assert main([*DRAWN, "--out", str(tmp_path / "page")]) == 0
    people = sum('"person"' in each.replace("&quot;", '"') for each in figures(tmp_path / "page"))
    with chromium() as browser:
        page = browser.new_page()
        page.goto((tmp_path / "page" / "index.html").as_uri())
        assert page.locator("#count").inner_text() == "10 of 10 shown"
        page.locator("select[name=class]").select_option("person")
        assert page.locator("#count").inner_text() == f"{people} of 10 shown" and 0 < people < 10
        assert page.locator("figure:visible").count() == people
        page.locator("select[name=view]").select_option("augmented")
        shown = page.locator("figure:visible img:visible").first
        assert "augmented" in shown.get_attribute("src")
        assert shown.evaluate("each => each.complete && each.naturalWidth > 0")
        page.screenshot(path=tmp_path / "page.png")


def test_findings_of_the_doctor_are_marked(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    FAULTS["degenerate-box"](copied(clean, tmp_path))
    data = str(tmp_path / "set" / "annotations" / "instances_train.json")
    shown: list[tuple[int, int]] = []
    monkeypatch.setattr("ui.progress_bar.image_progress", lambda: nullcontext(lambda *done: shown.append(done)))
    assert main(["view", data, "--finding", "errors", "--out", str(tmp_path / "page")]) == 0
    assert shown and shown[-1][0] == shown[-1][1] > 1
    (found,) = figures(tmp_path / "page")
    assert "degenerate-box: " in found
    kinds = re.search(r'data-finding="(.*?)"', found)
    assert kinds is not None and "degenerate-box" in json.loads(html.unescape(kinds[1]))
    assert main(["view", str(clean / "classification"), "--finding", "errors", "--out", str(tmp_path / "none")]) == 3
    assert "no sample is as the options ask for" in capsys.readouterr().err


def test_a_configuration_states_augmentation_and_input(tmp_path: Path) -> None:
    options = ["-c", "detection", "--model.backbone", "test_resnet", "--model.input.size", "[64,64]", "--count", "2"]
    augment = ["--data.augment", "ColorJitter", "--data.augment.brightness", "0.5"]
    assert main([*DRAWN, *options, *augment, "--out", str(tmp_path)]) == 0
    assert "Augmented by ColorJitter" in (tmp_path / "index.html").read_text("utf-8")


@pytest.mark.parametrize("task", ["detection", "depth"])
def test_predictions_stand_beside_the_labels_the_worst_first(task: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_checkpoint(build(task), tmp_path / "model.ckpt")
    key = {"detection": "boxes", "depth": "depth"}[task]
    data = ["--data", "SceneData", "--data.target", key, "--data.eval_count", "5", "--data.size", "[64,80]"]
    arguments = [str(tmp_path / "model.ckpt"), *data]
    assert main(["view", "--model", *arguments, "--count", "3", "--no-augment", "--out", str(tmp_path / "page")]) == 0
    assert main(["analyze", *arguments, "--out", str(tmp_path / "errors")]) == 0
    names = [re.search(r"<b>(.*?)</b>, test", each) for each in figures(tmp_path / "page")]
    record = json.loads((tmp_path / "errors" / "analysis.json").read_text("utf-8"))
    assert [each[1] for each in names if each] == record["worst images"][:3]
    with Image.open(tmp_path / "page" / "images" / "00000-prediction.jpg") as image:
        pair = image.size
    with Image.open(tmp_path / "page" / "images" / "00000-labels.jpg") as image:
        assert pair[0] > 1.8 * image.size[0]


def test_without_out_the_samples_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    from ui.commands import serve

    given: list[Any] = []
    monkeypatch.setattr(
        serve, "serve", lambda door, args, scratch, check, data_sets, page: given.extend((data_sets, page))
    )
    assert main([*DRAWN, "--port", "0"]) == 0
    (data,), page = given
    assert page == "data" and data.title == "SceneData" and len(data.browser) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["view"], "name the data"),
        ([*DRAWN, "--class", "person", "--split", "val"], "--class, --split: only with --out DIR"),
        ([*DRAWN, "--count", "48"], "--count: only with --out DIR"),
        ([*DRAWN, "--epoch", "1", "--overwrite"], "--epoch, --overwrite: only with --out DIR"),
        ([*DRAWN, "--epoch", "-1", "--out", "new"], "--epoch -1: at least 1"),
        (["view", "--model", "nomodel.ckpt"], "nomodel.ckpt"),
        ([*DRAWN, "--class", "persn", "--out", "new"], "'person'"),
        ([*DRAWN, "--count", "0", "--out", "new"], "at least 1"),
        ([*DRAWN, "--finding", "tiny-objet", "--out", "new"], "'tiny-object'"),
        (["view", "nowhere", "--out", "new"], "no such file or folder"),
    ],
)
def test_what_is_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) in (2, 3, 4)
    assert message in capsys.readouterr().err and not (tmp_path / "new").exists()
