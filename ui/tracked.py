"""`visionkit predict --track`: objects of videos with ids, as records, MOTChallenge's text, video and counts."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.detected_frames import check_detector, check_video, detected_frames
from ui.prediction_devices import open_predictors
from ui.prediction_records import RECORDS, cannot_write, records_of
from ui.prediction_report import DRAWN
from ui.stopping import stopped_by_signal
from ui.track_results import drawn_tracks, mot_text
from ui.video_results import ObjectFiles, SkippedFrames, VideoRecords, check_free, video_stems
from visionkit.errors import UsageError
from visionkit.wording import counted

if TYPE_CHECKING:
    import numpy as np

    from visionkit.predictions import Tracks
    from visionkit.tracking.appearance import Appearance
    from visionkit.tracking.counts import TrackCounts
    from visionkit.video import Frame

TEXTS = "tracks"
"""Folder of MOTChallenge's texts, below that of the results."""
COUNTS = "counts.json"


def add_track_arguments(parser: argparse.ArgumentParser) -> Any:
    """Adds what following objects takes; returns the group of options for videos."""
    tracks = parser.add_argument_group(
        "for videos: SOURCE is a video file, a folder of frames, a camera (camera:0) or an address (rtsp://...)"
    )
    tracks.add_argument(
        "--track",
        metavar="TRACKER",
        help=f"follow the objects: sort, bytetrack or ocsort; --out gets {RECORDS}, {TEXTS}/ in MOTChallenge's format "
        f"and {COUNTS}, with --draw also the drawn video",
    )
    tracks.add_argument(
        "--tracker-set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set an argument of the tracker, such as max_age=60; repeatable; a wrong name lists those it has",
    )
    tracks.add_argument(
        "--reid", metavar="MODEL", help="model whose features compare what objects look like, beside where they are"
    )
    tracks.add_argument(
        "--line",
        dest="lines",
        metavar="X1,Y1,X2,Y2",
        action="append",
        default=[],
        help="count the objects that cross this line, in pixels of the video, by class and direction; repeatable",
    )
    tracks.add_argument("--rate", type=float, metavar="N", help="process at most N frames per second (default: all)")
    return tracks


def check_track(args: argparse.Namespace) -> None:
    """Checks the arguments before anything heavy is imported.

    Raises:
        UsageError: They contradict each other.
    """
    if args.track is None:
        for name in ("tracker_set", "reid", "lines", "rate"):
            if getattr(args, name) not in (None, []) and not (name == "rate" and args.rescore):
                raise UsageError(f"--{'line' if name == 'lines' else name.replace('_', '-')}: needs --track TRACKER")
        return
    check_video(args, "--track")


def track(args: argparse.Namespace, options: dict[str, Any], tracker_options: dict[str, Any], out: Path | None) -> int:
    """Follows the objects of each source; returns the exit status.

    Args:
        args: The parsed command line.
        options: Options of the prediction.
        tracker_options: Arguments of the tracker.
        out: Folder of the results.
    """
    from visionkit.frame_sources import open_frames
    from visionkit.tracking.counts import TrackCounts
    from visionkit.tracking.tracker import make_tracker

    lines = [_line(each) for each in args.lines]
    make_tracker(args.track, tracker_options)  # a wrong name is reported before a model is opened
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(stopped_by_signal())
        first = stack.enter_context(open_frames(args.sources[0]))
        predictor = open_predictors(args.model, args.devices, args.engine)[0]
        check_detector(predictor, "--track", args, options)
        appearance = _appearance(args.reid, args.devices) if args.reid else None
        file = stack.enter_context(records_of(out))
        counts: dict[str, Any] = {}
        skipped = SkippedFrames()
        stems = video_stems(args.sources)
        check_free((path for stem in stems for path in _files(out, stem, args.draw) if path), args.overwrite)
        for number, source in enumerate(args.sources):
            frames = first if number == 0 else stack.enter_context(open_frames(source))
            count, tracker = TrackCounts(lines), make_tracker(args.track, tracker_options, appearance)
            records = VideoRecords(file, frames, skipped, stop)
            try:
                with ObjectFiles(*_files(out, stems[number], args.draw), frames, args.rate) as results, records:
                    for frame, found in detected_frames(frames, predictor, args, options, skipped):
                        tracks = tracker.update(found, frame.pixels)
                        with records.frame(frame, tracks.to_json()):
                            count.update(tracks)
                            results.write(frame, mot_text(frame, tracks), _drawn(frame, tracks, count))
            finally:  # what was counted until an interruption is kept, too
                if records.done:
                    counts[frames.name] = count.to_json()
                    _write_counts(out, counts)
            _print_counts(frames.name, counts[frames.name])
            if hint := tracker.hint():
                print(f"  {hint}; --tracker-set {tracker.begins_by}=VALUE changes that", file=sys.stderr)
    if out is not None:
        print(f"results: {out}", file=sys.stderr)
    return skipped.status


def _print_counts(name: str, counts: Mapping[str, Any]) -> None:
    objects = ", ".join(f"{number} {kind}" for kind, number in counts["objects"].items()) or "no objects"
    print(f"{name}: {counted(counts['frames'], 'frame')}, {objects}", file=sys.stderr)
    for line in counts.get("lines", ()):
        ways = (sum(line[way].values()) for way in ("left_to_right", "right_to_left"))
        place = ",".join(f"{value:g}" for value in line["line"])
        print("  line {}: {} left to right, {} right to left".format(place, *ways), file=sys.stderr)


def _files(out: Path | None, stem: str, draw: bool) -> tuple[Path | None, Path | None]:
    """MOTChallenge's text of a video, and the drawn video."""
    if out is None:
        return None, None
    return out / TEXTS / f"{stem}.txt", out / DRAWN / f"{stem}.mp4" if draw else None


def _drawn(frame: Frame, tracks: Tracks, count: TrackCounts) -> Callable[[], np.ndarray]:
    return lambda: drawn_tracks(frame.pixels, tracks, count)


def _appearance(model: str, devices: int | None) -> Appearance:
    """Compares crops of objects by a model's pooled features."""
    import numpy as np

    from visionkit.images import ImageSource
    from visionkit.tracking.appearance import Appearance

    predictor = open_predictors(model, devices, "torch")[0]

    def embed(pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        crops = []
        for x1, y1, x2, y2 in np.rint(boxes).astype(int).tolist():
            left, top = min(max(x1, 0), width - 2), min(max(y1, 0), height - 2)
            crop = pixels[top : max(min(y2, height), top + 2), left : max(min(x2, width), left + 2)]
            crops.append(ImageSource(np.ascontiguousarray(crop), "object"))
        found = [result.features for result in predictor.stream(crops, features=True)]
        if any(each is None for each in found):
            raise UsageError(f"--reid {model}: this model gives no features of a whole image; give one on a backbone")
        return np.stack([np.asarray(each).reshape(-1) for each in found])

    return Appearance(embed)


def _line(given: str) -> tuple[float, ...]:
    from visionkit.text_files import finite_numbers

    values = finite_numbers(given)
    if len(values) != 4:
        raise UsageError(f"--line {given}: give x1,y1,x2,y2 in pixels, such as --line 0,200,640,200")
    if values[:2] == values[2:]:
        raise UsageError(f"--line {given}: both ends are one point")
    return values


def _write_counts(out: Path | None, counts: Mapping[str, Any]) -> None:
    from visionkit.atomic import write_whole

    if out is None:
        return
    try:
        write_whole(out / COUNTS, (json.dumps(counts, indent=2, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise cannot_write(out / COUNTS, error) from error
