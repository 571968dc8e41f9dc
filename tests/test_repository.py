"""What lies in the repository: the fixed top level, sizes, names, and nothing of the machine it was written on."""

from __future__ import annotations

import re
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.real_data import ROOT

TOP = {
    ".ci", ".gitignore", "LICENSE", "Makefile", "NOTICE", "README.md", "benchmarks", "configs", "datamodules", "docs",
    "pyproject.toml", "requirements.lock", "tasks", "tests", "ui", "visionkit",
}  # fmt: skip
# Homes of people and workplaces of machines. A path of this type in a file works on one machine alone.
MACHINE = re.compile(r"(?<![\w.])/(?:home|root|Users|work|mnt|opt)/\w")
INDEX = re.compile(r"--(?:extra-)?index-url|--find-links|\[\[?tool\.uv\.index|https?://[^\s\"')]*/simple\b")
# The pattern above has to be written somewhere.
EXEMPT = {"tests/test_repository.py"}


def _tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so what is tracked is unknown")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def _texts() -> dict[str, str]:
    texts = {}
    for path in _tracked():
        data = path.read_bytes()
        if b"\0" not in data[:8192] and str(path.relative_to(ROOT)) not in EXEMPT:
            texts[str(path.relative_to(ROOT))] = data.decode("utf-8", errors="replace")
    return texts


def test_the_top_level_is_the_fixed_set() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in _tracked()} <= TOP


@pytest.mark.parametrize("pattern", [MACHINE, INDEX], ids=["path of a machine", "package index"])
def test_nothing_of_one_machine_is_written_down(pattern: re.Pattern[str]) -> None:
    found = [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in _texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)


def test_the_patterns_find_what_they_are_for() -> None:
    assert MACHINE.search('open("/home/me/x")') and not MACHINE.search("see ../shared/data and docs/work/x")
    assert INDEX.search("--index-url https://a.example/simple") and not INDEX.search("a simple index")


def test_the_lock_is_hashed_universal_and_covers_pyproject() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    pins = re.findall(r"^([a-z0-9._-]+)==(\S+)", lock, re.MULTILINE)
    blocks = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pins) and all("--hash=sha256:" in block for block in blocks)
    assert "://" not in lock
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.split(r"[\[<>=!~ ;]", line)[0].lower().replace("_", "-") for line in wanted}
    assert names <= {name for name, _ in pins}, "pyproject.toml changed: run `make lock`"
    assert not (ROOT / "uv.lock").exists()


def test_every_dependency_states_its_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text("utf-8").splitlines()
    start, end = lines.index("dependencies = ["), lines.index("[project.scripts]")
    silent, message = [], False
    for line in lines[start + 1 : end]:
        bare = line.strip()
        if bare.startswith("#"):
            message = True
        elif bare.startswith('"') or " = [" in bare:
            if not (message or "#" in bare or bare.startswith("dev")):
                silent.append(bare)
            message = False
    assert not silent


def test_sizes() -> None:
    large = [path for path in _tracked() if path.stat().st_size > 5e6 and "starters" not in path.parts]
    assert not large
    example_models = [path for path in _tracked() if "starters" in path.parts]
    assert sum(path.stat().st_size for path in example_models) < 50e6, "an example model has one to eight megabytes"


def test_no_module_is_named_for_nothing() -> None:
    nameless = {"utils", "util", "common", "misc", "helpers", "helper"}
    assert not [
        path for path in _tracked() if nameless & {part.removesuffix(".py") for part in path.parts[len(ROOT.parts) :]}
    ]


def test_no_python_file_requires_a_split() -> None:
    lengths = {
        path.relative_to(ROOT): len(path.read_text("utf-8").splitlines()) for path in _tracked() if path.suffix == ".py"
    }
    long = {str(path): n for path, n in lengths.items() if n > (450 if path.parts[0] == "tests" else 400)}
    assert not long


def test_configurations_parse() -> None:
    for path in (ROOT / "configs").rglob("*.y*ml"):
        assert all(isinstance(each, dict) for each in yaml.safe_load_all(path.read_text("utf-8"))), path


def test_the_check_of_a_bare_machine_can_be_run() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    subprocess.run(["bash", "-n", script], check=True)
