"""Every task through the command line on the embedded data, in one process.

Fit, test and predict of every task; with resume, validate and export of one, and of every task by `make slow`.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.contracts.cases import CASES
from ui.cli import main
from visionkit.registry import task_class, task_names

ROOT = Path(__file__).resolve().parents[2]

WHOLE = ("classification",)
"""Gone through whole in the quick tests; the others by `make slow`."""

every_task = pytest.mark.parametrize(
    "name", [name if name in WHOLE else pytest.param(name, marks=pytest.mark.slow) for name in task_names()]
)


def options(name: str) -> list[str]:
    return [
        *("-c", str(ROOT / "configs" / "task" / f"{name}.yaml")),
        *("-c", str(ROOT / "configs" / "data" / f"{CASES[name].loader[0]}.yaml")),
        *(f"--model.{CASES[name].choice}", CASES[name].networks[0], "--model.input.size", "[48,48]"),
        *CASES[name].loader[1:],
        *("--data.batch_size", "4"),
        *("--trainer.accelerator", "cpu"),
        *CASES[name].data,
    ]


def check_report(name, run, best, splits, caplog):
    """What lies in the run's folder, of every task by the same mechanism."""
    assert not [record for record in caplog.records if record.getMessage().startswith("report:")]
    for file in ("curves.csv", "curves.png", "training-images.png"):
        assert (run / "report" / file).is_file()
    for split in splits:
        folder = run / "report" / split
        rows = list(csv.DictReader((folder / "images.csv").read_text().splitlines()))
        summary = json.loads((run / "summary.json").read_text())[split]
        assert len(rows) == summary["images"] and len(rows[0]) > 1 and rows[0]["image"]
        assert Image.open(folder / "images.png").width > 500
        assert summary["checkpoint"] == f"checkpoints/{best.name}"
        charts = {path.stem for path in folder.glob("*.png")} - {"images"}
        assert charts == CASES[name].charts


def predict(name, model, out, *more):
    """Three images to as many predictions."""
    Path("in").mkdir(exist_ok=True)
    for k in range(3):
        height = 40 + k * (CASES[name].input.frames == 1)  # the frames of a video have one size
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (height, 60, 3), dtype=np.uint8)).save(f"in/{k}.png")
    others = [part for each in task_class(name).inputs[1:] for part in ("--input", f"{each}=in")]
    assert main(["predict", model, "in", *others, "--out", out, *more]) == 0
    assert len([json.loads(line) for line in Path(out, "predictions.jsonl").read_text().splitlines()]) == 3


@pytest.mark.parametrize("name", [name for name in task_names() if name not in WHOLE])
def test_fit_test_predict(name, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *options(name), "--trainer.max_epochs", "1", "--run", "runs/a"]) == 0
    best = next(Path("runs/a/checkpoints").glob("best-*.ckpt"))
    assert main(["test", "--ckpt_path", "runs/a", "--results", "test.json"]) == 0
    results = json.loads(Path("test.json").read_text())
    assert results["protocol"] and any(key.startswith("test/") for key in results["metrics"])
    assert all(np.isfinite(value) for value in results["metrics"].values())
    check_report(name, Path("runs/a"), best, ("test",), caplog)
    predict(name, str(best), "out", "--draw")


@every_task
@pytest.mark.timeout(300)
def test_fit_resume_validate_test_predict(name, tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *options(name), "--trainer.max_epochs", "1", "--run", "runs/a"]) == 0
    run = Path("runs/a")
    assert (run / "config.yaml").is_file() and (run / "checkpoints" / "last.ckpt").is_file()
    assert not Path("config.yaml").exists(), "nothing lands beside the run's folder"

    assert main(["fit", "-c", "runs/a/config.yaml"]) == 2, "a run is never overwritten"
    assert "--ckpt_path last" in capsys.readouterr().err
    assert main(["fit", "-c", "runs/a/config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", "2"]) == 0

    best = next((run / "checkpoints").glob("best-*.ckpt"))
    measured = ["-c", "runs/a/config.yaml", "--ckpt_path", str(best)]
    assert main(["validate", *measured, "--results", "val.json", "--trainer.limit_val_batches", "1"]) == 0
    assert "limit of batches is 1" in json.loads(Path("val.json").read_text())["part"]
    assert main(["test", *measured, "--results", "test.json"]) == 0
    results = json.loads(Path("test.json").read_text())
    assert "part" not in results
    assert results["protocol"] and any(key.startswith("test/") for key in results["metrics"])
    assert all(np.isfinite(value) for value in results["metrics"].values())

    check_report(name, run, best, ("val", "test"), caplog)
    predict(name, str(best), "out", "--draw")

    assert main(["export", str(best), "--out", "bundle"]) == 0
    card = json.loads(Path("bundle/model.json").read_text())["card"]
    assert card["command"].startswith("visionkit fit -c ") and card["seed"] == 0 and "training images" in card["data"]
    assert {row["split"] for row in card["results"]} == {"val", "test"} and card["results"][0]["protocol"]
    predict(name, "bundle", "out2")
    assert Path("out2/predictions.jsonl").read_text() == Path("out/predictions.jsonl").read_text()
