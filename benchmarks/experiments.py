"""What committed experiments share: cells that are kept as they finish, their options, and a table with intervals.

An experiment is a matrix of sets (see `benchmarks.sets`), arms and seeds. Each finished cell is a line of a json file,
and a rerun skips those that are there.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

from benchmarks.sets import SETS as SETS
from benchmarks.sets import Parts, Prepared
from visionkit.data import Split
from visionkit.task import VisionTask
from visionkit.training import fit

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
}


class _Steps(Callback):
    """Counts the steps of a training."""

    count = 0

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.count = trainer.global_step


def measure(
    prepared: Prepared,
    task: VisionTask,
    seed: int,
    *,
    split: Split = "test",
    max_time: str | None = None,
    trainer: Mapping[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Trains a task on a set and measures it once, with the weights of the last step.

    Args:
        prepared: The set.
        task: The task, built after `seed_everything`.
        seed: Seed of the training.
        split: What is measured: `test` to quote, `val` to choose. Neither is trained on.
        max_time: Train for that time in place of the epochs of the set, such as `10m`.
        trainer: Further options of the trainer.
        **changes: Replace attributes of the set, such as `epochs`.
    """
    warnings.filterwarnings("ignore")
    prepared = replace(prepared, **changes)
    parts = dict(prepared.parts)
    parts["test"] = parts[split]
    data = Parts(parts, input=task.input, classes=task.classes or None, seed=seed, **prepared.data)
    began = time.process_time()
    length: dict[str, Any] = {"max_epochs": prepared.epochs} if max_time is None else {"max_time": max_time}
    options = {**QUIET, "limit_val_batches": 0, "callbacks": [steps := _Steps()], **(trainer or {})}
    with tempfile.TemporaryDirectory() as folder:
        fit(task, data, run=folder, seed=seed, report=False, **length, **options)
    seconds = time.process_time() - began
    options = {**QUIET, "enable_model_summary": False, "use_distributed_sampler": False}
    found = Trainer(**options).test(task, datamodule=data, verbose=False)[0]
    metrics = {key.removeprefix("test/"): value for key, value in found.items()}
    trained = sum(each.numel() for each in task.parameters() if each.requires_grad)
    return {
        "metric": prepared.metric,
        "value": metrics[prepared.metric],
        "seconds": round(seconds, 1),
        "steps": steps.count,
        "trained_parameters": trained,
        "metrics": metrics,
    }


# ---------------------------------------------------------------------- cells


def finished(path: Path) -> list[dict[str, Any]]:
    """The cells that a file of results has."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def keep(path: Path, cell: Mapping[str, Any]) -> None:
    """Adds a finished cell to the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(cell) + "\n")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t; NaN of a single value.

    Example:
        >>> interval([1.0, 2.0, 3.0])
        (2.0, 2.4841377...)
    """
    if len(values) < 2:
        return statistics.fmean(values), math.nan
    from scipy.stats import t

    return statistics.fmean(values), float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(
        values
    ) ** 0.5


def table(cells: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str = "mode") -> str:
    """A Markdown table: a row per set, a column per arm, each the mean and its interval in percent.

    Args:
        cells: Finished cells with `set`, `metric`, `value` and the arm under `title`.
        columns: Names of the arms, in order.
        title: The key of a cell that names its arm.
    """
    lines = [f"| set | metric | seeds | {' | '.join(columns)} |", "|---" * (3 + len(columns)) + "|"]
    for name in dict.fromkeys(cell["set"] for cell in cells):
        own = [cell for cell in cells if cell["set"] == name]
        shown, counts = [], []
        for column in columns:
            values = [100 * cell["value"] for cell in own if cell[title] == column]
            mean, half = interval(values) if values else (math.nan, math.nan)
            counts.append(len(values))
            shown.append("" if not values else f"{mean:.1f}" + ("" if math.isnan(half) else f" ± {half:.1f}"))
        seeds = str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
        lines.append(f"| {name} | {own[0]['metric']} | {seeds} | {' | '.join(shown)} |")
    return "\n".join(lines)


Cell = Callable[[str, Any, str, int], Mapping[str, Any]]
"""Name of the set, what was prepared of it, arm and seed to what was measured."""


def options(
    description: str | None, sets: Sequence[str], arms: Sequence[str], title: str = "arm"
) -> argparse.ArgumentParser:
    """The options that every matrix has.

    Args:
        description: What the experiment is.
        sets: Names of the sets.
        arms: Names of the arms.
        title: What an arm is called.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--out", type=Path, required=True, help="file of finished cells, a line of json for each")
    parser.add_argument("--only", nargs="+", choices=list(sets), default=list(sets), help="only these sets")
    parser.add_argument(
        f"--{title}s", dest="arms", nargs="+", choices=list(arms), default=list(arms), help=f"only these {title}s"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--epochs", type=int, help="in place of each set's own, to try the script")
    return parser


def run_matrix(
    given: argparse.Namespace,
    sets: Mapping[str, Callable[[Path], Any]],
    cell: Cell,
    title: str = "arm",
    *,
    arms_of: Callable[[str], Sequence[str]] | None = None,
    columns: Sequence[str] | None = None,
) -> None:
    """Runs the cells that are missing and prints the table.

    Args:
        given: What `options` parsed.
        sets: Prepares each set from the folder of the sets.
        cell: Trains and measures one cell.
        title: The key of a cell that names its arm.
        arms_of: The arms that a set has; all by default.
        columns: Columns of the table; the arms by default.
    """
    import torch

    torch.set_num_threads(given.threads)
    there = {(each["set"], each[title], each["seed"]) for each in finished(given.out)}
    prepared: dict[str, Any] = {}
    for seed in given.seeds:  # a whole table of one seed is of more use than a part of one of three
        for name in given.only:
            for arm in given.arms:
                if (name, arm, seed) in there or (arms_of is not None and arm not in arms_of(name)):
                    continue
                if name not in prepared:
                    prepared[name] = sets[name](given.data)
                found = {"set": name, title: arm, "seed": seed, **cell(name, prepared[name], arm, seed)}
                keep(given.out, found)
                metric, value = found["metric"], found["value"]
                print(f"{name}, {arm}, seed {seed}: {metric} {value:.4f} in {found['seconds']:.0f} s", flush=True)
    shown = [each for each in finished(given.out) if each["set"] in given.only]
    print("\n" + table(shown, columns or given.arms, title))
