"""Brings the probabilities of a classifier near to frequencies, and makes prediction sets of stated coverage.

MODEL is a run (its best checkpoint), a .ckpt or a bundle folder. The validation split of DATA gives the temperature
that its logits are divided by (Guo et al., 2017) and, with --conformal, the threshold of prediction sets. Both are
stored in MODEL, or in the bundle --out, and apply wherever it is used: Python, every engine, the demo. Classes and
accuracy stay as they are. --temperature 1 takes both out again.

  visionkit calibrate runs/flowers
  visionkit calibrate models/flowers flowers --conformal raps --alpha 0.1 --out models/flowers-sets
  visionkit calibrate runs/flowers --temperature 1

Options of the reader and of the trainer are handed on: --data.batch_size 64, --trainer.accelerator cpu.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.data_options import add_data_arguments, data_arguments
from ui.paths import check_new_folder
from visionkit.errors import DataError, UsageError
from visionkit.model_files import check_model, of_run, public_name

if TYPE_CHECKING:
    import numpy as np

    from visionkit.uncertainty.conformal import ConformalConfig

SUMMARY = "calibrate a classifier: temperature, prediction sets"

METHODS = ("lac", "aps", "raps")
SETS = {"alpha": (0.1, METHODS), "penalty": (0.01, ("raps",)), "free_ranks": (5, ("raps",))}
"""Options of prediction sets: what they are where they are not given, and the methods that have them."""
FEWEST = 20
"""Images below which nothing is calibrated."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("model", metavar="MODEL", help="a run, .ckpt, bundle folder or public name (timm:resnet50)")
    add_data_arguments(parser, "MODEL")
    parser.add_argument("--out", metavar="DIR", help="write a bundle there and leave MODEL as it is")
    parser.add_argument(
        "--temperature", type=float, metavar="T", help="store this temperature, without data; 1 takes a calibration out"
    )
    parser.add_argument(
        "--conformal",
        choices=METHODS,
        help="also make prediction sets; the images are then split at random, one half for each",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        metavar="A",
        help="with --conformal: fraction of sets that may lack the true class (default: 0.1)",
    )
    parser.add_argument(
        "--penalty", type=float, metavar="P", help="with --conformal raps: penalty of a rank (default: 0.01)"
    )
    parser.add_argument(
        "--free-ranks", type=int, metavar="N", help="with --conformal raps: classes without a penalty (default: 5)"
    )


def run(args: argparse.Namespace) -> int:
    """Calibrates, stores and reports."""
    check_model(args.model)
    if public_name(args.model) and args.out is None:
        raise UsageError(
            f"{args.model}: a public model is not changed; name a folder for the calibrated one with --out"
        )
    if args.out is not None:
        check_new_folder(args.out)
    for name, (usual, methods) in SETS.items():
        if getattr(args, name) is None:
            setattr(args, name, usual)
        elif args.conformal not in methods:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option}: is of prediction sets; give --conformal {' or '.join(methods)} with it")
    if not 0 < args.alpha < 1:
        raise UsageError(f"--alpha {args.alpha:g}: a number between 0 and 1, such as 0.1")
    if args.temperature is not None:
        if args.conformal or args.data:
            raise UsageError("--temperature T: is stored as it is; leave DATA and --conformal out")
        if not 0 < args.temperature < float("inf"):
            raise UsageError(f"--temperature {args.temperature:g}: a number above 0")
        text = "" if args.temperature == 1 else f"temperature {args.temperature:g}, given by hand"
        _store(args, args.temperature, None, text)
        print(f"temperature {args.temperature:g}, no prediction sets: {args.out or args.model}")
        return 0
    logits, labels, classes = _collected(args)
    return _calibrate(args, logits, labels, classes)


