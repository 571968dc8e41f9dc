"""States the layers of a network: parameters, multiply-adds, memory and receptive fields; and shows what they see.

TARGET is a checkpoint, a run, a bundle folder or a public name; a backbone (resnet50); a task with one of its
architectures (detection:fcos), on the task's own backbone and with 80 classes; or a configuration, by path or by the
name of a shipped one. Weights are not needed, and the numbers are those of one image.

  visionkit inspect resnet50
  visionkit inspect semantic_segmentation:unet --size 256 256 --format csv --out layers.csv
  visionkit inspect mobilenetv3_large_100 --compare resnet50
  visionkit inspect resnet18 --effective field.png --layer layer2

A field is the theoretical receptive field of a layer; --effective draws how much each pixel weighs in the center unit
of one layer, by gradients.

With one of the options below, an image is written to --out in place of the report: feature maps, filters, an image that
a channel responds to, the evidence for a prediction, or a map of many images. The weights are those of the model, the
public ones of a backbone where they are at hand, and random ones otherwise.

  visionkit inspect MODEL photo.jpg --features layer2 --out maps.png
  visionkit inspect MODEL photo.jpg --cam grad-cam++ --class dog --out evidence.png
  visionkit inspect MODEL --embed photos --out map.png
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.paths import check_exists, check_model_or_backbone
from visionkit.errors import DataError, EnvironmentFault, UsageError

if TYPE_CHECKING:
    from visionkit.inspection import Report
    from visionkit.task import VisionTask

SUMMARY = "state layers, multiply-adds, memory and receptive fields; show features"

CAMS = ("grad-cam", "grad-cam++", "score-cam", "attention-rollout")
FORMATS = ("table", "csv", "json", "markdown", "html")  # visionkit.inspection would import torch for its names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("target", metavar="TARGET", help="model, backbone, task:architecture or configuration")
    parser.add_argument("image", metavar="IMAGE", nargs="?", help="image for --features, --cam and --occlusion")
    parser.add_argument(
        "--size", nargs=2, type=int, metavar=("H", "W"), help="height and width of the input (default: the model's own)"
    )
    parser.add_argument("--compare", metavar="TARGET", help="state this one beside it, with ratios")
    parser.add_argument(
        "--format", default="table", choices=FORMATS, help="format of the report (default: %(default)s)"
    )
    parser.add_argument("--out", metavar="FILE", help="file for the report or the image (default: standard output)")
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
    shown = parser.add_argument_group("images in place of the report").add_mutually_exclusive_group()
    shown.add_argument("--features", metavar="LAYER", help="the maps of a layer for IMAGE, side by side")
    shown.add_argument("--filters", action="store_true", help="the filters of the first convolution")
    shown.add_argument(
        "--maximize", metavar="LAYER[:CHANNEL]", help="an image that a channel (default: 0) responds to most"
    )
    shown.add_argument("--cam", choices=CAMS, help="where the evidence for a class lies in IMAGE")
    shown.add_argument("--occlusion", action="store_true", help="where covering IMAGE lowers the score of a class")
    shown.add_argument("--embed", metavar="DATA", help="a map of the images of a folder by their features, and a .csv")
    parser.add_argument(
        "--class", dest="name", metavar="NAME", help="class for --cam and --occlusion (default: the best)"
    )
    parser.add_argument(
        "--object", metavar="N[:K]", help="object for --cam in place of a class, 0 the first; K its keypoint"
    )
    parser.add_argument(
        "--projection", default="pca", choices=("pca", "tsne", "umap"), help="for --embed (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Inspects and writes; returns the exit status."""
    _check(args)
    if _shows(args):
        return _show(args)
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
    _check_shown(args)
    for target in filter(None, (args.target, args.compare)):
        if Path(target).suffix not in (".yaml", ".yml"):
            check_model_or_backbone(target)


def _shows(args: argparse.Namespace) -> str:
    """The option that asks for an image in place of the report; empty where none does."""
    options = ("features", "filters", "maximize", "cam", "occlusion", "embed")
    return next((option for option in options if getattr(args, option)), "")


