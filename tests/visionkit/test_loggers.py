"""Real offline runs of W&B, read back from their record files.

Run as a script it is the training that two processes share:  python -m tests.visionkit.test_loggers RUN
"""

from __future__ import annotations

import ast
import json
import logging
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from lightning import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger

from tasks.classification import ClassificationTask
from tests.toy_data import ToyData
from tests.visionkit.offline_run import Read, folders, read_run, teardown
from visionkit.callbacks.checkpointing import Checkpointing
from visionkit.callbacks.config_saver import ConfigSaver
from visionkit.callbacks.images import ImageLogger
from visionkit.callbacks.loggers import Tracking, track
from visionkit.checkpoint import read_checkpoint
from visionkit.errors import Diverged, Terminated
from visionkit.geometry import InputSpec
from visionkit.loggers import WandbTracker, continue_from, probe, readable_config
from visionkit.loggers.state import exit_code

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {
    "seed_everything": 3,
    "model": {
        "class_path": "tasks.classification.task.ClassificationTask",
        "init_args": {"backbone": "test_resnet", "_class_path": "x"},
    },
    "data": {"class_path": "tests.toy_data.ToyData", "init_args": {"count": 21}},
    "trainer": {"max_epochs": 2, "logger": {"class_path": "visionkit.loggers.WandbTracker"}},
    "_instantiator": "lightning.pytorch.cli.instantiate_module",
}


def train(
    run: Path, tracker: WandbTracker, *callbacks: Callback, resume: Path | None = None, **options: Any
) -> Trainer:
    """A training of seconds, all that can be tracked included."""
    task = ClassificationTask(
        "test_resnet", classes=("dark", "light"), input=InputSpec((32, 32), resize_mode="stretch")
    )
    data = ToyData(input=task.input, classes=task.classes, batch_size=7)
    own = [
        ConfigSaver(run, CONFIG),
        Tracking(),
        ImageLogger(count=4),
        Checkpointing(run / "checkpoints", *task.monitor),
        *callbacks,
    ]
    trainer = Trainer(
        accelerator="cpu",
        logger=tracker,
        default_root_dir=run,
        callbacks=own,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **{"max_epochs": 2, "log_every_n_steps": 2, "devices": 1, **options},
    )
    if resume is not None:
        continue_from(trainer.loggers, resume)
    trainer.fit(task, datamodule=data, ckpt_path=resume)
    return trainer


