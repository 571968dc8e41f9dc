"""Labels images by a model: writes its predictions as annotations that people correct and `visionkit fit` trains on.

MODEL is a model of detection, instance segmentation, pose or classification; SOURCE are images, folders or patterns.
--out gets a data set of its own, images included, with a score for each object:

  visionkit label models/people photos --out labels
  visionkit label runs/cells/checkpoints/last.ckpt scans --format yolo --min_score 0.4 --out labels

Images that have annotations are left as they are, so the same command goes on after an interruption; --overwrite labels
them again, except those that a person or another program has changed. --select N labels the N images that a person's
time is best spent on, and the next N when it is run again.

--review opens a page on which annotations are accepted, changed, deleted and added; alone with --out it goes on with
what was labeled before:

  visionkit label MODEL photos --out labels --select 20 --by both --review
  visionkit label --out labels --review
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.label_options import BY, FORMATS, check_folder, classes_of
from visionkit.errors import DataError, UsageError
from visionkit.model_files import check_model
from visionkit.wording import counted

if TYPE_CHECKING:
    from datamodules.label_folder import LabelFolder
    from ui.labeling import Labeled
    from visionkit.predictor import Predictor

SUMMARY = "label images by a model, and review the labels in the browser"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this command takes."""
    parser.add_argument("model", metavar="MODEL", nargs="?", help="checkpoint (.ckpt), bundle folder or public name")
    parser.add_argument(
        "sources", metavar="SOURCE", nargs="*", help="image files, folders (with all sub-folders) or patterns"
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of the labeled data set")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="what the annotations are written as: folders and csv for classification, the others for objects "
        "(default: what DIR holds already, else coco or folders)",
    )
    parser.add_argument(
        "--min_score",
        "--min-score",
        type=float,
        metavar="S",
        help="keep objects from this score on (default: that from which the model shows one)",
    )
    parser.add_argument("--classes", metavar="A,B", help="keep objects of these classes alone (default: all)")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="label images again that a model has labeled; what a person has changed stays",
    )
    parser.add_argument(
        "--detector", metavar="MODEL", help="detector before a pose model that takes one person per crop"
    )
    parser.add_argument(
        "--batch_size", "--batch-size", type=int, default=8, metavar="N", help="images per forward pass (%(default)s)"
    )
    parser.add_argument(
        "--devices",
        type=int,
        metavar="N",
        help="number of GPUs to use; 0 uses the CPU (default: one GPU if there is one)",
    )
    chosen = parser.add_argument_group("which images")
    chosen.add_argument(
        "--select", type=int, metavar="N", help="label N images alone, chosen among those without labels (default: all)"
    )
    chosen.add_argument(
        "--by",
        choices=BY,
        help="what they are chosen by: entropy of the scores, distance of the features from those of all other chosen "
        "images, or both (default: both)",
    )
    review = parser.add_argument_group("review in the browser")
    review.add_argument("--review", action="store_true", help="open the page on which the labels are reviewed")
    review.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine alone)")
    review.add_argument("--port", type=int, default=7861, help="port to listen on (%(default)s); 0 takes a free one")
    review.add_argument("--auth-file", metavar="FILE", help="accounts that may log in, see `visionkit serve --help`")


def run(args: argparse.Namespace) -> int:
    """Labels, reports, and serves the review where it is asked for."""
    _check(args)
    out = Path(args.out)
    status = 0
    if args.model is None:
        from datamodules.label_folder import LabelFolder

        with LabelFolder(out) as folder:
            _check_review(args, folder.description.target)
            _review(folder, args)
            _close(folder, None)
        return status
    from ui.commands.predict import find_sources

    paths, missing = find_sources(args.sources)
    paths = [path for path in paths if not path.resolve().is_relative_to(out.resolve())]
    if not paths:
        raise DataError(f"{args.sources[0]}: no images but those in {out}")
    predictors = _predictors(args)
    from datamodules.label_folder import LabelFolder
    from ui.labeling import Labeled, description_for

    description = description_for(predictors[0].task, args.format, classes_of(args.classes), out)
    _check_review(args, description.target)
    labeled = Labeled(skipped=[str(fault) for fault in missing])
    with LabelFolder(out, description) as folder:
        _label(folder, predictors, paths, args, labeled)
        _report(folder, labeled)
        status = DataError.status if labeled.skipped else 0
        if args.review:
            _review(folder, args)
        _close(folder, args.model)
    return status


def _check(args: argparse.Namespace) -> None:
    """Finds what is wrong before anything slow is imported."""
    if args.model is None and not args.review:
        raise UsageError("give MODEL and SOURCE images, or --review to go on with what is in --out")
    if args.model is not None and not args.sources:
        raise UsageError("SOURCE: give images, a folder or a pattern")
    for name, value, least in (
        ("--batch_size", args.batch_size, 1),
        ("--select", args.select, 1),
        ("--devices", args.devices, 0),
    ):
        if value is not None and value < least:
            raise UsageError(f"{name}: {value} is not a number from {least} on")
    if args.min_score is not None and not 0 <= args.min_score <= 1:
        raise UsageError(f"--min_score {args.min_score:g}: allowed is a score from 0 to 1")
    if args.by and args.select is None:
        raise UsageError(f"--by {args.by}: belongs to --select N, the number of images to choose")
    if args.auth_file and not Path(args.auth_file).is_file():
        raise UsageError(f"--auth-file {args.auth_file}: no such file")
    check_folder(Path(args.out), new=args.model is not None)
    for model in filter(None, (args.model, args.detector)):
        check_model(model)


