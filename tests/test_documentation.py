"""What README.md and docs/ state is read and compared with the code: links, commands, options, configurations, Python.

Nothing is trained and no command is run. A renamed option, verb, class, argument or configuration fails here at once,
on any page; three pages are followed in `tests/test_readme.py`, and all of them by `make slow`.
"""

from __future__ import annotations

import contextlib
import copy
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.documented import FOLLOWED, PAGES, Block, blocks, blocks_of, page_id
from tests.read_code import faults, needs, undefined
from tests.read_commands import Reader
from tests.real_data import ROOT
from visionkit.errors import VisionKitError

_COMMAND = re.compile(r"\$ |(visionkit|make|wandb|pip|python3?) [a-z-]+( [^ ]|$)|(torchrun|sbatch|srun) ")


@pytest.mark.parametrize("page", [page for page in PAGES if page not in FOLLOWED], ids=page_id)
def test_commands_and_code_are_understood(page: Path, tmp_path: Path) -> None:
    """Commands are parsed; Python that needs nothing that a command makes is run, and the rest is read."""
    reader, commands = Reader(), Reader()
    with contextlib.chdir(tmp_path):
        for name in ("ui", "configs", "docs", "benchmarks"):
            Path(name).symlink_to(ROOT / name)
        for block in blocks_of(page):
            reader.read(block)
            if block.language == "bash":
                commands.remember(block.text)
            elif block.language == "python":
                assert not faults(block)
                if block.kind == "fast" and not needs(block, commands.makes):
                    module = sys.modules["__page__"] = ModuleType("__page__")  # which a dataclass asks for
                    exec(compile(block.text, block.place, "exec"), module.__dict__)


def test_python_of_all_pages_defines_its_names(tmp_path: Path) -> None:
    found = [block for page in PAGES for block in blocks_of(page) if block.language == "python"]
    assert len(found) > 50
    assert undefined(found, tmp_path) == ""


WRONG = {
    "visionkit fit -c classification --data SceneData --model.backbon test_resnet": "backbon",
    "visionkit fit -c classification --data ScenesData": "ScenesData",
    "visionkit fit -c clasification": "clasification",
    "visionkit fit -c detection -c scenes --model.fcos.neck_chanels 32": "neck_chanels",
    "visionkit fit -c detection -c scenes --model.ssd.neck_channels 32": "neck_channels",
    "visionkit fit -c detection -c scenes --model.retinanet.neck_channels 32": "retinanet",
    "visionkit fit -c classification -c scenes --data.count many": "count",
    "visionkit fit -c classification -c scenes --trainer.epochs 1": "epochs",
    "visionkit fit -c block.yml": "block.yml",
    "visionkit test --ckpt_path runs/none": "runs/none",
    "visionkit test --ckpt_path runs/known --data.folder other": "folder",
    "visionkit fit -c runs/known/config.yaml --model.colors 2": "colors",
    "visionkit fit --init_from runs/known --data CocoDatas": "CocoDatas",
    "visionkit predict runs/knwon photos/a.jpg": "runs/knwon",
    "visionkit predict runs/known photo/a.jpg": "photo/a.jpg",
    "visionkit predict ui/starters/detection/peple photos": "peple",
    "visionkit predict runs/known photos --draws": "--draws",
    "visionkit scenes --out photos --size large large": "large",
    "visionkit view --data SceneData --data.targets boxes": "targets",
    "visionkit view --split vall photos": "vall",
    "visionkit doctor photos --data LabelMapsData": "LabelMapsData",
    "visionkit analyse runs/known": "analyse",
    "torchrun --no-python -- visionkit fit -c classification -c scenes --trainer.device 2": "device",
    "python -m benchmarks.no_such_thing": "no_such_thing",
    "python -m benchmarks.orl_faces --rooot orl": "--rooot",
}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """A page's beginning: images are drawn, a model is trained and measured."""
    reader = Reader()
    with contextlib.chdir(tmp_path_factory.mktemp("before")):
        known = "visionkit fit -c classification --data FolderData --data.root photos --run runs/known\n"
        reader.read(Block("x.md:1", "bash", "fast", f"visionkit scenes --out photos\n{known}"))
        reader.read(Block("x.md:5", "bash", "fast", "visionkit test --ckpt_path runs/known --bootstrap 10  # right"))
    return reader


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_command_is_refused_without_being_run(command: str, before: Reader, tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path), pytest.raises((VisionKitError, ModuleNotFoundError)) as refused:
        copy.deepcopy(before).read(Block("x.md:9", "bash", "fast", command))
    assert WRONG[command] in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "model: {init_args: {backbones: resnet18}}",
        "model: {class_path: DetectionTask, init_args: {fcos: {stride: [4]}}}",
        "data: {class_path: FolderData, init_args: {root: a, augment: {class_path: Nothing}}}",
        "data: {init_args: {skeletons: lamp.yaml}}",
        "trainer: {epochs: 3}",
        "trainer: {callbacks: [{class_path: EarlyStopping, init_args: {monitors: val/loss}}]}",
    ],
)
def test_a_wrong_configuration_is_refused_without_being_run(text: str, tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path), pytest.raises(VisionKitError):
        Reader().read(Block("x.md:1", "yaml", "fast", text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from visionkit import laod", "visionkit has no laod"),
        ("import visionkit.predictors", "No module named"),
        ("from visionkit import load\nload('a')('b').probabilites", "nothing here is called .probabilites"),
        ("from visionkit.geometry import InputSpec\nInputSpec(sizes=(64, 64))", "unexpected keyword argument 'sizes'"),
        ("from visionkit import geometry\ngeometry.InputSpecs()", "has no attribute 'InputSpecs'"),
    ],
)
def test_wrong_python_is_refused_without_being_run(text: str, message: str) -> None:
    assert [each for each in faults(Block("x.md:1", "python", "fast", text)) if message in each]


