"""Changes the core a little, again and again, and counts how often the tests notice.

    python -m tests.mutation [--count 25] [--seed 0] [--jobs 2] [MODULE ...]

The table goes to standard output, the survivors of a module to standard error as soon as it is done.

Of each module a sample of all mutants, the same for the same seed, is tried, each in a process that is forked from one
that has imported every library already. The tests that reach a changed line run first, quickest first; what survives
them meets all tests of the module. A survivor is a test that is missing, or stands with its reason in
`equivalents.yaml`. The status is 1 where fewer than 95 % are killed.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.mutation.mutants import Mutant, mutants
from tests.mutation.plan import PLAN, equivalents, stale
from tests.real_data import ROOT

GOAL = 0.95
NO_TESTS = 5
"""pytest's status where nothing was collected: a change may rename cases."""
MEMORY = 24 << 30
"""Bytes of address space; a changed size must not take the machine with it."""
LIBRARIES = (
    "numpy", "scipy.optimize", "cv2", "PIL.Image", "torch", "torchvision", "timm", "lightning", "torchmetrics",
    "albumentations", "segmentation_models_pytorch", "jsonargparse", "onnx", "onnxruntime", "onnxscript",
    "faster_coco_eval", "safetensors.torch", "yaml", "pytest",
)  # fmt: skip
PACKAGES = ("tests", "visionkit", "tasks", "datamodules", "ui", "benchmarks")


@dataclasses.dataclass
class Verdict:
    """What became of a mutant: `killed`, `timeout`, `survived` or `equivalent`; and the test or the reason."""

    mutant: Mutant
    status: str
    why: str = ""


class Tree:
    """A copy of the repository in which one module at a time is changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file() and not name.startswith("docs/images"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)

    def write(self, module: str, source: str) -> None:
        """Puts a source in a module's place; no bytecode of another one is left."""
        (self.folder / module).write_text(source, "utf-8")
        for old in (self.folder / module).parent.glob(f"__pycache__/{Path(module).stem}.*"):
            old.unlink()

    def fork(self, work: Callable[[], Any], bytecode: bool) -> tuple[int, Path]:
        """Begins `work` in a child whose world is this copy; what it returns comes back as JSON in the file."""
        descriptor, name = tempfile.mkstemp(dir=self.folder.parent, suffix=".json")
        os.close(descriptor)
        pid = os.fork()
        if pid:
            return pid, Path(name)
        status = 1
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            os.chdir(self.folder)
            os.environ["PYTHONPATH"] = str(self.folder)
            sys.path[:] = [str(self.folder), *(each for each in sys.path if Path(each or ".").resolve() != ROOT)]
            sys.dont_write_bytecode = not bytecode
            for each in [name for name in sys.modules if name.split(".")[0] in PACKAGES]:
                del sys.modules[each]
            importlib.invalidate_caches()
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            Path(name).write_text(json.dumps(work()))
            status = 0
        except BaseException:
            Path(name).write_text(json.dumps({"error": traceback.format_exc()}))
        finally:
            _home_of_the_tests_goes()
            os._exit(status)


def _home_of_the_tests_goes() -> None:
    shutil.rmtree(getattr(sys.modules.get("tests.conftest"), "_HOME", "/nonexistent"), ignore_errors=True)


