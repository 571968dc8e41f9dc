"""Matches two photographs: which points are the same, and the homography or fundamental matrix between the views.

  visionkit match first.jpg second.jpg --out matches
  visionkit match first.jpg second.jpg --model runs/patches --out matches
  visionkit match first.jpg second.jpg --model-kind fundamental --keypoints gftt --out matches

Keypoints of both images are described (by SIFT or ORB, or with --model by the branch of a siamese network of patch
matching), mutual nearest neighbors are kept where they pass the ratio test, and RANSAC finds the model that most agree
with. DIR/matches.json gets the points, the model and which points agree with it, DIR/matches.png a drawing. Positions
are x and y in pixels from the upper left border of an image.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ui.paths import check_exists
from ui.prediction_records import cannot_write
from visionkit.errors import UsageError
from visionkit.image_matching import CLASSIC_RATIO, MODEL_RATIO

SUMMARY = "match two photographs of one thing"

MATCHES, DRAWING = "matches.json", "matches.png"
"""Files of the results."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this command takes."""
    parser.add_argument("first", metavar="FIRST", help="the first image")
    parser.add_argument("second", metavar="SECOND", help="the second image")
    parser.add_argument("--model", metavar="MODEL", help="run, checkpoint or bundle of patch matching (default: none)")
    parser.add_argument(
        "--model-kind",
        default="homography",
        metavar="NAME",
        help="homography, for a plane or a camera that only turns, or fundamental, for any scene at rest "
        "(default: %(default)s)",
    )
    parser.add_argument("--out", metavar="DIR", required=True, help=f"folder for {MATCHES} and {DRAWING}")
    parser.add_argument(
        "--keypoints", default="sift", metavar="NAME", help="detector: sift, orb or gftt (default: %(default)s)"
    )
    parser.add_argument(
        "--max-keypoints", type=int, default=1000, metavar="N", help="keypoints per image (default: %(default)s)"
    )
    parser.add_argument(
        "--ratio",
        type=float,
        metavar="R",
        help="keep a match whose cost is below this fraction of that of the next best; 1 keeps all "
        f"(default: {CLASSIC_RATIO} of SIFT and ORB, {MODEL_RATIO} of a model)",
    )
    parser.add_argument(
        "--reprojection",
        type=float,
        default=3.0,
        metavar="PX",
        help="pixels up to which a match agrees with the model (default: %(default)s)",
    )
    parser.add_argument("--outliers", action="store_true", help="also draw the matches that do not agree, in gray")
    parser.add_argument("--overwrite", action="store_true", help=f"replace an existing DIR/{MATCHES}")
    parser.add_argument(
        "--devices",
        type=int,
        choices=(0, 1),
        metavar="N",
        help="1 uses a GPU, 0 the CPU (default: a GPU if there is one, otherwise the CPU)",
    )


def run(args: argparse.Namespace) -> int:
    """Matches, writes and prints; returns the exit status."""
    check_exists([args.first, args.second])
    out = Path(args.out)
    if (out / MATCHES).exists() and not args.overwrite:
        raise UsageError(f"{out / MATCHES}: already exists; name another folder, or replace it with --overwrite")
    descriptor = None
    if args.model is not None:
        from ui.prediction_devices import open_predictors
        from visionkit.model_files import check_model

        check_model(args.model)
        from tasks.patch_matching.describing import PatchDescriptor

        descriptor = PatchDescriptor(open_predictors(args.model, args.devices, "torch")[0].task)
    from PIL import Image

    from visionkit.drawing.image_matches import draw_matches
    from visionkit.image_matching.matching import match_images
    from visionkit.report import write_record

    matches = match_images(
        args.first,
        args.second,
        descriptor,
        keypoints=args.keypoints,
        max_keypoints=args.max_keypoints,
        ratio=args.ratio if args.ratio is not None else CLASSIC_RATIO if descriptor is None else MODEL_RATIO,
        model_kind=args.model_kind,
        reprojection=args.reprojection,
    )
    write_record(out / MATCHES, {"first": args.first, "second": args.second, **matches.to_json()})
    try:
        Image.fromarray(draw_matches(matches, args.first, args.second, args.outliers)).save(out / DRAWING)
    except OSError as error:
        raise cannot_write(out / DRAWING, error) from error
    print(matches.text())
    print(f"results: {out}", file=sys.stderr)
    return 0
