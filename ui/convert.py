"""Writes a data set of objects in another format: COCO json, Pascal VOC xml or YOLO txt, pictures included.

SOURCE is the folder of the data set, or the yaml file of a YOLO set. Its format is found out where --from does not say.
What the written format cannot hold (outlines in VOC, crowds in YOLO) is told with its count.

  visionkit convert bccd --to coco --out bccd-coco
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ui.paths import check_exists, check_new_folder
from visionkit.errors import UsageError

SUMMARY = "write a data set of boxes and masks as COCO, VOC or YOLO"

FORMATS = ("coco", "voc", "yolo")  # datamodules.object_files would import numpy for its names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("source", metavar="SOURCE", help="the folder of a data set, or a YOLO set's yaml file")
    parser.add_argument("--to", required=True, choices=FORMATS, help="the format to write")
    parser.add_argument("--out", required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--from", dest="given", choices=FORMATS, help="the format of SOURCE, where it is not clear")


def run(args: argparse.Namespace) -> int:
    """Converts and says what was written and what was lost. Returns the exit status."""
    check_exists([args.source], "SOURCE")
    check_new_folder(args.out)
    from datamodules.object_files import convert

    source, out = Path(args.source), Path(args.out)
    if source.is_dir() and not out.exists() and out.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"--out {args.out}: lies in the data set that is read; give a folder beside it")
    result = convert(Path(args.source), Path(args.out), args.to, args.given)
    shares = ", ".join(f"{number} {split}" for split, number in result.pictures.items())
    print(f"{sum(result.pictures.values())} pictures ({shares}) with {result.objects} objects: {args.out}")
    for line in result.losses.lines():
        print(f"visionkit: {line}", file=sys.stderr)
    return 0
