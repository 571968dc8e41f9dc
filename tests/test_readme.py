"""Runs what README.md and docs/ state a reader to type: three pages in the quick tests, all of them by `make slow`.

What the other pages state is read by `tests/test_documentation.py` in the quick tests: commands are parsed by the real
command line, and Python is run where it needs no command. So a page costs the quick tests tenths of a second. A page is
followed in them (`FOLLOWED` in `tests/documented.py`) only where no other test goes its way.

The fenced blocks of a page are run in order, in a folder of their own that holds the clone's files. A comment on the
line before a block states how, and why not simply so:

    <!-- run: slow, trains for minutes -->        run by `make slow`, one epoch of a few steps of each training
    <!-- run: ci, it is what runs this test -->   run by .ci/run, by way of make
    <!-- run: network, fetches weights -->        run with no network: ends with 0, or with 5 and one clear line
    <!-- run: elsewhere, tests/x.py -->           what no one machine can do; that test runs it on stand-ins

A block whose first line names a file (`# counting/task.py`) is written there in place of being run.
`visionkit` is called in this process, since its imports cost seconds; `visionkit serve` and `make demo` are started,
asked for their page and stopped.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.documented import FOLLOWED, PAGES, blocks_of, page_id
from tests.own_package import install, own_packages, write
from tests.real_data import ROOT, real_data
from ui.cli import build_parser

# What the slow blocks read, by the name that a reader's data has there, inside the folder of real data.
DATA = {
    "bccd_voc": "detection/bccd_voc",
    "coco_val2017_person": "pose/coco_val2017_person",
    "ccp_person_parsing": "semantic_segmentation/ccp_person_parsing",
    "cifar10_jpg.zip": "classification/cifar10_jpg.zip",
    "dsb2018_nuclei": "instance_segmentation/dsb2018_nuclei",
    "orl_faces": "face_recognition/orl_faces",
    "set5": "super_resolution/set5",
    "t91": "super_resolution/t91",
    "tsdf_fusion_rgbd25": "depth/tsdf_fusion_rgbd25",
}
# Added to a training of a slow block: whether the command works shows in its first steps.
BRIEFLY = ("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "3", "--trainer.limit_val_batches", "2")
# Scenes that a page draws at most, and steps and network of its trainings, unless it is followed whole: all else is as
# it is typed.
SCENES = 30
FEW = ("--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1")
TINY = ("--model.backbone", "test_resnet")  # where the default is trained, whose graph alone takes ten seconds
# The page whose server is started; it is the same on the others, and `make demo` starts one too.
SERVED = "README.md"
_TRAINING = re.compile(r"visionkit fit |python -m benchmarks\.orl_faces ")


@contextlib.contextmanager
def _environment(pairs: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(pairs)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _in_process(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Calls the command line here. Returns its status and what it wrote."""
    from ui.cli import main

    said = io.StringIO()
    status: object = 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with _environment(environment), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return status if isinstance(status, int) else int(status is not None), said.getvalue()


