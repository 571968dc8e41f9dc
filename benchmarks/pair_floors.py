"""What the benchmarks of tasks of two images share: models and methods without training, measured on the same pairs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visionkit.types import Sample
from visionkit.wording import counted

Estimate = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Two images (h, w, 3) uint8 to the values of the first one."""

Measure = Callable[[Estimate, Sequence[Sample]], dict[str, float]]


def served(path: str, first: str, second: str) -> Estimate:
    """A model, as it is called.

    Args:
        path: Checkpoint or bundle.
        first: Name of its first input.
        second: Name of its second input.
    """
    from visionkit import load

    predictor: Any = load(path)

    def estimate(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        values: np.ndarray = predictor({first: one, second: other}).values
        return values

    return estimate


def parser_of(description: str | None, reader: str) -> argparse.ArgumentParser:
    """The options that all of them have.

    Args:
        description: Docstring of the benchmark.
        reader: Data module that reads `--root`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="checkpoints or bundles")
    parser.add_argument("--pairs", type=int, default=50, help="drawn pairs; 0 for none (default: 50)")
    parser.add_argument("--size", type=int, nargs=2, default=(128, 192), help="their height and width")
    parser.add_argument("--root", help=f"folder that {reader} reads")
    parser.add_argument("--out", type=Path, help="file of the values, json")
    return parser


def compare(
    methods: Mapping[str, Estimate], sets: Mapping[str, Sequence[Sample]], measured: Measure, out: Path | None
) -> None:
    """Measures every method on every set of pairs by one thread, and prints a table per set.

    Args:
        methods: By name.
        sets: Pairs by title.
        measured: Gives the measures of one method on one set.
        out: File of the values, or None.
    """
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    found = {
        title: {name: measured(method, samples) for name, method in methods.items()} for title, samples in sets.items()
    }
    for title, rows in found.items():
        names = list(next(iter(rows.values())))
        print(f"\n{title}, {counted(len(sets[title]), 'pair')}\n\n| method | {' | '.join(names)} |")
        print("|---" * (len(names) + 1) + "|")
        for method, values in rows.items():
            print(f"| {method} | {' | '.join(f'{values[name]:.4g}' for name in names)} |")
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n")