def _pytest(plugin: Any, paths: Sequence[str], folder: Path) -> int:
    import pytest

    base = ["-q", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={folder}/tmp"]
    return int(pytest.main([*base, *paths], plugins=[plugin]))


def _baseline(module: str, folder: Path) -> dict[str, Any]:
    from tests.mutation.plugin import Lines

    lines = Lines(str(folder / module))
    code = _pytest(lines, PLAN[module], folder)
    reached = {test: sorted(each) for test, each in lines.reached.items()}
    return {"code": code, "failed": lines.failed, "reached": reached, "seconds": lines.seconds}


def _trial(module: str, tests: Sequence[str] | None, folder: Path) -> dict[str, Any]:
    from tests.mutation.plugin import Choice

    choice = Choice(tests)
    paths = PLAN[module] if tests is None else sorted({test.partition("::")[0] for test in tests})
    code = _pytest(choice, ["-x", *paths], folder)
    return {"code": code, "killer": choice.killer}


def _wait(pid: int, prediction: Path, seconds: float) -> dict[str, Any] | None:
    """What a child returned; None where it took too long, an error where it ended without a word."""
    end = time.monotonic() + seconds
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > end:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            prediction.unlink()
            return None
        time.sleep(0.02)
    text = prediction.read_text()
    prediction.unlink()
    found: dict[str, Any] = json.loads(text) if text else {"error": "ended without a word"}
    return found


def judge(module: str, sample: Sequence[Mutant], tree: Tree, source: str) -> list[Verdict]:
    """Tries the mutants of one module, one after the other."""
    tree.write(module, source)
    found = _wait(*tree.fork(lambda: _baseline(module, tree.folder), bytecode=True), seconds=1800)
    if not found or "error" in found or found["failed"] or not found["reached"]:
        message = {key: (found or {}).get(key) for key in ("error", "code", "failed")}
        raise SystemExit(f"mutation: the tests of {module} do not pass unchanged: {json.dumps(message)}")
    known, verdicts = equivalents(), []
    for mutant in sample:
        why = known.get((module, *mutant.diff(source)))
        if why:
            verdicts.append(Verdict(mutant, "equivalent", why))
            continue
        last = mutant.line + mutant.old.count("\n")
        near = [test for test, lines in found["reached"].items() if any(mutant.line <= n <= last for n in lines)]
        near.sort(key=lambda test: found["seconds"][test])
        tree.write(module, mutant.apply(source))
        verdicts.append(Verdict(mutant, "survived"))
        for tests in [near, None] if near else [None]:
            known_seconds = sum(found["seconds"][test] for test in tests or found["seconds"])
            result = _wait(
                *tree.fork(lambda tests=tests: _trial(module, tests, tree.folder), bytecode=False),
                seconds=60 + 5 * known_seconds,
            )
            if result is None:
                verdicts[-1] = Verdict(mutant, "timeout")
            elif result.get("code") not in (0, NO_TESTS):
                verdicts[-1] = Verdict(mutant, "killed", result.get("killer") or result.get("error", "")[-200:])
            if verdicts[-1].status != "survived" or (
                result == {"code": 0, "killer": ""} and len(near) == len(found["seconds"])
            ):
                break  # killed, or every test has run
    tree.write(module, source)
    return verdicts


def report(module: str, source: str, verdicts: Sequence[Verdict]) -> tuple[str, list[str]]:
    """A row of the table and the survivors' lines."""
    count = collections.Counter(each.status for each in verdicts)
    tried, killed = len(verdicts) - count["equivalent"], count["killed"] + count["timeout"]
    fraction = killed / tried if tried else 1.0
    row = f"| {module} | {tried} | {killed} | {count['survived']} | {count['equivalent']} | {fraction:.0%} |"
    lines = []
    for each in verdicts:
        if each.status == "survived":
            old, new = each.mutant.diff(source)
            lines += [f"{module}:{each.mutant.line} ({each.mutant.kind})", f"    - {old}", f"    + {new}"]
    return row, lines


def _one(module: str, count: int, seed: int) -> dict[str, Any]:
    """All of one module, in a copy of its own."""
    source = (ROOT / module).read_text("utf-8")
    every = mutants(source)
    sample = random.Random(f"{seed}:{module}").sample(every, min(count, len(every)))
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        tree = Tree(Path(name) / "tree")
        verdicts = judge(module, sorted(sample, key=lambda each: each.start), tree, source)
    row, lines = report(module, source, verdicts)
    killed = sum(each.status in ("killed", "timeout") for each in verdicts)
    tried = sum(each.status != "equivalent" for each in verdicts)
    return {"row": row, "lines": lines, "killed": killed, "tried": tried}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.mutation", description="Counts how often the tests notice a change.")
    parser.add_argument("modules", nargs="*", default=list(PLAN), help="paths in the repository; all by default")
    parser.add_argument("--count", type=int, default=25, help="mutants per module (25)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (0)")
    parser.add_argument("--jobs", type=int, default=2, help="modules at a time (2)")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.modules) - set(PLAN))
    if unknown or stale():
        what = f"not in the plan: {', '.join(unknown)}" if unknown else f"equivalents.yaml is stale: {stale()}"
        print(f"mutation: {what}", file=sys.stderr)
        return 2
    sys.path.insert(0, str(ROOT))
    importlib.import_module("tests.conftest")  # the libraries read its environment once
    sys.dont_write_bytecode = False
    for library in LIBRARIES:
        importlib.import_module(library)
    print("| module | mutants | killed | survived | equivalent | share |\n|---|---|---|---|---|---|", flush=True)
    killed, tried, failed = 0, 0, False
    waiting, running = list(arguments.modules), {}
    while waiting or running:
        while waiting and len(running) < arguments.jobs:
            module = waiting.pop(0)
            prediction = Path(tempfile.mkstemp(suffix=".json")[1])
            pid = os.fork()
            if not pid:
                try:
                    prediction.write_text(json.dumps(_one(module, arguments.count, arguments.seed)))
                except BaseException as error:
                    prediction.write_text(json.dumps({"error": f"{module}: {error!r}"}))
                finally:
                    os._exit(0)
            running[pid] = prediction
        pid, _ = os.wait()
        found = json.loads(running[pid].read_text() or "{}")
        running.pop(pid).unlink()
        if "row" not in found:
            print(found.get("error", "a module's process died"), file=sys.stderr, flush=True)
            failed = True
            continue
        print(found["row"], flush=True)
        print(*found["lines"], sep="\n", end="\n" if found["lines"] else "", file=sys.stderr, flush=True)
        killed, tried = killed + found["killed"], tried + found["tried"]
    print(f"\n{killed} of {tried} killed ({killed / max(tried, 1):.1%}), seed {arguments.seed}")
    return int(failed or killed < GOAL * tried)


if __name__ == "__main__":
    sys.exit(main())
