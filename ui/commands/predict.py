"""Predicts on images: files, folders (with all sub-folders) or patterns.

MODEL is a run (its best checkpoint), a .ckpt, a bundle folder or a public name (timm:resnet50). With --out,
DIR/predictions.jsonl gets one record per image, {"source", "size": [height, width], "prediction"}; without it the
records go to the standard output.
Predictions that are images themselves (label maps, enlarged images) are also written to DIR/files/, which the record
names as "files". An image that cannot be read is reported, skipped and counted; the rest is done, and the exit status
is then 3.

  visionkit predict runs/flowers/checkpoints/last.ckpt photos --out results --draw
  visionkit predict timm:resnet50 photo.jpg --top 3

A pose model that takes one person per crop gets the crops from a detector or from a file of boxes; without either, the
whole image is taken as one person.

  visionkit predict POSE_MODEL photos --detector DETECTION_MODEL --out results --draw

With --track the objects of a video keep their ids from frame to frame:

  visionkit predict DETECTION_MODEL video.mp4 --track bytetrack --out results --draw

With --rescore the detections of a whole video are rescored by the frames around each:

  visionkit predict DETECTION_MODEL video.mp4 --rescore seq-nms --out results
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ui.file_names import drawing_names, file_stems
from ui.named_inputs import check_several, gathering, pair_with, parse_inputs, read_pairs
from ui.option_values import named_values
from ui.paths import check_exists
from ui.prediction_devices import open_predictors, predictions
from ui.prediction_records import RECORDS, cannot_write, prepare_folder, records_of
from ui.prediction_report import DRAWN, Report, show_progress
from ui.rescored import add_rescore_arguments, check_rescore
from ui.tracked import add_track_arguments, check_track
from visionkit.errors import DataError, UsageError
from visionkit.model_files import check_model
from visionkit.wording import counted

if TYPE_CHECKING:
    from visionkit.camera import CameraIntrinsics
    from visionkit.images import ImageSource
    from visionkit.predictions import Prediction
    from visionkit.predictor import Predictor

SUMMARY = "predict on images, folders or patterns"

ENGINES = ("torch", "onnx", "onnx-int8", "openvino")  # visionkit.engines would import torch for its names
FILES = "files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this command takes."""
    parser.add_argument(
        "model", metavar="MODEL", help="run, checkpoint (.ckpt), bundle folder, or public name such as timm:resnet50"
    )
    parser.add_argument(
        "sources", metavar="SOURCE", nargs="*", help="image files, folders (with all sub-folders) or patterns"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help=f"folder for {RECORDS} and the files of predictions (default: print the records to standard output)",
    )
    parser.add_argument(
        "--draw", action="store_true", help=f"also draw the predictions on the images, into DIR/{DRAWN}/; needs --out"
    )
    parser.add_argument("--overwrite", action="store_true", help=f"replace an existing DIR/{RECORDS}")
    parser.add_argument(
        "--devices",
        type=int,
        metavar="N",
        help="number of GPUs to use; 0 uses the CPU (default: one GPU if there is one, otherwise the CPU)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="images per forward pass (default: %(default)s)"
    )
    parser.add_argument(
        "--engine",
        default="torch",
        choices=ENGINES,
        help="what runs the network: PyTorch, ONNX Runtime (onnx-int8: in 8 bit) or OpenVINO; all but torch need a "
        "bundle with an exported graph (default: %(default)s)",
    )
    parser.add_argument(
        "--set",
        dest="options",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set an option of the prediction, such as score_threshold=0.3; repeatable; a wrong name lists those "
        "that the model has",
    )
    several = parser.add_argument_group("for models with several inputs (stereo, optical flow, change)")
    several.add_argument(
        "--input",
        dest="inputs",
        metavar="NAME=PATH",
        action="append",
        default=[],
        help="image or folder for a further input of the model; files of a folder are paired with SOURCE by name; "
        "repeatable",
    )
    several.add_argument(
        "--pairs",
        metavar="FILE",
        help="csv file with one row per prediction and one column per input, in place of SOURCE",
    )
    classes = parser.add_argument_group("for classification")
    classes.add_argument(
        "--top",
        type=int,
        metavar="K",
        help="number of classes to print and to record, most probable first (default: print 3, record all)",
    )
    poses = parser.add_argument_group("for pose models that take one person per crop")
    poses.add_argument("--detector", metavar="MODEL", help="model that finds the people, or faces, to crop")
    poses.add_argument(
        "--boxes",
        metavar="FILE",
        help="file with the boxes to crop: predictions.jsonl of a detector, or json with a list of boxes per "
        "image name",
    )
    poses.add_argument(
        "--subject",
        metavar="CLASS",
        help="class of the detector whose boxes are cropped (default: the one that the pose model was trained on)",
    )
    poses.add_argument(
        "--box-score",
        type=float,
        default=0.3,
        metavar="S",
        help="leave out boxes that score less (default: %(default)s)",
    )
    poses.add_argument(
        "--flip-tta",
        action="store_true",
        help="also run on the horizontally flipped crop and average the two (test-time augmentation); of objects on "
        "the flipped image, and fuse the boxes",
    )
    depth = parser.add_argument_group("for metric depth")
    depth.add_argument(
        "--camera",
        metavar="K",
        help="also write colored point clouds (.ply); K is fx,fy,cx,cy of the camera in pixels, or a file with these "
        "or with the 3x3 matrix",
    )
    objects = parser.add_argument_group("for detection and instance segmentation")
    objects.add_argument(
        "--tile",
        type=int,
        metavar="N",
        help="process images with a side above N pixels in overlapping tiles of N x N pixels (default: whole images)",
    )
    objects.add_argument(
        "--tta-scales",
        metavar="S,S",
        help="also run at these multiples of the input size and fuse the boxes (test-time augmentation), such as "
        "0.75,1.25",
    )
    objects.add_argument(
        "--coco-results", action="store_true", help="also write DIR/coco_results.json in COCO's results format"
    )
    objects.add_argument(
        "--coco-labels",
        metavar="FILE",
        help="COCO annotation file whose ids --coco-results uses (default: images by their file names, classes from 1)",
    )
    add_rescore_arguments(add_track_arguments(parser))


