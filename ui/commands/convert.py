"""Writes a data set of objects or keypoints in another format, or one of any task as shards, images included.

SOURCE is the folder of the data set, its label file (one COCO json, CVAT's xml, a csv), or the yaml file of a YOLO set.
Its format is found out where --from does not state. What the written format cannot hold (outlines in VOC, crowds in
YOLO) is reported with its count. Splits that the data does not name are written out as files with --val_fraction.

  visionkit convert bccd --to coco --out bccd-coco
  visionkit convert labels.json --images photos --to yolo --out photos-yolo --val_fraction 0.2

With --to shards the samples of any task become a few large files, here or to be put into an object store, which
ShardData reads. SOURCE is then what `visionkit doctor` takes, also a run or its configuration, and a reader and its
options are named as in a training:

  visionkit convert photos --to shards --out photos-shards
  visionkit convert --data CocoData --data.root coco --to shards --out coco-shards
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ui.paths import check_exists, check_new_folder
from visionkit.errors import UsageError
from visionkit.wording import counted

SUMMARY = "write a data set in another format, or as shards"

SHARDS = "shards"
READ = ("coco", "voc", "yolo", "cvat", "labelme", "openimages", "csv", "maps")
WRITTEN = ("coco", "voc", "yolo", "csv", "maps", SHARDS)  # datamodules.object_files would import numpy for its names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument(
        "source", metavar="SOURCE", nargs="?", help="the folder of a data set, its label file, or a YOLO yaml file"
    )
    parser.add_argument(
        "--to",
        required=True,
        choices=WRITTEN,
        help="the format to write; maps: one image per image, whose values count its objects; shards: tar archives",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--from", dest="given", choices=READ, help="the format of SOURCE, where it is not clear")
    parser.add_argument("--labels", metavar="PATH", help="the label files, such as 'labels/{split}.json'")
    parser.add_argument("--images", metavar="DIR", help="the folder of the images, such as 'photos/{split}'")
    skeleton = "keypoints to read: a category of the COCO json, a shipped skeleton (coco17) or a yaml file"
    parser.add_argument("--skeleton", "--data.skeleton", metavar="NAME", help=skeleton)
    for split in ("val", "test"):
        names = (f"--{split}_fraction", f"--{split}-fraction")
        what = f"fraction of the training images that becomes the {split} split, where there is none (0)"
        parser.add_argument(*names, type=float, default=0.0, metavar="X", help=what)
    seed = "chooses which images are split off (0)"
    parser.add_argument("--split_seed", "--split-seed", type=int, default=0, metavar="N", help=seed)
    objects = "objects makes crowd regions ordinary objects, as CVAT's masks are (default: ignore, they stay crowds)"
    parser.add_argument("--crowds", choices=("ignore", "objects"), default="ignore", help=objects)
    shards = parser.add_argument_group("of shards alone")
    configuration = "configuration of a training whose data is written; repeatable"
    shards.add_argument("-c", "--config", metavar="FILE", action="append", help=configuration)
    shards.add_argument("--data", dest="reader", metavar="CLASS", help="reader of SOURCE, such as CocoData")
    full = "MiB from which a shard is full (default: 256)"
    shards.add_argument("--shard_mb", "--shard-mb", type=int, metavar="N", help=full)
    parser.set_defaults(forwarded=())


def run(args: argparse.Namespace) -> int:
    """Converts and reports the result and what was lost. Returns the exit status."""
    if args.to == SHARDS:
        from ui.sharding import write

        return write(args)
    if args.source is None or args.config or args.reader or args.forwarded or args.shard_mb:
        raise UsageError("give SOURCE; -c, --data and their options, and --shard_mb, belong to --to shards")
    check_exists([args.source], "SOURCE")
    check_new_folder(args.out)
    source, out = Path(args.source), Path(args.out)
    if source.is_dir() and not out.exists() and out.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"--out {args.out}: lies in the data set that is read; give a folder beside it")
    for name in ("val_fraction", "test_fraction"):
        if not 0 <= getattr(args, name) < 1:
            raise UsageError(f"--{name} {getattr(args, name)}: allowed is 0 up to, but not, 1")
    from datamodules.object_files import convert
    from datamodules.object_formats import open_objects

    options = {name: getattr(args, name) for name in ("val_fraction", "test_fraction", "split_seed", "crowds")}
    if args.skeleton is not None:
        options["skeleton"] = args.skeleton
    data = open_objects(source, args.given, args.labels, args.images, **options)
    data.report(data.splits())
    result = convert(data, out, args.to)
    fractions = ", ".join(f"{number} {split}" for split, number in result.images.items())
    images, objects = counted(sum(result.images.values()), "image"), counted(result.objects, "object")
    print(f"{images} ({fractions}) with {objects}: {args.out}")
    for line in result.losses.lines():
        print(f"visionkit: {line}", file=sys.stderr)
    return 0
