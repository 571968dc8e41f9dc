"""Examines a data set before anything is trained on it: images, labels, splits, copies.

DATA is a folder, an archive or a label file, whose reader is found out; or a run or its configuration. A training's own
options name the data too:

  visionkit doctor photos
  visionkit doctor coco --html report.html
  visionkit doctor runs/photos
  visionkit doctor -c detection --data CocoData --data.root coco --model.input.size [640,640]

With a configuration of a model, sizes of objects and anchors are compared with its input too. Errors spoil training or
evaluation, warnings are most likely mistakes, notes are worth knowing.

exit status: 0 where no error was found (with --strict no warning either), 3 otherwise
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ui.data_opening import add_data_names, check_named, open_named
from ui.paths import check_model_or_backbone
from ui.progress_bar import image_progress
from visionkit.errors import DataError, EnvironmentFault, UsageError

if TYPE_CHECKING:
    import numpy as np

    from visionkit.checkup.examination import Checkup
    from visionkit.images import ImageSource

SUMMARY = "examine a data set: images, labels, splits, copies"

_WORTH = 64  # images for which a further process is worth its start


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    add_data_names(parser)
    parser.add_argument("--model", metavar="CLASS", help="class of the task that is to be trained")
    parser.add_argument("--json", metavar="FILE", help="write every finding, and statistics, to this file")
    parser.add_argument("--html", metavar="FILE", help="write a page with thumbnails to this file")
    parser.add_argument("--select", metavar="KIND", nargs="+", default=[], help="look for these kinds alone")
    parser.add_argument("--ignore", metavar="KIND", nargs="+", default=[], help="leave these kinds out")
    parser.add_argument("--list", action="store_true", help="list the kinds of findings and end")
    parser.add_argument("--strict", action="store_true", help="end with status 3 where there are warnings too")
    parser.add_argument(
        "--max_images", "--max-images", type=int, default=0, metavar="N", help="images of each split (default: 0, all)"
    )
    workers = "processes that read images (default: one per core)"
    parser.add_argument("--num_workers", "--num-workers", type=int, metavar="N", help=workers)
    features = "also compare features of this backbone or model, such as tf_efficientnet_lite0: similar images"
    parser.add_argument("--embeddings", metavar="MODEL", help=features)
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")


def run(args: argparse.Namespace) -> int:
    """Examines and reports; returns the exit status."""
    from visionkit.checkup.kinds import KINDS, chosen_kinds

    if args.list:
        for kind in KINDS.values():
            print(f"{kind.severity:<8} {kind.name:<26} {kind.advice}")
        return 0
    _check(args)
    kinds = chosen_kinds(args.select, args.ignore)
    from visionkit.checkup.examination import examine
    from visionkit.checkup.text_report import lines_of, statistics_of

    data, network = open_named(args)
    embed = None if args.embeddings is None else _embedder(args.embeddings)
    started = time.perf_counter()
    with image_progress() as progress:
        found = examine(
            data,
            kinds=kinds,
            network=network,
            max_images=args.max_images,
            num_workers=_workers(args.num_workers),
            progress=progress,
            embed=embed,
        )
    print("\n".join(statistics_of(found)), file=sys.stderr)
    *lines, last = lines_of(found)
    print("\n".join([*lines, f"{last}, {time.perf_counter() - started:.1f} s"]))
    _write(args, found)
    failed = found.count("error") or (args.strict and found.count("warning"))
    return DataError.status if failed else 0


def _check(args: argparse.Namespace) -> None:
    check_named(args)
    if args.embeddings is not None:
        check_model_or_backbone(args.embeddings)
    if args.max_images < 0 or (args.num_workers or 0) < 0:
        raise UsageError("--max_images and --num_workers: at least 0")
    for option, path in (("--json", args.json), ("--html", args.html)):
        if path is None:
            continue
        if Path(path).exists() and not args.overwrite:
            raise UsageError(f"{option} {path}: already exists; give another name or --overwrite")
        if not Path(path).absolute().parent.is_dir():
            raise DataError(f"{option} {path}: there is no folder {Path(path).parent}")


def _embedder(backbone: str) -> Callable[[Sequence[ImageSource]], np.ndarray]:
    """Images to features of a backbone, or of a model."""
    from visionkit.inspection.embedding import embed
    from visionkit.inspection.targets import open_task
    from visionkit.predictor import Predictor

    predictor = Predictor(open_task(backbone))
    return lambda images: embed(predictor, images)


def _workers(given: int | None) -> int:
    if given is not None:
        return given
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if cores > 1 else 0


def _write(args: argparse.Namespace, found: Checkup) -> None:
    for path, content in ((args.json, _json), (args.html, _page)):
        if path is None:
            continue
        try:
            Path(path).write_text(content(found), encoding="utf-8")
        except OSError as error:
            raise EnvironmentFault(f"{path}: cannot be written ({error.strerror})") from error
        print(path, file=sys.stderr)


def _json(found: Checkup) -> str:
    return json.dumps(found.to_json(), indent=2, ensure_ascii=False) + "\n"


def _page(found: Checkup) -> str:
    from visionkit.checkup.html_report import page_of

    return page_of(found)
