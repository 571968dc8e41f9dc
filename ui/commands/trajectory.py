"""Writes where the camera of a video was at each frame, as a model of camera motion estimates it.

SOURCE is a video file or a folder of frames. The file has one pose per frame, camera to world, where the world is the
camera of the first frame; the unit is the model's own, so compare with truth after --alignment sim3.

  visionkit trajectory MODEL video.mp4 --out poses.txt
  visionkit trajectory MODEL frames --out poses.txt --format tum
  visionkit evaluate trajectory --gt truth.txt --pred poses.txt --alignment sim3

--format kitti writes 12 numbers per line, the rows of a 3x4 matrix, and so has no place for a frame that cannot be
read: it takes the pose of the frame before it. --format tum writes time, position and quaternion, and leaves it out. A
frame that cannot be read is reported, and the exit status is then 3.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ui.paths import check_exists
from ui.prediction_devices import device_names
from ui.prediction_records import cannot_write
from ui.prediction_report import show_progress
from ui.stopping import stopped_by_signal
from ui.video_results import SkippedFrames, read_ahead
from visionkit.errors import DataError, UsageError
from visionkit.wording import counted

if TYPE_CHECKING:
    import numpy as np

SUMMARY = "write where the camera of a video was, as a model of camera motion estimates it"

FORMATS = ("kitti", "tum")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this command takes."""
    parser.add_argument("model", metavar="MODEL", help="run, checkpoint or bundle of the task camera_motion")
    parser.add_argument("source", metavar="SOURCE", help="video file or folder of frames")
    parser.add_argument("--out", metavar="FILE", required=True, help="file of the poses")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="see above (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")
    parser.add_argument(
        "--devices",
        type=int,
        choices=(0, 1),
        metavar="N",
        help="1 uses a GPU, 0 the CPU (default: a GPU if there is one, otherwise the CPU)",
    )


def run(args: argparse.Namespace) -> int:
    """Estimates and writes; returns the exit status."""
    from visionkit.frame_sources import is_live, open_frames
    from visionkit.predictions import CameraMotion

    out = Path(args.out)
    if is_live(args.source):
        raise UsageError(f"{args.source}: a camera has no end; record it, and give the file")
    if out.exists() and not args.overwrite:
        raise UsageError(f"--out {out}: exists; name another file, or replace it with --overwrite")
    check_exists([args.model], "MODEL")
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(stopped_by_signal())
        frames = stack.enter_context(open_frames(args.source))
        from visionkit.predictor import load

        predictor = load(args.model, device=device_names(args.devices)[0])
        if "camera_motion" not in predictor.task.kinds:
            raise UsageError(f"{args.model}: a model of {predictor.task.name}; give one of camera_motion")
        session, skipped = predictor.session(), SkippedFrames()
        poses: dict[int, tuple[float, np.ndarray]] = {}
        stack.callback(_write, out, poses, args.format)  # also where a signal ends it: what was done is kept
        source = stack.enter_context(contextlib.closing(read_ahead(frames, None, skipped.fault)))
        advance, _ = stack.enter_context(show_progress(frames.frames, "frame"))
        for frame in source:
            try:
                found = session.step(frame.pixels, frame.seconds)
            except DataError as error:
                skipped.fault(f"{frames.name}, frame {frame.number}: {error}")
                continue
            assert isinstance(found, CameraMotion) and found.pose is not None
            with stop.held():
                poses[frame.number] = (frame.seconds, found.pose)
            advance()
        skipped.check_end(frames, len(poses))
    print(f"{frames.name}: {counted(len(poses), 'pose')} in {out}", file=sys.stderr)
    return skipped.status


def _write(out: Path, poses: dict[int, tuple[float, np.ndarray]], layout: str) -> None:
    from visionkit.atomic import write_whole
    from visionkit.trajectories.pose_files import kitti_text, tum_text

    if not poses:
        return
    times, matrices = [each[0] for each in poses.values()], [each[1] for each in poses.values()]
    if layout == "kitti":
        known, latest = [], matrices[0]
        for number in range(max(poses) + 1):
            latest = poses[number][1] if number in poses else latest
            known.append(latest)
        text = kitti_text(known)
    else:
        text = tum_text(times, matrices)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, text.encode())
    except OSError as error:
        raise cannot_write(out, error) from error
