"""Writes how every point of an image moves in space, from the depth of two moments and the optical flow between them.

Depth comes from two stereo pairs and a model of stereo, or from files of a depth camera:

  visionkit sceneflow --flow FLOW_MODEL --images left0.png left1.png --stereo STEREO_MODEL \\
      --right right0.png right1.png --camera 720,720,620,190 --baseline 0.54 --out motion
  visionkit sceneflow --flow FLOW_MODEL --images 0.jpg 1.jpg --depth 0.png 1.png --camera camera.txt --out motion

DIR gets motion.npy, (3, h, w) float32 meters to the right, down and forward with NaN where a point is not known;
motion.png, whose color is the direction on the ground (right and forward) by the wheel of optical flow; and motion.ply,
the points of the first image in these colors.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.paths import check_exists
from ui.prediction_devices import device_names
from ui.prediction_records import cannot_write
from visionkit.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from visionkit.camera import CameraIntrinsics
    from visionkit.families.matching.scene_flow import SceneFlow

SUMMARY = "write how every point moves in space, by stereo or depth and optical flow"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this command takes."""
    pair: Any = {"nargs": 2, "metavar": ("FIRST", "SECOND")}
    parser.add_argument("--flow", metavar="MODEL", required=True, help="model of optical flow")
    parser.add_argument("--images", required=True, help="two moments; of stereo the left images", **pair)
    parser.add_argument("--stereo", metavar="MODEL", help="model of stereo")
    parser.add_argument("--right", help="with --stereo: the right images", **pair)
    parser.add_argument("--baseline", type=float, metavar="METERS", help="with --stereo: distance of the two cameras")
    parser.add_argument("--depth", help="in place of --stereo: files of depth", **pair)
    parser.add_argument("--units", type=float, metavar="N", help="numbers of the depth files that stand for a meter")
    parser.add_argument(
        "--camera", required=True, metavar="FX,FY,CX,CY", help="intrinsics in pixels, or a file of them"
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of the results")
    parser.add_argument("--overwrite", action="store_true", help="replace the results of DIR")
    parser.add_argument("--devices", type=int, choices=(0, 1), metavar="N", help="1 uses a GPU, 0 the CPU")


def run(args: argparse.Namespace) -> int:
    """Estimates and writes; returns the exit status."""
    import numpy as np

    from visionkit.atomic import write_whole
    from visionkit.camera import CameraIntrinsics
    from visionkit.families.matching.scene_flow import scene_flow

    if (args.stereo is None) == (args.depth is None):
        raise UsageError("give --stereo with --right and --baseline, or --depth: depth comes from one of them")
    if args.stereo is not None and (args.right is None or args.baseline is None):
        raise UsageError("--stereo: needs the right images (--right FIRST SECOND) and --baseline METERS")
    camera, out = CameraIntrinsics.parse(args.camera), Path(args.out)
    files = {name: out / f"motion.{name}" for name in ("npy", "png", "ply")}
    if not args.overwrite and (there := [path for path in files.values() if path.exists()]):
        raise UsageError(f"--out {out}: {there[0].name} exists; name another folder, or replace it with --overwrite")
    check_exists([*args.images, *(args.right or ()), *(args.depth or ())], "image")
    depths = _by_stereo(args, camera) if args.stereo is not None else _by_files(args)
    flow, known = _flow(args)
    found = scene_flow(*depths, flow, camera, known)
    contents = _contents(found, depths[0], camera)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, path in files.items():
            write_whole(path, contents[name])
    except OSError as error:
        raise cannot_write(out, error) from error
    length = np.linalg.norm(found.motion, axis=0)[found.known]
    half = f", half of them less than {np.median(length):.3g} m" if len(length) else ""
    print(f"{found.known.mean():.1%} of the points are known{half}", file=sys.stderr)
    print(f"results: {out}", file=sys.stderr)
    return 0


def _by_stereo(args: argparse.Namespace, camera: CameraIntrinsics) -> tuple[np.ndarray, np.ndarray]:
    from visionkit.predictions import DisparityMap
    from visionkit.predictor import load

    predictor = load(args.stereo, device=device_names(args.devices)[0])
    maps = []
    for left, right in zip(args.images, args.right, strict=True):
        found = predictor({"left": left, "right": right})
        if not isinstance(found, DisparityMap):
            raise UsageError(f"--stereo {args.stereo}: a model of {predictor.task.name}; give one of stereo")
        maps.append(found.depth(camera, args.baseline).values)
    return maps[0], maps[1]


def _by_files(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    from datamodules.depth_files import read_depth

    first, second = (read_depth(path, args.units) for path in args.depth)
    return first, second


def _flow(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    from visionkit.predictions import FlowField
    from visionkit.predictor import load

    predictor = load(args.flow, device=device_names(args.devices)[0])
    found = predictor({"first": args.images[0], "second": args.images[1]})
    if not isinstance(found, FlowField):
        raise UsageError(f"--flow {args.flow}: a model of {predictor.task.name}; give one of optical flow")
    return found.values, found.known


def _contents(found: SceneFlow, depth: np.ndarray, camera: CameraIntrinsics) -> dict[str, bytes]:
    import numpy as np

    from visionkit.camera import ply
    from visionkit.drawing.flow import wheel_colors
    from visionkit.predictions.image import encode_png

    ground = found.motion[[0, 2]] * np.array([1, -1], np.float32)[:, None, None]  # forward is up in the wheel
    length = np.hypot(*ground)[found.known]
    colors = wheel_colors(ground, max(float(np.quantile(length, 0.99)) if len(length) else 0.0, 1e-6))
    colors[~found.known] = 0
    array = io.BytesIO()
    np.save(array, np.where(found.known, found.motion, np.float32(np.nan)), allow_pickle=False)
    points = camera.points(np.where(found.known, depth, 0))[found.known]
    return {"npy": array.getvalue(), "png": encode_png(colors), "ply": ply(points, colors[found.known])}