def _check_shown(args: argparse.Namespace) -> None:
    option = _shows(args)
    if not option:
        if args.image is not None:
            raise UsageError(f"unexpected argument {args.image!r}: an image is for --features, --cam and --occlusion")
        return
    if args.out is None or Path(args.out).suffix.lower() != ".png":
        raise UsageError(f"--{option}: name a .png file with --out FILE")
    needs = option in ("features", "cam", "occlusion")
    if needs != (args.image is not None):
        raise UsageError(f"--{option}: {'give an image behind the target' if needs else 'takes no image'}")
    check_exists(filter(None, (args.image,)))
    check_exists(filter(None, (args.embed,)), "--embed")
    table = Path(args.out).with_suffix(".csv")
    if option == "embed" and table.exists() and not args.overwrite:
        raise UsageError(f"--out {table}: already exists; give another name or --overwrite")


def _show(args: argparse.Namespace) -> int:
    from PIL import Image

    from visionkit.inspection.targets import open_task

    task = open_task(args.target)
    makers = {"features": _features, "filters": _filters, "maximize": _maximized, "embed": _embedded}
    option = _shows(args)
    image, message = makers.get(option, _evidence)(task, args)
    path = Path(args.out)
    try:
        (Image.fromarray(image) if not isinstance(image, Image.Image) else image).save(path)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written ({error.strerror})") from error
    print(f"{path}: {message}")
    return 0


def _features(task: VisionTask, args: argparse.Namespace) -> tuple[Any, str]:
    from visionkit.inspection.feature_maps import LIMIT, grid, maps_of
    from visionkit.predictor import Predictor

    maps = maps_of(Predictor(task), args.image, args.features)
    shown = min(len(maps), LIMIT)
    return grid(maps), f"{shown} of {len(maps)} maps of {args.features}, {maps.shape[1]} x {maps.shape[2]}"


def _filters(task: VisionTask, args: argparse.Namespace) -> tuple[Any, str]:
    from visionkit.inspection.feature_maps import first_filters, grid

    name, filters = first_filters(task.network)
    return grid(filters), f"{min(64, len(filters))} of {len(filters)} filters of {name}"


def _maximized(task: VisionTask, args: argparse.Namespace) -> tuple[Any, str]:
    from visionkit.inspection.maximization import as_pixels, maximize

    layer, _, channel = args.maximize.partition(":")
    if channel and not channel.isdecimal():
        raise UsageError(f"--maximize {args.maximize}: give LAYER or LAYER:CHANNEL, such as layer2:5")
    shape = (1, task.input.channels, *task.input.size)
    image, found = maximize(task.network, shape, layer, int(channel or 0))
    message = f"channel {channel or 0} of {layer}, activation {found[0]:.3g} before and {found[-1]:.3g} after"
    pixels = as_pixels(image, task.normalize.mean, task.normalize.std)
    return pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, message


def _evidence(task: VisionTask, args: argparse.Namespace) -> tuple[Any, str]:
    from visionkit.drawing.activation import heat
    from visionkit.explain import explain, explain_object
    from visionkit.images import ImageSource
    from visionkit.inspection.occlusion import occlude
    from visionkit.predictor import Predictor

    predictor = Predictor(task)
    if args.occlusion:
        found = occlude(predictor, args.image, args.name)
    elif args.object is not None:
        number, _, keypoint = args.object.partition(":")
        if not number.isdecimal() or not (keypoint or "0").isdecimal():
            raise UsageError(f"--object {args.object}: give N or N:K, such as 0:9")
        found = explain_object(predictor, args.image, int(number), int(keypoint) if keypoint else None, args.cam)
    else:
        found = explain(predictor, args.image, args.name, args.cam)
    return heat(found, ImageSource(args.image).read()), f"evidence for {found.name}"


def _embedded(task: VisionTask, args: argparse.Namespace) -> tuple[Any, str]:
    from visionkit.inspection.embedding import draw, embed, project, write_table
    from visionkit.listing import find_images
    from visionkit.predictor import Predictor

    images = find_images(args.embed)
    vectors = embed(Predictor(task), images)
    positions = project(vectors, args.projection)
    table = Path(args.out).with_suffix(".csv")
    write_table(table, positions, vectors, images)
    return draw(positions, images), f"{len(images)} images; {table}: positions and nearest neighbors"


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