def test_an_undefined_name_is_found(tmp_path: Path) -> None:
    assert "`lod`" in undefined([Block("x.md:1", "python", "fast", "print(lod(1))")], tmp_path)


def test_python_that_needs_a_command_is_told_from_what_does_not() -> None:
    reader = Reader()
    reader.remember("visionkit fit -c classification --run runs/a")
    for text, needed in (("load('runs/a')", True), ("load('runs/b')", False), ("open('a.txt')", False)):
        assert needs(Block("x.md:1", "python", "fast", text), reader.makes) == needed


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_what_is_left_to_the_check_is_done_by_it(page: Path) -> None:
    """A block marked `ci` holds .ci/run itself or a make target that it reaches."""
    left = [block for block in blocks_of(page) if block.kind == "ci"]
    if not left:
        return
    reached = _made("test")
    assert "make test" in (ROOT / ".ci" / "run").read_text("utf-8")
    for block in left:
        for command in block.commands():
            if command == ".ci/run":
                continue
            assert re.fullmatch(r"make [a-z]+", command), f"{block.place}: `{command}` is not run by .ci/run"
            assert _made(command.split()[1]) <= reached, f"{block.place}: {command} goes beyond make test"


def _made(target: str) -> set[str]:
    """The lines that make would run for a target."""
    command = ["make", "-n", "-B", target]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines())


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_shown_output_is_no_command(page: Path) -> None:
    """A command in a block of text would be run by nobody."""
    for block in blocks_of(page):
        if block.language == "text":
            for line in block.commands():
                assert not _COMMAND.match(line), f"{block.place}: write `{line}` into a bash block"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", prose):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name}: {target} does not exist"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_in_running_text_exist(page: Path) -> None:
    from ui import cli
    from ui.commands import training

    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for verb in re.findall(r"`visionkit ([a-z]+)", prose):
        assert verb in (*training.VERBS, *cli.VERBS), f"{page.name}: there is no `visionkit {verb}`"
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for target in re.findall(r"`make ([a-z]+)", prose):
        assert target in targets, f"{page.name}: there is no `make {target}`"


def test_marks_are_understood_or_refused() -> None:
    marked = blocks("x.md", "<!-- run: slow, trains -->\n```bash\n# why\nvisionkit fit \\\n  -c a.yaml\n```\n")
    assert [(block.kind, block.commands()) for block in marked] == [("slow", ["visionkit fit -c a.yaml"])]
    for wrong, message in [
        ("<!-- run: never, no wish -->\n```bash\nls\n```", "not one of"),
        ("<!-- run: slow -->\n```bash\nls\n```", "KIND, REASON"),
        ("```\nls\n```", "a block is one of"),
        ("```bash\nls\n", "not closed"),
    ]:
        with pytest.raises(ValueError, match=message):
            blocks("x.md", wrong)