def _in_shell(command: str) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def _serves(command: list[str], port: int, folder: Path) -> int:
    """Starts a server, waits for its page, interrupts it and what it started. Returns the status of `command`."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT, process_group=0)
        try:
            end = time.monotonic() + 120
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as prediction:
                        assert prediction.status == 200
                        break
                except OSError:
                    if process.poll() is not None or time.monotonic() > end:
                        said.seek(0)
                        pytest.fail(f"`{shlex.join(command)}` did not respond:\n{said.read()[-4000:]}")
                    time.sleep(0.1)
            os.killpg(process.pid, signal.SIGINT)
            return process.wait(30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _words(command: str) -> list[str]:
    """The words of a command; a pattern of file names that is not quoted becomes the files, as in a shell."""
    words = []
    for word in shlex.split(command):
        files = sorted(map(str, Path().glob(word))) if "*" in word and f" {word}" in command else []
        words += files or [word]
    return words


def _run(command: str, port: int) -> tuple[int, str]:
    if command.startswith("make demo"):
        if not (ROOT / ".venv" / "bin" / "visionkit").exists():
            pytest.skip("make demo needs the checkout's own .venv")
        # What is installed is what runs the tests: the set-up is not gone through again.
        make = [*shlex.split(command), "--silent", "--old-file=.venv/.installed", f"PORT={port}"]
        _serves(make, port, ROOT)  # make states 2 where what it called was interrupted: its status states nothing
        return 0, ""
    if command.startswith("pip install") and command.endswith("--editable ."):
        return install(Path.cwd())
    # What only a shell understands, outside of quotes; a pattern of file names is understood here.
    if re.search(r"[|&;<>$`?(){}]", re.sub(r"'[^']*'|\"[^\"$`]*\"", "", command)):
        return _in_shell(command)
    words = _words(command)
    environment = {}
    while words and re.match(r"^[A-Z_]+=", words[0]):
        name, value = words.pop(0).split("=", 1)
        environment[name] = value
    if words[0] != "visionkit":
        return _in_shell(command)
    if words[1:2] == ["serve"]:
        if "--port" not in words:
            words += ["--port", str(port)]
        else:
            words[words.index("--port") + 1] = str(port)
        status = _serves(words, port, Path.cwd())
        return 0 if status == 130 else status, ""
    return _in_process(words[1:], environment)


def _page_module() -> ModuleType:
    """A fresh module for the Python of a page; a dataclass asks for the module that it was made in."""
    module = sys.modules["__page__"] = ModuleType("__page__")
    return module


def _fewer(command: str) -> str:
    """`visionkit scenes` with at most `SCENES` of them, `visionkit fit` with few steps and no large network."""
    if command.startswith("visionkit fit "):
        begun = any(option in command for option in ("--model.backbone ", "--ckpt_path ", "--init_from "))
        return f"{command} {shlex.join(FEW if begun else (*FEW, *TINY))}"
    if not command.startswith("visionkit scenes "):
        return command
    return re.sub(r"(?<=--count )\d+", lambda found: str(min(int(found[0]), SCENES)), command)


def _is_parsed(command: str, page: Path) -> bool:
    """Whether the quick tests only parse a command of a page that they follow."""
    return command.startswith("visionkit serve") and page_id(page) != SERVED


def _follow(page: Path, kinds: set[str], folder: Path, port: int) -> None:
    for name in ("configs", "docs", "benchmarks", "ui/starters", "README.md"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        elif source.exists():
            shutil.copy(source, folder / name)
    with contextlib.chdir(folder), own_packages(folder):
        for block in blocks_of(page):
            if block.kind not in kinds:
                continue
            is_file = write(folder, block.text)
            if block.language == "python" and not is_file:
                exec(compile(block.text, block.place, "exec"), _page_module().__dict__)
            elif block.language == "yaml":
                assert isinstance(yaml.safe_load(block.text), dict), block.place
            elif block.language == "bash":
                for command in block.commands():
                    if block.kind == "slow" and _TRAINING.match(command):
                        validates = not command.startswith(
                            "python -m benchmarks.orl_faces "
                        )  # its configurations do not
                        command = f"{command} {shlex.join(BRIEFLY if validates else BRIEFLY[:-2])}"
                    if "slow" not in kinds:
                        command = _fewer(command)
                        if _is_parsed(command, page):
                            build_parser("serve").parse(shlex.split(command)[2:])
                            continue
                    status, said = _run(command, port)
                    allowed = (0, 5) if block.kind == "network" else (0,)
                    assert status in allowed, f"{block.place}: `{command}` ended with {status}\n{said[-4000:]}"
                    if status:
                        lines = said.strip().splitlines()
                        assert len(lines) <= 3 and "Traceback" not in said, (
                            f"{block.place}: not one clear line:\n{said}"
                        )


def _is_cut_short(page: Path) -> bool:
    """Whether the quick tests leave out a block that can be run, or draw fewer scenes or train fewer steps in it."""
    can_run = ("fast", "slow", "network")
    run = [each for each in blocks_of(page) if each.kind in can_run and each.language in ("bash", "python")]
    commands = [command for block in run for command in block.commands() if block.language == "bash"]
    cut = [each for each in commands if _fewer(each) != each or _is_parsed(each, page)]
    return bool(cut) or any(block.kind == "slow" for block in run) or (page not in FOLLOWED and bool(run))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", FOLLOWED, ids=page_id)
def test_a_page_can_be_followed(page: Path, tmp_path: Path, free_port: int) -> None:
    _follow(page, {"fast", "network"}, tmp_path, free_port)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("page", [page for page in PAGES if _is_cut_short(page)], ids=page_id)
def test_a_page_can_be_followed_whole(page: Path, tmp_path: Path, free_port: int) -> None:
    typed = " ".join(block.text for block in blocks_of(page) if block.kind == "slow")
    for name in DATA:
        if re.search(rf"[ =]{re.escape(name)}\b", typed):
            (tmp_path / name).symlink_to(real_data(DATA[name]))
    _follow(page, {"fast", "slow", "network"}, tmp_path, free_port)


def test_fewer_scenes_and_steps_and_nothing_else_is_changed() -> None:
    assert shlex.split(_fewer("visionkit fit -c 'a b'")) == ["visionkit", "fit", "-c", "a b", *FEW, *TINY]
    for begun in ("--model.backbone vit", "--init_from runs/a", "--ckpt_path last"):
        assert _fewer(f"visionkit fit {begun}") == f"visionkit fit {begun} {shlex.join(FEW)}"
    assert _fewer("visionkit scenes --out a --count 200 --seed 200") == "visionkit scenes --out a --count 30 --seed 200"
    for same in ("visionkit scenes --out a --count 20", "visionkit view --count 200", "visionkit test --ckpt_path a"):
        assert _fewer(same) == same


def test_a_wrong_command_fails(tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        assert _run("false", 0)[0] == 1
        assert _run("ls nowhere", 0)[0] != 0


def test_the_console_script_starts() -> None:
    """One subprocess smoke: the others are called in process."""
    script = Path(sys.executable).parent / "visionkit"
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    for verb in ("fit", "validate", "test", "predict", "export", "serve", "models", "scenes"):
        assert re.search(rf"\b{verb}\b", done.stdout), f"{verb} is not in the help"
