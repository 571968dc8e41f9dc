"""Which function measures which type of evaluation, and what it takes of the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from visionkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from ui.evaluation.measured import Measured

OF_VIDEOS = ("tracks", "following", "video-masks", "trajectory")
"""Types whose files may be given by --gt and --pred."""


def measure(kind: str, args: argparse.Namespace) -> Measured:
    """Measures the files that a command line names.

    Args:
        kind: Type of evaluation, see `ui.commands.evaluate`.
        args: What was typed.

    Raises:
        DataError: A file is missing, cannot be read or does not fit.
        UsageError: Options that do not fit.
    """
    analyze = bool(args.analysis)
    if kind in OF_VIDEOS:
        return _measure_videos(kind, args)
    truth = Path(args.truth)
    if kind == "verification":
        from ui.evaluation.scores import measure_scores

        return measure_scores(truth, Path(args.predictions) if args.predictions else None, args.distance, analyze)
    predictions = Path(args.predictions)
    if kind in ("boxes", "masks"):
        from ui.evaluation.coco import measure_objects

        most = 100 if args.max_detections is None else args.max_detections
        if most < 1:
            raise UsageError(f"--max-detections {most}: at least 1 is needed")
        if not all(0 < iou <= 1 for iou in args.iou or ()):
            raise UsageError(f"--iou {' '.join(f'{iou:g}' for iou in args.iou)}: overlaps are above 0 and at most 1")
        shown = {} if args.score_threshold is None else {"shown": args.score_threshold}
        images = _existing("images", args) if analyze else None
        return measure_objects(truth, predictions, kind == "masks", most, args.iou or (), images=images, **shown)
    if kind == "keypoints":
        from ui.evaluation.keypoints import measure_keypoints

        return measure_keypoints(truth, predictions, args.skeleton, analyze)
    from ui.evaluation import maps, matching
    from ui.evaluation.pairs import Side

    if kind == "scene-flow":
        return matching.measure_scene_flow(truth, predictions)

    sides = (
        Side(truth, args.truth_ending, "--truth-ending"),
        Side(predictions, args.prediction_ending, "--prediction-ending"),
    )
    if kind == "label-maps":
        ignore = 255 if args.ignore is None else args.ignore
        return maps.measure_label_maps(*sides, _classes(args.classes), ignore, analyze=analyze)
    if kind == "depth":
        given = {name: getattr(args, name) for name in ("cap", "crop", "alignment", "truth_units", "prediction_units")}
        known = {name: value for name, value in given.items() if value is not None}
        return maps.measure_depth(*sides, relative=args.relative, analyze=analyze, **known)
    if kind == "flow":
        return matching.measure_flow(*sides, _existing("occluded", args), analyze)
    if kind == "disparity":
        units = args.truth_units, args.prediction_units
        return matching.measure_disparity(*sides, *units, _existing("occluded", args), analyze)
    masks = _existing("masks", args)
    return maps.measure_images(*sides, args.border or 0, masks, analyze)


def _measure_videos(kind: str, args: argparse.Namespace) -> Measured:
    truth = [*filter(None, [args.truth]), *(args.gt or ())]
    predictions = [*filter(None, [args.predictions]), *(args.pred or ())]
    if not truth or not predictions:
        names = {
            "tracks": "GT.txt TRACKS.txt",
            "following": "GT.txt BOXES.txt",
            "video-masks": "TRUTH PREDICTIONS",
            "trajectory": "GT.txt POSES.txt",
        }
        raise UsageError("evaluate {}: --gt {} and --pred {} are needed".format(kind, *names[kind].split()))
    if kind == "video-masks":
        from ui.evaluation.video_masks import measure_video_masks

        if len(truth) > 1 or len(predictions) > 1:
            raise UsageError("evaluate video-masks: give one folder of ground truth and one of predictions")
        return measure_video_masks(Path(truth[0]), Path(predictions[0]), args.all_frames)
    if kind == "trajectory":
        from ui.evaluation.trajectories import TrajectoryOptions, measure_trajectory

        if len(truth) > 1 or len(predictions) > 1:
            raise UsageError("evaluate trajectory: give one file of ground truth and one of predictions")
        asked = {
            name: getattr(args, name) for name in ("alignment", "delta", "delta_unit", "max_difference", "snippet")
        }
        known = {name: value for name, value in asked.items() if value is not None}
        choices = TrajectoryOptions(all_pairs=args.all_pairs, draw=Path(args.draw) if args.draw else None, **known)
        return measure_trajectory(Path(truth[0]), Path(predictions[0]), choices)
    if kind == "following":
        from ui.evaluation.following import measure_following

        return measure_following([Path(each) for each in truth], [Path(each) for each in predictions], args.convention)
    from ui.evaluation.tracks import TrackOptions, measure_tracks

    visibility = args.min_visibility or 0.0
    if not 0 <= visibility <= 1:
        raise UsageError(f"--min-visibility {visibility:g}: allowed are fractions from 0 to 1")
    options = TrackOptions(
        args.benchmark,
        tuple(args.labels or ()),
        tuple(args.regions or ()),
        visibility,
        args.convention or "trackeval",
    )
    files = [[Path(each) for each in side] for side in (truth, predictions)]
    return measure_tracks(files[0], files[1], options, bool(args.analysis))


def _existing(option: str, args: argparse.Namespace) -> Path | None:
    path = Path(getattr(args, option)) if getattr(args, option) else None
    if path is not None and not path.exists():
        raise DataError(f"--{option} {path}: does not exist")
    return path


def _classes(given: str | None) -> list[str]:
    from visionkit.text_files import read_lines

    if given is None:
        return []
    if given.isdecimal():
        return [str(number) for number in range(int(given))]
    return [line for _, line in read_lines(Path(given), "list of classes")]
