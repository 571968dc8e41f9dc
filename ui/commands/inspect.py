"""States the layers of a network: parameters, multiply-adds, memory and receptive fields.

TARGET is a checkpoint, a run, a bundle folder or a public name; a backbone (resnet50); a task with one of its
architectures (detection:fcos), on the task's own backbone and with 80 classes; or a configuration, by path or by the
name of a shipped one. Weights are not needed, and the numbers are those of one image.

  visionkit inspect resnet50
  visionkit inspect semantic_segmentation:unet --size 256 256 --format csv --out layers.csv
  visionkit inspect mobilenetv3_large_100 --compare resnet50
  visionkit inspect resnet18 --effective field.png --layer layer2

A field is the theoretical receptive field of a layer; --effective draws how much each pixel weighs in the center unit
of one layer, by gradients.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ui.paths import check_model_or_backbone
from visionkit.errors import DataError, EnvironmentFault, UsageError

if TYPE_CHECKING:
    from visionkit.inspection import Report

SUMMARY = "state layers, multiply-adds, memory and receptive fields"

FORMATS = ("table", "csv", "json", "markdown", "html")  # visionkit.inspection would import torch for its names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("target", metavar="TARGET", help="model, backbone, task:architecture or configuration")
    parser.add_argument(
        "--size", nargs=2, type=int, metavar=("H", "W"), help="height and width of the input (default: the model's own)"
    )
    parser.add_argument("--compare", metavar="TARGET", help="state this one beside it, with ratios")
    parser.add_argument(
        "--format", default="table", choices=FORMATS, help="format of the report (default: %(default)s)"
    )
    parser.add_argument("--out", metavar="FILE", help="file for the report (default: standard output)")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    parser.add_argument("--flops", action="store_true", help="state FLOPs, two per multiply-add")
    parser.add_argument("--all", action="store_true", help="list activation and normalization layers too")
    parser.add_argument(
        "--time",
        action="store_true",
        help="also measure latency and peak memory, on the CPU and on a GPU if there is one",
    )
    parser.add_argument("--effective", metavar="FILE", help="draw the effective receptive field into this .png file")
    parser.add_argument("--layer", metavar="LAYER", help="layer for --effective (default: the last one with a map)")


def run(args: argparse.Namespace) -> int:
    """Inspects and writes; returns the exit status."""
    _check(args)
    from visionkit.inspection.comparison import compare

    report = _report(args.target, args)
    if args.compare is not None:
        text = compare(report, _report(args.compare, args), args.format)
    else:
        text = report.text(args.format, args.all)
    if args.out is None:
        print(text, end="")
    else:
        _write(Path(args.out), text.encode())
    if args.time:
        _time(args)
    if args.effective is not None:
        _draw_effective(report, args)
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.size is not None and min(args.size) < 1:
        raise UsageError(f"--size {args.size[0]} {args.size[1]}: both are at least 1 pixel")
    if args.layer is not None and args.effective is None:
        raise UsageError("--layer: is for --effective alone")
    if args.effective is not None and Path(args.effective).suffix.lower() != ".png":
        raise UsageError(f"--effective {args.effective}: the drawing is a .png file")
    for option, path in (("--out", args.out), ("--effective", args.effective)):
        if path is not None and Path(path).exists() and not args.overwrite:
            raise UsageError(f"{option} {path}: already exists; give another name or --overwrite")
    for target in filter(None, (args.target, args.compare)):
        if Path(target).suffix not in (".yaml", ".yml"):
            check_model_or_backbone(target)


def _report(target: str, args: argparse.Namespace) -> Report:
    from visionkit.inspection import inspect_network, open_target

    size = None if args.size is None else (args.size[0], args.size[1])
    opened = open_target(target, size)
    return replace(inspect_network(opened.network, opened.inputs(), target), flops=args.flops)


def _time(args: argparse.Namespace) -> None:
    import torch

    from visionkit.inspection import open_target
    from visionkit.inspection.report import tables
    from visionkit.inspection.timing import time_network

    for target in filter(None, (args.target, args.compare)):
        opened = open_target(target, None if args.size is None else (args.size[0], args.size[1]), weights=True)
        devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
        rows = [time_network(opened.network, opened.shapes, device).row() for device in devices]
        print(tables(f"\n{target}, one image in 32 bit", {"Measured": rows}, (), "table"), end="")


def _draw_effective(report: Report, args: argparse.Namespace) -> None:
    from PIL import Image

    from visionkit.inspection import open_target
    from visionkit.inspection.effective_field import effective_field
    from visionkit.inspection.layer_names import find_layer

    maps = [each.name for each in report.layers if each.field is not None and len(each.field.axes) == 2]
    opened = open_target(args.target, None if args.size is None else (args.size[0], args.size[1]), weights=True)
    layer = args.layer or next((name for name in reversed(maps) if name != "(network)"), None)
    if layer is None:
        raise UsageError(f"--effective: no layer of {args.target} has a map")
    layer = find_layer(opened.network, layer)[0]
    field = report.field_of(layer)
    found = effective_field(opened.network, opened.shapes, layer, field.axes if field else (2, 3))
    path = Path(args.effective)
    try:
        Image.fromarray(found.draw(field)).save(path)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written ({error.strerror})") from error
    print(f"{path}: layer {layer}, effective field {found.size:.1f} pixels", file=sys.stderr)


def _write(path: Path, data: bytes) -> None:
    if not path.parent.is_dir():
        raise DataError(f"--out {path}: there is no folder {path.parent}")
    try:
        path.write_bytes(data)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written ({error.strerror})") from error