def _predictors(args: argparse.Namespace) -> list[Predictor]:
    from ui.prediction_devices import open_predictors

    predictors = open_predictors(args.model, args.devices, "torch")
    if len(predictors[0].task.inputs) > 1:
        raise UsageError(f"label: {predictors[0].task.name} takes several images, and labels are of one")
    if args.detector:
        from ui.chains import chained

        return chained(predictors, open_predictors(args.detector, args.devices, "torch"), None, None, 0.3)
    return predictors


def _label(
    folder: LabelFolder, predictors: list[Predictor], paths: list[Path], args: argparse.Namespace, labeled: Labeled
) -> None:
    from ui.labeling import FLOOR, entry_of, kept_on_disk, to_do, uncertainty_of
    from ui.prediction_devices import predictions
    from ui.stages import stages

    options: dict[str, Any] = {}
    if "score_threshold" in predictors[0].decode_options:
        options["score_threshold"] = min(FLOOR, FLOOR if args.min_score is None else args.min_score)
    with stages() as stage:
        if args.select is not None:
            paths = _select(folder, predictors, paths, args, options, labeled, stage)
        left = to_do(folder, paths, args.overwrite, labeled)
        with kept_on_disk(folder) as keep:
            for done, (path, image, result) in enumerate(predictions(predictors, left, args.batch_size, options), 1):
                stage("labeling images", done, len(left))
                if result.prediction is None:
                    labeled.skipped.append(str(result.error))
                    continue
                entry = entry_of(result.prediction, path, image.size, folder.description.classes, args.min_score)
                if folder.description.target == "classes" and not len(entry):
                    labeled.unlabeled += 1
                    continue
                folder.add(path, entry, image.size, args.model, uncertainty_of(result.prediction))
                labeled.images, labeled.objects = labeled.images + 1, labeled.objects + len(entry)
                keep()


def _select(
    folder: LabelFolder,
    predictors: list[Predictor],
    paths: list[Path],
    args: argparse.Namespace,
    options: dict[str, Any],
    labeled: Labeled,
    stage: Callable[..., None],
) -> list[Path]:
    """The images that are labeled next: the rest of an earlier choice, else a new one."""
    from ui.label_selection import SCAN, Scan, Scanned, model_key, select
    from ui.labeling import to_do, uncertainty_of
    from ui.prediction_devices import predictions

    rest = to_do(folder, [Path(each) for each in folder.selected if Path(each).is_file()], False, labeled)
    labeled.before = 0
    if rest:
        print(f"visionkit: going on with {counted(len(rest), 'image')} of the last selection", file=sys.stderr)
        return rest
    by = args.by or "both"
    scan = Scan(folder.out / SCAN, model_key(args.model))
    try:
        unknown = [path for path in paths if scan.get(path) is None]
        for done, (path, _, result) in enumerate(
            predictions(predictors, unknown, args.batch_size, options, features=True), 1
        ):
            stage("choosing images", done, len(unknown))
            if result.prediction is None:
                labeled.skipped.append(str(result.error))
                continue
            scan.add(path, Scanned(uncertainty_of(result.prediction), result.features))
        free = [path for path in to_do(folder, paths, False, labeled) if scan.get(path) is not None]
        known = [scan.get(path) for path in free]
        left = set(free)
        there = [scan.get(path) for path in paths if path not in left]
        features = [each.features for each in there if each is not None and each.features is not None]
        chosen = [free[k] for k in select([each for each in known if each], args.select, by, features)]
    finally:
        scan.close()
    folder.choose(chosen)
    labeled.before = 0
    return chosen


def _report(folder: LabelFolder, labeled: Labeled) -> None:
    for fault in labeled.skipped:
        print(f"visionkit: skipped: {fault}", file=sys.stderr)
    objects = "" if folder.description.target == "classes" else f" with {counted(labeled.objects, 'object')}"
    parts = [f"{counted(labeled.images, 'image')} labeled{objects}"]
    if labeled.before:
        parts.append(f"{labeled.before:,} had labels already")
    if labeled.unlabeled:
        parts.append(f"{labeled.unlabeled:,} without a label from that score on")
    if labeled.corrected:
        parts.append(f"{labeled.corrected:,} left as they were corrected")
    if labeled.skipped:
        parts.append(f"{len(labeled.skipped):,} skipped")
    print(f"{', '.join(parts)}: {folder.out}")
    for line in folder.losses.lines():
        print(f"visionkit: {line}", file=sys.stderr)


def _check_review(args: argparse.Namespace, target: str) -> None:
    if args.review and target == "classes":
        raise UsageError(
            "--review: is for objects; correct classes by moving images between the folders, or in labels.csv"
        )


def _review(folder: LabelFolder, args: argparse.Namespace) -> None:
    from ui.server.review import serve_review

    serve_review(folder, args.host, args.port, args.auth_file, args.debug, args.model)


def _close(folder: LabelFolder, model: str | None) -> None:
    from ui.labeling import fit_command

    reviewed = sum(state.reviewed for state in folder.images.values())
    if reviewed:
        print(f"{reviewed:,} of {counted(len(folder.images), 'image')} reviewed")
    print(f"train on them: {fit_command(folder, model)}")