def run(args: argparse.Namespace) -> int:
    """Predicts, writes and prints."""
    limits = (("--batch-size", args.batch_size, 1), ("--top", args.top, 1), ("--devices", args.devices, 0))
    for name, value, least in limits:
        if value is not None and value < least:
            raise UsageError(f"{name}: {value} is not a number from {least} on")
    if args.draw and not args.out:
        raise UsageError("--draw: name a folder for the images with --out DIR")
    if (args.coco_results or args.coco_labels) and not args.out:
        raise UsageError("--coco-results: name a folder for the file with --out DIR")
    if args.camera and not args.out:
        raise UsageError("--camera: name a folder for the points with --out DIR")
    check_track(args)
    check_rescore(args)
    options = named_values(args.options, "--set", "score_threshold=0.3")
    for model in filter(None, (args.model, args.detector, args.reid)):
        check_model(model)
    if args.track is not None:
        from ui.tracked import track

        out = prepare_folder(Path(args.out), args.overwrite) if args.out else None
        return track(args, options, named_values(args.tracker_set, "--tracker-set", "max_age=60"), out)
    if args.rescore is not None:
        from ui.rescored import rescore

        return rescore(args, options, prepare_folder(Path(args.out), args.overwrite) if args.out else None)
    check_exists(filter(None, [args.boxes]), "--boxes")
    check_exists(filter(None, [args.coco_labels]), "--coco-labels")
    check_exists(filter(None, [args.pairs]), "--pairs")
    others = parse_inputs(args.inputs)
    if bool(args.sources) == bool(args.pairs) or (others and args.pairs):
        raise UsageError("give SOURCE images (with --input NAME=PATH for further inputs), or --pairs FILE")
    from visionkit.frame_sources import is_video

    for source in filter(is_video, args.sources):
        how = "follow its objects with --track, such as --track bytetrack, or give --rescore seq-nms"
        raise UsageError(f"{source}: a video; {how}")
    from ui.coco_results import CocoResults
    from visionkit.camera import CameraIntrinsics

    camera = CameraIntrinsics.parse(args.camera) if args.camera else None
    paths, missing = find_sources(args.sources, Path(args.out) if args.out else None) if args.sources else ([], [])
    out = prepare_folder(Path(args.out), args.overwrite) if args.out else None
    predictors = open_predictors(args.model, args.devices, args.engine)
    task = predictors[0].task
    pairs = None
    if args.pairs or others:
        check_several(task, "--pairs" if args.pairs else "--input")
    if args.pairs:
        pairs = read_pairs(args.pairs, task.inputs)
        paths = list(pairs)
    elif others:
        pairs = pair_with(paths, others, task.inputs)
    gather = gathering(task, paths, pairs, options)
    if args.detector or args.boxes:
        from ui.chains import chained

        detectors = open_predictors(args.detector, args.devices, "torch") if args.detector else []
        predictors = chained(predictors, detectors, args.boxes, args.subject, args.box_score)
    if args.flip_tta:
        if "flip_tta" not in predictors[0].options:
            raise UsageError(
                f"--flip-tta: is for models of poses and objects, and this one is of {predictors[0].task.name}"
            )
        options["flip_tta"] = True
    if args.tta_scales is not None:
        options["tta_scales"] = _scales(predictors[0], args.tta_scales)
    if args.tile is not None:
        options["tile"] = _tile(predictors[0], args.tile)
    report = Report()
    for fault in missing:
        report.skip(fault)
    coco = None
    if out is not None and (args.coco_results or args.coco_labels):
        coco = CocoResults(out, Path(args.coco_labels) if args.coco_labels else None)
    names = drawing_names(paths) if args.draw else {}
    stems = file_stems(paths) if out is not None else {}
    with records_of(out) as file, show_progress(len(paths)) as (advance, part):
        for path, image, result in predictions(predictors, paths, args.batch_size, options, part, gather):
            advance()
            if result.prediction is None:
                report.skip(result.error)
                continue
            prediction = result.prediction.with_options(options)
            written = _save(out / FILES / stems[path], prediction, image, camera) if out is not None else []
            content = prediction.summary() if written else prediction.record(args.top)  # the pixels are in the files
            record = {"source": str(path), "size": list(image.size), "prediction": content}
            if result.novelty is not None:
                record["out_of_distribution"] = result.novelty.to_json()
            if out is not None and written:
                record["files"] = [str(each.relative_to(out)) for each in written]
            try:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
                file.flush()
            except OSError as error:
                if out is None:
                    raise
                raise cannot_write(out / RECORDS, error) from error
            report.note(path, prediction, result.novelty)
            if coco is not None:
                coco.add(path, prediction, image.size)
            if out is not None and args.draw:
                _draw(out / DRAWN / names[path], image, prediction)
    for predictor in predictors:
        if outside := getattr(predictor, "outside", 0):
            print(f"visionkit: {counted(outside, 'box')} outside of the image left out", file=sys.stderr)
    if coco is not None:
        try:
            coco.write()
        except OSError as error:
            raise cannot_write(coco.out, error) from error
    return report.close(out, args.top)


