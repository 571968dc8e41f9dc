"""Names that yaml reads as something else stay the names that they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ui.cli import main
from visionkit.arguments import check_arguments, option
from visionkit.checkpoint import describe
from visionkit.cli import _load_yaml
from visionkit.configurations import dump, quote_names

NAMES = [
    *("1e3", "no", "on", "Yes", "y", "null", "None", "~", "0x1F", "0o17", "017", "0b1", "12:30", "2024-01-01", "1_000"),
    *("1", "-1", "+1", ".5", "5.", "1E5", "1e-3", ".inf", "-.INF", "nan", ".nan", "<<", "=", "", " a", "a ", "a b"),
    *("'a'", '"a"', "#a", "a #b", "a: b", "a:", "- a", "-", "[a", "{", "@a", "`a", "%a", "&a", "*a", "!a", "|", ">"),
    *("é", "日本", "🙂", "a\nb", "\t", "\u0085", "a\u2028b", "\x07", "\ufeff", "a\\b", "C:\\x", "?", "1,000", "cat"),
]


@pytest.mark.parametrize("read", [yaml.safe_load, _load_yaml, yaml.full_load])
def test_every_name_survives_the_written_configuration(read):
    config = {"classes": NAMES, "by_name": {name: name for name in NAMES}, "lr": 1e-3, "run": "runs/a", "none": None}
    assert read(dump(config)) == config
    assert "run: runs/a\n" in dump(config) and "- cat\n" in dump(config), "plain words stay plain"


def test_names_that_are_typed_or_written_by_hand_are_text():
    listed = "[1e3, no, ~, 0x1F, 12:30, =, cat, 'on', a b, 2024-01-01, null]"
    right = ["1e3", "no", "~", "0x1F", "12:30", "=", "cat", "on", "a b", "2024-01-01", "null"]
    assert yaml.safe_load(quote_names(listed, names=True)) == right
    for argument in (["--data.classes", listed], [f"--data.classes={listed}"]):
        assert yaml.safe_load(option(check_arguments("fit", argument), "--data.classes")) == right
    assert check_arguments("fit", ["--data.classes+=1e3", "--data.classes+", "no"]) == [
        *('--data.classes+="1e3"', "--data.classes+", '"no"')
    ]
    assert check_arguments("fit", ["--data.classes", "null"]) == ["--data.classes", "null"]
    by_hand = f"lr: 1e3\ndata:\n  init_args:\n    classes: {listed}\n    flag: no\nmodel: {{classes: [1, 2.5]}}\n"
    loaded = yaml.safe_load(quote_names(by_hand))
    assert loaded["data"]["init_args"] == {"classes": right, "flag": False}
    assert loaded["model"] == {"classes": ["1", "2.5"]}
    assert yaml.safe_load(quote_names("classes:\n- no # really\n-  =\n- cat\n")) == {"classes": ["no", "=", "cat"]}
    assert json.loads(quote_names('{"classes": [1, null], "x": [1]}')) == {"classes": ["1", "null"], "x": [1]}


@pytest.mark.parametrize(
    "text", ["classes: [", "classes: {a: no}", "classes", "classes: no", "classes: null", '{"classes": ["a"]}']
)
def test_what_is_no_list_of_names_is_left_alone(text):
    assert quote_names(text) == text


def test_a_run_with_such_classes_is_measured_resumed_and_served(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = sorted(["1e3", "no", "null", "0x1F", "12:30", "~", "=", " a", "#b", "'c'", "on"])
    for number, name in enumerate(names):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(3):
            Image.fromarray(np.full((32, 32, 3), 20 * number + k, np.uint8)).save(tmp_path / f"photos/{name}/{k}.png")
    options = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    options += ["--model.backbone", "test_resnet", "--model.input.size", "[32,32]", "--data.batch_size", "8"]
    data = ["--data", "FolderData", "--data.root", "photos", "--data.val_fraction", "0.3"]
    line = ["fit", "-c", "classification", *data, *options, "--trainer.max_epochs", "1", "--run", "run"]
    typed = ", ".join(json.dumps(name) if name[0] in " #'" else name for name in names)
    assert main([*line, "--data.classes", f"[{typed}]"]) == 0
    assert yaml.safe_load(Path("run/config.yaml").read_text())["data"]["init_args"]["classes"] == names
    assert describe("run/checkpoints/last.ckpt")["classes"] == names
    assert main(["validate", "-c", "run/config.yaml", "--ckpt_path", "run/checkpoints/last.ckpt"]) == 0
    assert main(["validate", "--ckpt_path", "run", "--results", "val.json"]) == 0
    assert main(["fit", "-c", "run/config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", "2"]) == 0
    capsys.readouterr()
    assert main(["predict", "run/checkpoints/last.ckpt", "photos/no/0.png"]) == 0
    assert list(json.loads(capsys.readouterr().out)["prediction"]["probabilities"]) == names