def _collected(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    from ui.commands.training import import_classes
    from visionkit.callbacks.logits import LogitsCollector
    from visionkit.checkpoint import read_model
    from visionkit.cli import measure

    stored = read_model(of_run(Path(args.model)) if not public_name(args.model) else args.model)
    if stored.task != "classification":
        raise UsageError(f"{args.model}: calibration is for models of classification, and this one is of {stored.task}")
    import_classes()
    collected = LogitsCollector()
    argv = [*data_arguments(args.model, args, "FolderData"), "--ckpt_path", args.model, "--trainer.devices", "1"]
    with redirect_stdout(sys.stderr):
        done = measure("validate", argv, [collected])
    return collected.logits, collected.labels, done.model.classes


def _calibrate(args: argparse.Namespace, logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> int:
    import numpy as np
    from rich.console import Console

    from visionkit.tables import print_table
    from visionkit.uncertainty import calibration, conformal

    several = labels.ndim == 2
    if args.conformal and several:
        raise UsageError("--conformal: sets are for one label per image; leave it out for a model of several labels")
    if len(labels) < FEWEST:
        raise DataError(f"the validation split has {len(labels)} images; a calibration needs at least {FEWEST}")
    rows = np.random.default_rng(0).permutation(len(labels))
    half = len(rows) // 2 if args.conformal else len(rows)
    fitted, rest = rows[:half], rows[half:]
    found = calibration.fit_temperature(logits[fitted], labels[fitted])
    values = calibration.sigmoid if several else calibration.softmax
    before, after = (values(logits[fitted], temperature) for temperature in (1.0, found.value))
    errors = [calibration.calibration_error(each, labels[fitted]) for each in (before, after)]
    table = [
        {
            "": name,
            "calibration_error": error,
            "classwise": float(calibration.classwise_calibration_error(probabilities, labels[fitted]).mean()),
            "negative log-likelihood": likelihood,
        }
        for name, probabilities, error, likelihood in (
            ("temperature 1", before, errors[0], found.nll_before),
            (f"temperature {found.value:.4f}", after, errors[1], found.nll_after),
        )
    ]
    text = (
        f"temperature {found.value:.4f} from {len(fitted):,} images of the validation split; calibration error "
        f"{errors[0]:.4f} before and {errors[1]:.4f} after on them, {calibration.BINS} bins"
    )
    sets = None
    if args.conformal:
        chosen = {"penalty": args.penalty, "free_ranks": args.free_ranks} if args.conformal == "raps" else {}
        served = values(logits[rest], found.value)
        sets = conformal.calibrate(served, labels[rest], args.conformal, args.alpha, **chosen)
        quality = conformal.set_quality(sets.sets(served), labels[rest])
        text += (
            f"; {args.conformal.upper()} sets at alpha {args.alpha:g} from {len(rest):,} others: {quality.size:.2f} "
            f"classes in the mean, the true one in {quality.coverage:.1%} of them"
        )
    _store(args, found.value, sets, text)
    print_table("", table, Console())
    if found.at_limit:
        why = (
            "hardly an image of the split is wrong, so they tell little"
            if found.value < 1
            else "the model is no better than chance on the split, so all classes become nearly equal"
        )
        print(f"the temperature is at its limit: {why}; give more images, or a better model", file=sys.stderr)
    elif errors[1] > errors[0]:
        print(
            "the calibration error rose, as it can with few images: the temperature is that of the greatest likelihood",
            file=sys.stderr,
        )
    without = "" if sets or several else "; no prediction sets (--conformal makes them)"
    print(f"{text}{without}\nstored in {args.out or of_run(Path(args.model))}")
    return 0


def _store(args: argparse.Namespace, temperature: float, sets: ConformalConfig | None, text: str) -> None:
    """Writes the calibration into the model, or into a copy of it."""
    from visionkit.uncertainty.storing import store_calibration

    source: Any = args.model if public_name(args.model) else of_run(Path(args.model))
    if args.out is None:
        from visionkit.checkpoint import read_model

        if (task := read_model(source).task) != "classification":
            raise UsageError(f"{args.model}: calibration is for models of classification, and this one is of {task}")
        store_calibration(source, temperature, sets, text)
        return
    if isinstance(source, Path) and source.is_dir():
        shutil.copytree(source, args.out, dirs_exist_ok=True)
    else:
        from visionkit.checkpoint import load_task, save_bundle

        save_bundle(load_task(source), args.out, card={})
    store_calibration(Path(args.out), temperature, sets, text)