def _tile(predictor: Predictor, tile: int) -> int:
    from visionkit.families.detection.views import checked_tile

    _check_objects(predictor, "--tile")
    return checked_tile(tile)


def _scales(predictor: Predictor, given: str) -> tuple[float, ...]:
    from visionkit.families.detection.views import checked_scales

    _check_objects(predictor, "--tta-scales")
    try:
        scales = [float(each) for each in given.split(",")]
    except ValueError:
        raise UsageError(f"--tta-scales {given}: give numbers between commas, such as 0.75,1.25") from None
    return checked_scales(scales)


def _check_objects(predictor: Predictor, option: str) -> None:
    from visionkit.families.detection.task import DetectorTask

    if not isinstance(predictor.task, DetectorTask):
        raise UsageError(f"{option}: is for models of objects, and this one is of {predictor.task.name}")


# ---------------------------------------------------------------------- what to read and where to write


def find_sources(sources: Sequence[str], out: Path | None = None) -> tuple[list[Path], list[DataError]]:
    """Every image that the sources name, each once, in order; and what went wrong with the rest.

    Args:
        sources: Files, folders or patterns.
        out: Folder of the results; what an earlier run wrote below it is left out where a folder above is searched.

    Raises:
        DataError: No source names an image.
    """
    from visionkit.listing import find_images

    found: dict[Path, Path] = {}
    faults: list[DataError] = []
    for source in sources:
        if re.fullmatch(r"[a-z_]+=.*", source) and not Path(source).exists():
            raise UsageError(f"{source}: no image; --set is written again before each NAME=VALUE")
        try:
            for path in find_images(source):
                if not _is_result(path.resolve(), Path(source).resolve(), out):
                    found.setdefault(path.resolve(), path)
        except DataError as error:
            faults.append(error)
    if not found:
        raise faults[0] if faults else DataError(f"{sources[0]}: only results of an earlier run, below {out}")
    return list(found.values()), faults


def _is_result(path: Path, source: Path, out: Path | None) -> bool:
    """Whether an image was written by an earlier run, and nobody named its folder."""
    written = [] if out is None else [out.resolve() / name for name in (DRAWN, FILES)]
    return any(path.is_relative_to(folder) and not source.is_relative_to(folder) for folder in written)


def _save(stem: Path, prediction: Prediction, image: ImageSource, camera: CameraIntrinsics | None) -> list[Path]:
    """The files that this type of prediction is handed out as."""
    from visionkit.atomic import write_whole

    try:
        written = prediction.save(stem)
        if camera is not None and (points := prediction.points(image, camera)) is not None:
            path = stem.with_name(stem.name + ".ply")
            write_whole(path, points)
            written.append(path)
        return written
    except OSError as error:
        raise cannot_write(stem.parent, error) from error


def _draw(path: Path, image: ImageSource, prediction: Prediction) -> None:
    from visionkit.atomic import write_whole
    from visionkit.drawing import jpeg

    drawn = jpeg(prediction.draw(image.read()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, drawn)
    except OSError as error:
        raise cannot_write(path, error) from error
