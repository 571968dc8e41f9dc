"""Measures predictions that lie in files against their ground truth, whatever program made them.

  evaluate boxes LABELS.json RESULTS.json        COCO's json of both; masks and keypoints in the same way
  evaluate label-maps TRUTH PREDICTIONS          folders of label files, one number per pixel
  evaluate depth TRUTH PREDICTIONS               folders of depth, png, tiff or npy
  evaluate images TRUTH PREDICTIONS --border 2   folders of images: PSNR and SSIM
  evaluate flow TRUTH PREDICTIONS                folders of .flo, KITTI's png or .pfm: end-point error, Fl-all
  evaluate disparity TRUTH PREDICTIONS           folders of KITTI's or Middlebury's png, or .pfm: EPE, bad pixels, D1
  evaluate scene-flow TRUTH PREDICTIONS          KITTI's folders of two disparities and flow: D1, D2, Fl and SF
  evaluate verification PAIRS.csv [SCORES]       columns `same` and `score`
  evaluate tracks --gt GT.txt --pred TRACKS.txt  MOTChallenge's texts, or folders with those of several sequences
  evaluate video-masks TRUTH PREDICTIONS         DAVIS's J and F: folders with a png per frame, or of such folders
  evaluate following --gt GT.txt --pred BOXES.txt  OTB's texts of one object, or folders with those of several sequences
  evaluate trajectory --gt GT.txt --pred POSES.txt  KITTI's or TUM's texts of camera poses: APE, RPE, SfMLearner's ATE

Files of two folders belong together by their path, without the ending; --truth-ending _HR and --prediction-ending _SR
state what else their names end in.

  visionkit evaluate keypoints person_keypoints_val.json coco_results.json --results results.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from visionkit.errors import DataError, UsageError, suggest

if TYPE_CHECKING:
    from ui.evaluation.measured import Measured

SUMMARY = "measure given predictions against ground truth"

KINDS = (
    "boxes",
    "masks",
    "keypoints",
    "label-maps",
    "depth",
    "images",
    "flow",
    "disparity",
    "scene-flow",
    "verification",
    "tracks",
    "following",
    "video-masks",
    "trajectory",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("truth", metavar="TRUTH", nargs="?", help="the ground truth: a file or a folder, see above")
    parser.add_argument("predictions", metavar="PREDICTIONS", nargs="?", help="the predictions: a file or a folder")
    parser.add_argument(
        "--results", metavar="FILE", help="write metrics, protocol, tables and per-image values as json"
    )
    parser.add_argument("--truth-ending", default="", metavar="TEXT", help="what names of the ground truth end in")
    parser.add_argument("--prediction-ending", default="", metavar="TEXT", help="the same of the predictions")
    parser.add_argument("--max-detections", type=int, metavar="N", help="boxes, masks: per image and class (100)")
    parser.add_argument(
        "--skeleton",
        metavar="NAME|FILE",
        help="keypoints: skeleton whose sigmas score them (default: that of the labels)",
    )
    parser.add_argument(
        "--classes", metavar="FILE|N", help="label-maps: file with one name per line, or the number of classes"
    )
    parser.add_argument("--ignore", type=int, metavar="V", help="label-maps: value that is left out (255)")
    parser.add_argument(
        "--truth-units",
        type=float,
        metavar="N",
        help="depth: numbers per meter (1000; floats 1); disparity: numbers per pixel (256; floats 1)",
    )
    parser.add_argument("--prediction-units", type=float, metavar="N", help="the same of the predictions")
    parser.add_argument("--cap", type=float, metavar="M", help="depth: meters beyond which nothing counts (10)")
    parser.add_argument("--crop", metavar="NAME", help="depth: none, eigen, eigen_kitti or garg (none)")
    parser.add_argument(
        "--alignment",
        metavar="NAME",
        help="depth: none, median or least_squares (none); trajectory: none, se3 or sim3 (se3)",
    )
    parser.add_argument("--relative", action="store_true", help="depth: predictions are inverse depth without a scale")
    parser.add_argument("--border", type=int, metavar="N", help="images: pixels left out on every side (0)")
    parser.add_argument(
        "--masks", metavar="PATH", help="images: masks of what was filled in, to measure holes and the rest apart too"
    )
    parser.add_argument(
        "--occluded",
        metavar="PATH",
        help="flow, disparity: masks of what the other image does not show, to measure both parts apart too",
    )
    parser.add_argument("--distance", action="store_true", help="verification: scores are distances")
    parser.add_argument(
        "--gt",
        nargs="+",
        metavar="PATH",
        help="tracks, following, video-masks, trajectory: ground truth, one text per sequence or a folder",
    )
    parser.add_argument(
        "--pred",
        nargs="+",
        metavar="PATH",
        help="tracks, following, video-masks, trajectory: the predictions, in the same order",
    )
    parser.add_argument(
        "--all-frames", action="store_true", help="video-masks: also count the first and the last frame of a sequence"
    )
    parser.add_argument(
        "--benchmark", metavar="NAME", help="tracks: mot15, mot16, mot17 or mot20 (by the truth's columns)"
    )
    parser.add_argument(
        "--class", dest="labels", type=int, nargs="+", metavar="N", help="tracks: classes that count (1)"
    )
    parser.add_argument(
        "--ignore-class",
        dest="regions",
        type=int,
        nargs="+",
        metavar="N",
        help="tracks: classes that are ignore regions",
    )
    parser.add_argument("--min-visibility", type=float, metavar="V", help="tracks: least visibility that counts (0)")
    parser.add_argument(
        "--convention",
        metavar="NAME",
        help="tracks: trackeval or motmetrics, where these tools differ (trackeval); following: otb, whose code leaves "
        "frames out, or stored, which takes all (otb)",
    )
    parser.add_argument("--delta", type=float, metavar="N", help="trajectory: frames or meters that RPE spans (1)")
    parser.add_argument("--delta-unit", metavar="UNIT", help="trajectory: frames or meters (frames)")
    parser.add_argument(
        "--all-pairs", action="store_true", help="trajectory: begin a pair of RPE at every pose, not one after another"
    )
    parser.add_argument(
        "--max-difference", type=float, metavar="S", help="trajectory: seconds between times of one pose (0.02)"
    )
    parser.add_argument("--snippet", type=int, metavar="N", help="trajectory: frames of SfMLearner's snippets (5)")
    parser.add_argument("--draw", metavar="FILE.png", help="trajectory: draw both, aligned, and their distance")


_OPTIONS = {
    "max_detections": ("boxes", "masks"),
    "skeleton": ("keypoints",),
    "classes": ("label-maps",),
    "ignore": ("label-maps",),
    "truth_units": ("depth", "disparity"),
    "prediction_units": ("depth", "disparity"),
    "cap": ("depth",),
    "crop": ("depth",),
    "alignment": ("depth", "trajectory"),
    "relative": ("depth",),
    "border": ("images",),
    "masks": ("images",),
    "distance": ("verification",),
    "occluded": ("flow", "disparity"),
    "truth_ending": ("label-maps", "depth", "images", "flow", "disparity"),
    "prediction_ending": ("label-maps", "depth", "images", "flow", "disparity"),
    "gt": ("tracks", "following", "video-masks", "trajectory"),
    "pred": ("tracks", "following", "video-masks", "trajectory"),
    "all_frames": ("video-masks",),
    "benchmark": ("tracks",),
    "labels": ("tracks",),
    "regions": ("tracks",),
    "min_visibility": ("tracks",),
    "convention": ("tracks", "following"),
    "delta": ("trajectory",),
    "delta_unit": ("trajectory",),
    "all_pairs": ("trajectory",),
    "max_difference": ("trajectory",),
    "snippet": ("trajectory",),
    "draw": ("trajectory",),
}
"""Which types know an option."""

_ABOVE_ZERO = ("cap", "truth_units", "prediction_units")
"""Options that are numbers above 0."""

_OF_VIDEOS = ("tracks", "following", "video-masks", "trajectory")
"""Types whose files may be given by --gt and --pred."""

_SPELLED = {"labels": "class", "regions": "ignore-class"}
"""Options whose name is a word of Python, or a longer one."""


def run(args: argparse.Namespace) -> int:
    """Measures, prints, and writes the results where they are asked for."""
    kind = args.kind.replace("_", "-")
    if kind not in KINDS:
        raise UsageError(f"evaluate: unknown type {args.kind!r}; allowed are {', '.join(KINDS)}{suggest(kind, KINDS)}")
    for name, kinds in _OPTIONS.items():
        if getattr(args, name) not in (None, False, "") and kind not in kinds:
            option = _SPELLED.get(name, name.replace("_", "-"))
            raise UsageError(f"--{option}: is for {' and '.join(kinds)}, not for {kind}")
    if any(getattr(args, name) is not None and getattr(args, name) <= 0 for name in _ABOVE_ZERO):
        raise UsageError("--cap, --truth-units and --prediction-units: numbers above 0 are needed")
    needed = (args.truth,) if kind == "verification" else (args.truth, args.predictions)
    if None in needed and kind not in _OF_VIDEOS:
        raise UsageError(f"evaluate {kind}: {'TRUTH is' if len(needed) == 1 else 'TRUTH and PREDICTIONS are'} needed")
    measured = _measure(kind, args)
    from visionkit.report import print_record, write_record

    record = measured.record(kind)
    print_record(record)
    for note in measured.notes:
        print(f"visionkit: {note}", file=sys.stderr)
    if args.results:
        write_record(Path(args.results), record)
    return 0


def _measure(kind: str, args: argparse.Namespace) -> Measured:
    if kind in _OF_VIDEOS:
        return _measure_videos(kind, args)
    truth = Path(args.truth)
    if kind == "verification":
        from ui.evaluation.scores import measure_scores

        return measure_scores(truth, Path(args.predictions) if args.predictions else None, args.distance)
    predictions = Path(args.predictions)
    if kind in ("boxes", "masks"):
        from ui.evaluation.coco import measure_objects

        most = 100 if args.max_detections is None else args.max_detections
        if most < 1:
            raise UsageError(f"--max-detections {most}: at least 1 is needed")
        return measure_objects(truth, predictions, kind == "masks", most)
    if kind == "keypoints":
        from ui.evaluation.keypoints import measure_keypoints

        return measure_keypoints(truth, predictions, args.skeleton)
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
        return maps.measure_label_maps(*sides, _classes(args.classes), ignore)
    if kind == "depth":
        given = {name: getattr(args, name) for name in ("cap", "crop", "alignment", "truth_units", "prediction_units")}
        known = {name: value for name, value in given.items() if value is not None}
        return maps.measure_depth(*sides, relative=args.relative, **known)
    if kind == "flow":
        return matching.measure_flow(*sides, _existing("occluded", args))
    if kind == "disparity":
        units = args.truth_units, args.prediction_units
        return matching.measure_disparity(*sides, *units, _existing("occluded", args))
    masks = _existing("masks", args)
    return maps.measure_images(*sides, args.border or 0, masks)


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
    return measure_tracks([Path(each) for each in truth], [Path(each) for each in predictions], options)


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