class Fails(Callback):
    """Ends training with an error in its second epoch."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            raise self.error


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Read, Read]]:
    """A run that is ended by a signal after its first epoch, and the same run gone on with to its end."""
    run = tmp_path_factory.mktemp("tracked") / "runs" / "toy"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.parent.parent)
        with pytest.raises(Terminated):
            train(run, WandbTracker(save_dir=str(run)), Fails(Terminated("ended by SIGTERM")))
        first = read_run(folders(run)[0])
        time.sleep(1.1)  # wandb names folders by the second
        tracker = WandbTracker(save_dir=str(run))
        train(run, tracker, resume=run / "checkpoints" / "last.ckpt")
        command = tracker.sync_command()
        tracker.finish()
        assert shlex.split(command) == ["wandb", "sync", *map(str, folders(run))], (
            "both parts are sent, the first first"
        )
        assert sorted(path.name for path in run.parent.parent.iterdir()) == ["runs"], "nothing in the working directory"
    assert len(folders(run)) == 2
    yield first, read_run(folders(run)[1])


def test_configuration_is_readable_and_names_the_protocol(runs):
    for read in runs:
        config = read.config
        assert config["task"] == "classification"
        assert "top-1" in config["protocol"]
        assert config["model"] == {"class": "ClassificationTask", "backbone": "test_resnet"}
        assert config["trainer"] == {"max_epochs": 2}
        assert "class_path" not in json.dumps(config)
        assert "_instantiator" not in config


def test_every_row_has_its_optimizer_step(runs):
    first, second = runs
    assert first.metrics["*"] == "trainer/global_step"
    rows = [row for row in first.history + second.history if "trainer/global_step" in row]
    assert rows == first.history + second.history
    steps = [row["trainer/global_step"] for row in rows if "val/loss" in row]
    # Lightning draws a validation at the end of an epoch one step before the step that it followed.
    assert steps in ([2, 5], [3, 6])
    assert any("train/loss" in row and "lr/head" in row for row in rows)


def test_a_resumed_run_continues_the_curve(runs):
    first, second = runs
    assert first.id == second.id
    numbers = [row["_step"] for row in first.history + second.history]
    assert numbers == sorted(set(numbers)), "rows of the second part are numbered on"
    run = first.folder.parent.parent
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["wandb"] == {"id": first.id}


def test_a_checkpoint_alone_continues_its_run(runs, tmp_path):
    checkpoint = runs[0].folder.parent.parent / "checkpoints" / "last.ckpt"
    tracker = WandbTracker(save_dir=str(tmp_path / "elsewhere"))
    continue_from([tracker], checkpoint)
    assert tracker.experiment.id == runs[0].id
    tracker.finish()


def test_a_trainer_gets_what_its_loggers_show(runs, tmp_path):
    checkpoint = runs[0].folder.parent.parent / "checkpoints" / "last.ckpt"
    tracker = WandbTracker(save_dir=str(tmp_path / "a"))
    trainer = Trainer(logger=[tracker], callbacks=[ImageLogger(count=1)], enable_progress_bar=False)
    track(trainer, checkpoint)
    track(trainer, checkpoint)
    kinds = [type(each).__name__ for each in trainer.callbacks]
    assert (kinds.count("Tracking"), kinds.count("ImageLogger"), kinds[-1]) == (1, 1, "ModelCheckpoint")
    assert tracker.experiment.id == runs[0].id
    tracker.finish()
    plain = Trainer(logger=CSVLogger(str(tmp_path)), enable_progress_bar=False)
    before = len(plain.callbacks)
    track(plain)
    assert len(plain.callbacks) == before


def test_the_end_of_a_run_is_reported(runs):
    first, second = runs
    assert (first.exit, first.preempting) == (143, True)
    assert (second.exit, second.preempting) == (0, False)


def test_images_and_table_of_fixed_samples(runs):
    first, second = runs
    shown = [row for row in first.history + second.history if "images.filenames" in row]
    assert [row["trainer/global_step"] for row in shown] == [3, 6]
    tables = []
    for read, row in zip(runs, shown, strict=True):
        files = [read.folder / "files" / name for name in row["images.filenames"]]
        assert len(files) == 4
        assert all(file.is_file() for file in files)
        assert all("truth " in caption and "probability 0." in caption for caption in row["images.captions"])
        tables.append(json.loads((read.folder / "files" / row["images table.path"]).read_text()))
    assert tables[0]["columns"] == ["sample", "image", "drawn", "truth", "prediction", "probability", "correct"]
    assert len(tables[0]["data"]) == 4
    assert [row[0] for row in tables[0]["data"]] == [row[0] for row in tables[1]["data"]], "the same samples each epoch"
    for row in tables[0]["data"]:
        number = int(row[0].removeprefix("toy-"))
        assert row[3] == ("light" if number % 2 else "dark")
        assert row[6] == (row[3] == row[4])


def test_tables_of_the_task_come_at_the_end(runs):
    first, second = runs
    row = next(row for row in second.history if "val/per class.path" in row)
    table = json.loads((second.folder / "files" / row["val/per class.path"]).read_text())
    assert table["columns"][:2] == ["class", "precision"]
    assert [line[0] for line in table["data"]] == ["dark", "light"]
    assert "val/confusion.path" in row
    assert not any("val/per class.path" in row for row in first.history)


def test_best_and_last_checkpoint_are_kept_with_their_card(runs):
    first, second = runs
    assert not first.artifacts, "a stopped run keeps its checkpoints for the end"
    (name, artifact), *others = second.artifacts.items()
    assert (name, others) == (f"model-{second.id}", [])
    files = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    assert set(files) == {"model.ckpt", "README.md"}
    run = second.folder.parent.parent
    assert all(path.is_relative_to(run) for path in files.values()), (
        "what waits for the upload lies in the run's folder"
    )
    assert read_checkpoint(files["model.ckpt"])["visionkit"]["task"] == "classification"
    card = files["README.md"].read_text()
    assert "- Seed: 3" in card
    assert "| val/top1 |" in card
    assert "best" in artifact.aliases
    best = second.summary["best/val/top1"]
    assert best == pytest.approx(json.loads(artifact.metadata)["score"])


def test_a_failure_keeps_its_status():
    assert exit_code(Diverged("x")) == 6
    assert exit_code(KeyboardInterrupt()) == 130
    assert exit_code(RuntimeError()) == 1


def test_readable_config_takes_classes_by_name():
    config = {"a": [{"class_path": "x.Y", "init_args": {"z": 1}}], "_mark": 1, "logger": True}
    assert readable_config(config) == {"a": [{"class": "Y", "z": 1}]}


# ---------------------------------------------------------------------- servers that do not respond


@pytest.fixture
def online(monkeypatch):
    """As a user's machine is: nothing was given offline.

    A new process each time, since wandb reads its environment once.
    """
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    teardown()
    yield monkeypatch
    teardown()


@pytest.fixture
def silent_server() -> Iterator[tuple[str, list[Any]]]:
    """Takes connections and never states a word; lists who came."""
    came: list[Any] = []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def accept() -> None:
            while True:
                try:
                    came.append(server.accept())
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", came
        server.shutdown(socket.SHUT_RDWR)


class _MultiTaskPrediction(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def test_server_() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _MultiTaskPrediction)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def start(folder: Path) -> tuple[WandbTracker, float]:
    tracker = WandbTracker(save_dir=str(folder))
    began = time.monotonic()
    tracker.log_metrics({"val/loss": 1.0}, step=1)
    return tracker, time.monotonic() - began


@pytest.mark.parametrize("kind", ["refuses", "is silent"])
def test_goes_offline_by_itself_with_one_line(kind, online, silent_server, free_port, tmp_path, caplog, capfd):
    online.setenv("WANDB_SILENT", "false")
    online.setenv("WANDB_MODE", "offline")
    tracker, usual = start(tmp_path / "warm")  # what wandb's own process takes to start is not ours
    tracker.finish()
    url = silent_server[0] if kind == "is silent" else f"http://127.0.0.1:{free_port}"
    online.setenv("WANDB_BASE_URL", url)
    online.delenv("WANDB_MODE")
    teardown()
    caplog.clear()
    folder = tmp_path / "a run"
    tracker, took = start(folder)
    assert tracker.is_offline
    assert took < usual + 3, "wandb alone waits 90 s"
    tracker.finish()
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert "\n" not in lines[0]
    assert f"{url} does not respond" in lines[0]
    command = shlex.split(lines[0].partition("send it later with: ")[2])
    assert command == ["wandb", "sync", str(folders(folder)[0])]
    assert read_run(folders(folder)[0]).history[0]["val/loss"] == 1.0
    assert "wandb:" not in "".join(capfd.readouterr()), "nor does wandb add lines of its own"


def test_without_a_key_it_goes_offline_too(online, test_server_, tmp_path, caplog):
    online.delenv("WANDB_API_KEY")
    online.setenv("WANDB_BASE_URL", test_server_)
    tracker, took = start(tmp_path)
    tracker.finish()
    assert took < 20
    assert "wandb login" in caplog.text
    assert "wandb sync" in caplog.text
    assert len(folders(tmp_path)) == 1


def test_offline_asks_nobody(silent_server, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", silent_server[0])
    tracker, _ = start(tmp_path)
    tracker.finish()
    assert silent_server[1] == []


def test_records_lie_where_wandb_dir_states(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("WANDB_DIR", str(elsewhere))  # which does not exist yet
    tracker, _ = start(tmp_path / "run")
    command = tracker.sync_command()
    tracker.finish()
    (folder,) = folders(elsewhere)
    assert [path.name for path in (tmp_path / "run" / "wandb").iterdir()] == ["resume.json"], "which is our own"
    assert [row["val/loss"] for row in read_run(folder).history] == [1.0]
    assert shlex.split(command) == ["wandb", "sync", str(folder)]


def test_disabled_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    tracker, _ = start(tmp_path)
    tracker.finish()
    assert not (tmp_path / "wandb").exists()


def test_probe_knows_who_is_there(test_server_, silent_server, free_port):
    assert probe(test_server_) is None, "a server that does not find the page is there"
    began = time.monotonic()
    assert probe(silent_server[0], seconds=0.5) is not None
    assert time.monotonic() - began < 2
    assert "refused" in str(probe(f"http://127.0.0.1:{free_port}"))
    assert probe("file:///etc/passwd") == "no http address"


def _imports_wandb(node: ast.AST) -> bool:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    return any(name.split(".")[0] == "wandb" for name in names)


def test_three_modules_import_wandb_and_not_before_a_run_begins():
    importing = {}
    for path in (ROOT / "visionkit").rglob("*.py"):
        tree = ast.parse(path.read_text())
        at_top = [_imports_wandb(node) for node in tree.body]
        if any(_imports_wandb(node) for node in ast.walk(tree)):
            importing[path.name] = any(at_top)
    assert importing == {"tracker.py": False, "artifacts.py": False, "overlays.py": False}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_make_one_run(tmp_path):
    run = tmp_path / "run"
    subprocess.run([sys.executable, "-m", __spec__.name, str(run)], cwd=ROOT, check=True, timeout=280)
    (folder,) = folders(run)
    read = read_run(folder)
    assert read.exit == 0
    assert [row["trainer/global_step"] for row in read.history if "images.filenames" in row]


# ---------------------------------------------------------------------- sweeps


if __name__ == "__main__":
    tracked = WandbTracker(save_dir=sys.argv[1])
    train(Path(sys.argv[1]), tracked, devices=2, strategy="ddp", max_epochs=1)
    tracked.finish()
