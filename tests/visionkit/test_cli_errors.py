"""A wrong option is reported in one line with the nearest name."""

import pytest
import yaml

import datamodules.augmentation
import datamodules.folders
import datamodules.restoration
import datamodules.scene_data  # noqa: F401
import tasks.classification
import tasks.depth  # noqa: F401  (short class names resolve)
from tests.toy_data import ToyData  # noqa: F401
from visionkit.cli import run_training
from visionkit.errors import UsageError

OVERDONE = "[{class_path: RandomErasing, init_args: {p: 5}}]"
YAML = "model:\n  class_path: ClassificationTask\n  init_args: {backbone: test_resnet}\n"


@pytest.fixture(autouse=True)
def _allow_toy_data(monkeypatch):
    monkeypatch.setenv("VISIONKIT_ALLOW_IMPORTS", "tests")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.backbon", "x"], r"model\.backbon: ClassificationTask has no such argument; did you mean 'backbone'"),
        (["--model.optim.lrr", "1"], r"model\.optim\.lrr: OptimConfig has no such argument; did you mean 'lr'"),
        (["--data", "ToyDat"], "data: unknown class 'ToyDat'.*did you mean 'ToyData'"),
        (["--data.batch_size", "four"], r"data\.batch_size: 'four' is not of the type int"),
        (["--trainer.max_epohcs", "1"], "unknown option --trainer.max_epohcs; did you mean '--trainer.max_epochs'"),
        (["--model", "os.system"], "model: .*os.system"),
        (
            ["--data", "SceneData", "--data.augment", "Mosaik"],
            r"unknown class 'Mosaik'; known are .*did you mean 'Mosaic'",
        ),
        (
            ["--data", "RestorationData", "--data.degradations", "GaussianNoise", "--data.degradations.sigma", "25,50"],
            r"data.degradations.sigma: '25,50' is none of float, \[float, float\]",
        ),
        (
            ["--data", "RestorationData", "--data.degradations", "Blur"],
            "missing: --data.degradations.kernel; Blur needs it",
        ),
        (
            ["--data", "RestorationData", "--data.degradations+", "GausianNoise"],
            r"unknown class 'GausianNoise'; known are .*JPEG.*did you mean 'GaussianNoise'",
        ),
        (
            ["--data", "SceneData", "--data.augment", OVERDONE.replace("p:", "q:")],
            r"has no such argument; it has area, aspect",
        ),
        (["--data.input.size", "[9,9]", "--model.input.size", "[32,32]"], "set --model.input instead"),
        (
            ["--model.optim.freeze", "backbon"],
            r"model\.optim\.freeze: 'backbon'; allowed are .*did you mean 'backbone'",
        ),
        (["--data.zzz", "1"], r"data\.zzz: ToyData has no such argument; it has .*batch_size"),
        (["--model.backbone", "resnet81"], "did you mean 'resnet18'"),
        (["--model.input.fit", "crop"], r"model\.input\.fit: .* it is called model\.input\.resize_mode"),
        (["--start_from", "a"], r"unknown option --start_from; it is called --init_from today"),
        (["--data.workers", "0"], r"data\.workers: .* it is called data\.num_workers"),
    ],
)
def test_wrong_options(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(YAML)
    with pytest.raises(UsageError, match=message) as caught:
        run_training("fit", ["-c", "a.yaml", "--data", "ToyData", *arguments])
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "runs").exists(), "nothing is written before the configuration is right"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["CutOut", "--data.augment.cutout", "5"], r"^augment\.cutout 5: allowed is 0 to 1$"),
        ([OVERDONE], r"^augment\.RandomErasing\.p 5: allowed is 0 to 1$"),
    ],
)
def test_a_value_that_a_part_refuses_is_one_line(given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(YAML)
    with pytest.raises(UsageError, match=message):
        run_training("fit", ["-c", "a.yaml", "--data", "SceneData", "--data.augment", *given])


def test_what_a_dataclass_deep_inside_refuses_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(YAML)
    with pytest.raises(UsageError, match=r"^optim\.schedule 'cosin': allowed are .*did you mean 'cosine'"):
        run_training("fit", ["-c", "a.yaml", "--data", "ToyData", "--model.optim.schedule", "cosin"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            YAML[:-2] + ", input: {size: [8, 8], fit: crop}}\n",
            r"model\.input\.fit: .* it is called model\.input\.resize_mode",
        ),
        (YAML.replace("Classification", "Depth")[:-2] + ", mirror: true}\n", "DepthTask has no such argument; it has"),
        ("start_from: a\n", "unknown key 'start_from' in the configuration; it is called init_from today"),
        ("modle: 3\n", "unknown key 'modle' in the configuration; did you mean 'model'"),
        ("model: [\n", r"a\.yaml line 2 column 1: not valid yaml"),
        ("model: {class_path: builtins.eval, init_args: {source: '1'}}\n", "builtins.eval"),
    ],
)
def test_wrong_files(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        run_training("fit", ["-c", "a.yaml", "--data", "ToyData"])


def test_a_missing_configuration_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"-c nowhere\.yaml: no such file"):
        run_training("fit", ["-c", "nowhere.yaml", "--data", "ToyData"])


def test_a_size_alone_leaves_the_fit_to_the_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = ["--model", "DepthTask", "--model.backbone", "test_resnet", "--model.input.size", "[32,32]"]
    data = ["--data", "SceneData", "--data.target", "depth", "--data.count", "2", "--data.eval_count", "1"]
    assert run_training("fit", [*task, *data, "--trainer.max_epochs", "1", "--run", "run"]) == 0
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]["init_args"]["input"]
    assert (written["size"], written["resize_mode"]) == ([32, 32], "stretch")


def test_a_needed_argument_that_is_left_out_is_named_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"missing: --data\.root; FolderData needs it"):
        run_training("fit", ["--model", "ClassificationTask", "--data", "FolderData"])


def test_missing_model_states_what_to_give(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="missing: --model; give a class or a configuration with -c"):
        run_training("fit", ["--data", "ToyData"])
