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

from ui.evaluation.dispatch import OF_VIDEOS, measure
from ui.paths import check_exists, check_new_folder
from visionkit.errors import UsageError, suggest

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
    parser.add_argument(
        "--analysis", metavar="DIR", help="write what the errors are made of: report.html, analysis.json, images.csv"
    )
    parser.add_argument(
        "--bootstrap",
        type=int,
        metavar="N",
        help="also state 95 %% intervals, from N bootstrap replicates by image, such as 1000 (seed 0)",
    )
    parser.add_argument("--slices", metavar="FILE.csv", help="columns to group images by, with --analysis")
    parser.add_argument("--images", metavar="DIR", help="boxes, masks: draw the worst images, with --analysis")
    parser.add_argument(
        "--iou",
        type=float,
        nargs="+",
        metavar="X",
        help="boxes, masks: AP at these overlaps too: COCO's, VOC's over 11 points and over all",
    )
    parser.add_argument(
        "--score-threshold", type=float, metavar="S", help="boxes, masks: score that counts in tables of images (0.5)"
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
    "bootstrap": ("boxes", "masks", "keypoints", "label-maps", "depth", "images", "flow", "disparity", "verification"),
    "max_detections": ("boxes", "masks"),
    "iou": ("boxes", "masks"),
    "images": ("boxes", "masks"),
    "score_threshold": ("boxes", "masks"),
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
    if None in needed and kind not in OF_VIDEOS:
        raise UsageError(f"evaluate {kind}: {'TRUTH is' if len(needed) == 1 else 'TRUTH and PREDICTIONS are'} needed")
    for name in ("slices", "images"):
        if getattr(args, name) and not args.analysis:
            raise UsageError(f"--{name}: is for --analysis DIR alone")
    check_exists(filter(None, (args.slices,)), "--slices")
    if args.analysis:
        check_new_folder(args.analysis, "--analysis")
    if args.bootstrap is not None:
        from visionkit.uncertainty.resampling import check_replicates

        check_replicates(args.bootstrap)
    measured = measure(kind, args)
    from visionkit.report import print_record, write_record

    record = measured.record(kind)
    if args.bootstrap:
        record |= measured.intervals(args.bootstrap).to_json()
    print_record(record)
    for note in measured.notes:
        print(f"visionkit: {note}", file=sys.stderr)
    if args.results:
        write_record(Path(args.results), record)
    if args.analysis:
        from ui.evaluation.analysis import write_analysis

        write_analysis(Path(args.analysis), kind, measured, args.slices)
    return 0
