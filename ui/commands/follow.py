"""Follows one object through a video, its box given in the first frame.

SOURCE is a video file, a folder of frames, a camera (camera:0) or an address (rtsp://...). MODEL gives the features by
which the object is recognized: a backbone with public weights (timm:resnet18), a run, a checkpoint or a bundle; by
default the backbone whose weights are installed with visionkit.

  visionkit follow video.mp4 --box 120,80,60,40 --out results --draw
  visionkit follow timm:resnet50 video.mp4 --box 120,80,60,40 --out results
  visionkit follow video.mp4 --box 120,80,60,40 --tracker kcf --out results

With --out, DIR/predictions.jsonl gets one record per frame, DIR/boxes/NAME.txt a line per frame (left,top,width,height
in the numbers of --box), and with --draw DIR/drawn/NAME.mp4 the drawn video; without it the records go to the standard
output. A frame that cannot be read is reported and skipped, and the exit status is then 3.

A sequence of OTB (a folder with img/ and groundtruth_rect.txt) or a folder of them needs no --box: each object is
followed from its first true box on, and measured against the others.

  visionkit follow OTB100 --out results --results otb.json
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from ui.option_values import named_values
from ui.paths import check_model_or_backbone
from ui.prediction_devices import device_names
from ui.prediction_records import RECORDS, prepare_folder, records_of
from ui.prediction_report import DRAWN, show_progress
from ui.stopping import Stop, stopped_by_signal
from ui.track_results import object_tracks
from ui.video_results import ObjectFiles, SkippedFrames, VideoRecords, check_free, read_ahead, video_stems
from visionkit.errors import DataError, UsageError
from visionkit.text_files import finite_numbers
from visionkit.wording import counted

if TYPE_CHECKING:
    import numpy as np

    from visionkit.following.visual_tracker import Followed, VisualTracker
    from visionkit.frame_sources import FrameSource
    from visionkit.video import Frame

SUMMARY = "follow one object, its box given in the first frame"

BOXES = "boxes"
"""Folder of the texts, below that of the results."""

_NO_BOX = "NaN,NaN,NaN,NaN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this command takes."""
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="backbone or model whose features are used, see above (hcf alone)"
    )
    parser.add_argument("source", metavar="SOURCE", help="video, folder of frames, camera, address, or data of OTB")
    parser.add_argument(
        "--box",
        metavar="X,Y,W,H",
        help="box of the object in the first frame: left, top, width and height in pixels, from 0",
    )
    parser.add_argument(
        "--tracker",
        default="hcf",
        metavar="NAME",
        help="hcf, correlation filters on the features of a network, with an estimate of the size, or kcf, one on raw "
        "pixels, without (default: %(default)s)",
    )
    parser.add_argument(
        "--tracker-set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set an argument of the tracker, such as padding=2; repeatable; a wrong name lists those it has",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help=f"folder for {RECORDS} and {BOXES}/ (default: print the records to standard output)",
    )
    parser.add_argument(
        "--draw", action="store_true", help=f"also write the drawn video into DIR/{DRAWN}/; needs --out"
    )
    parser.add_argument("--overwrite", action="store_true", help=f"replace an existing DIR/{RECORDS}")
    parser.add_argument(
        "--results", metavar="FILE", help="OTB: write metrics, protocol and the values of each frame as json"
    )
    parser.add_argument(
        "--devices",
        type=int,
        choices=(0, 1),
        metavar="N",
        help="1 uses a GPU, 0 the CPU (default: a GPU if there is one, otherwise the CPU)",
    )


class GivenObject(NamedTuple):
    """An object whose box in the first frame of a video is given.

    Attributes:
        stem: Name of its files.
        frames: The video.
        box: Left, top, width and height in the first frame, in pixels from `origin`.
        origin: Number of the first row and column.
        truth: (N, 4) the true boxes in the same numbers, where they are known.
    """

    stem: str
    frames: FrameSource
    box: tuple[float, ...]
    origin: int = 0
    truth: np.ndarray | None = None

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """X1, y1, x2, y2 in file pixels."""
        x, y, width, height = self.box
        return x - self.origin, y - self.origin, x - self.origin + width, y - self.origin + height


def run(args: argparse.Namespace) -> int:
    """Follows, writes and prints; returns the exit status."""
    if args.draw and not args.out:
        raise UsageError("--draw: name a folder for the video with --out DIR")
    box = _box(args.box) if args.box is not None else None
    arguments = named_values(args.tracker_set, "--tracker-set", "padding=2")
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(stopped_by_signal())
        objects = _objects(args.source, box)
        if args.results and objects[0].truth is None:
            raise UsageError("--results: is for data of OTB without --box, whose true boxes are known")
        from visionkit.following.visual_tracker import make_visual_tracker, visual_tracker_class

        kind = visual_tracker_class(args.tracker)
        if args.model is not None and kind.needs_model:
            check_model_or_backbone(args.model)
        device = device_names(args.devices)[0] if kind.needs_model else "cpu"
        tracker = make_visual_tracker(args.tracker, arguments, args.model, device)
        out = prepare_folder(Path(args.out), args.overwrite) if args.out else None
        check_free((path for each in objects for path in _files(out, each.stem, args.draw) if path), args.overwrite)
        file = stack.enter_context(records_of(out))
        skipped = SkippedFrames()
        found = {each.stem: _follow(each, tracker, file, out, args.draw, skipped, stop) for each in objects}
    if out is not None:
        print(f"results: {out}", file=sys.stderr)
    if objects[0].truth is not None:
        _measure(objects, found, args, out)
    return skipped.status


def _box(given: str) -> tuple[float, ...]:
    box = finite_numbers(given)
    if len(box) != 4:
        raise UsageError(f"--box {given}: give left,top,width,height in pixels, such as --box 120,80,60,40")
    if min(box[2:]) < 1:
        raise UsageError(f"--box {given}: width and height are at least 1 pixel")
    return box


def _objects(source: str, box: tuple[float, ...] | None) -> list[GivenObject]:
    """What is followed, one object after the other."""
    from visionkit.following.otb_files import IMAGES, find_truth, images_of, read_sequence, truth_files
    from visionkit.frame_sources import ImageFrames, open_frames

    path = Path(source)
    if box is not None:
        is_sequence = path.is_dir() and bool(truth_files(path)) and (path / IMAGES).is_dir()
        frames = ImageFrames(source, images_of(path / IMAGES)) if is_sequence else open_frames(source)
        return [GivenObject(video_stems([source])[0], frames, box)]
    if not path.is_dir():
        open_frames(source).__exit__(None, None, None)  # what is no video is reported before a missing box
        raise UsageError("--box: give the object's box in the first frame, such as --box 120,80,60,40")
    try:
        truth = find_truth(path)
    except DataError:
        raise UsageError(
            f"--box: give the object's box in the first frame, such as --box 120,80,60,40; {source} is no data of OTB, "
            "which state it in groundtruth_rect.txt"
        ) from None
    read = [read_sequence(name, file) for name, file in truth.items()]
    return [
        GivenObject(each.name, ImageFrames(each.name, each.images), tuple(each.boxes[0].tolist()), 1, each.boxes)
        for each in read
    ]


def _follow(
    given: GivenObject,
    tracker: VisualTracker,
    file: IO[str],
    out: Path | None,
    draw: bool,
    skipped: SkippedFrames,
    stop: Stop,
) -> list[np.ndarray | None]:
    """Follows the object of one video; where its truth is known, the box of each frame, None of those without one."""
    from visionkit.following.otb_files import box_line
    from visionkit.following.visual_tracker import Followed
    from visionkit.frame_sources import ImageFrames

    boxes: list[np.ndarray | None] = []
    faults = skipped.count
    with given.frames as frames, ObjectFiles(*_files(out, given.stem, draw), given.frames) as results:
        first, lines = 0, 0
        with VideoRecords(file, frames, skipped, stop) as records:
            for frame in _shown(frames, skipped):
                if not records.done:
                    first = frame.number
                    if first and skipped.count > faults and not frames.is_live:
                        raise DataError(f"{frames.name}: the first frame, to which the box belongs, cannot be read")
                    _begin(tracker, given, frame)
                    followed = Followed(tracker.box, 1.0)
                else:
                    try:
                        followed = tracker.update(frame.pixels)
                    except DataError as error:
                        skipped.fault(f"{frames.name}, frame {frame.number}: {error}")
                        continue
                gap = frame.number - first - lines
                with records.frame(frame, object_tracks(frame, *followed).to_json()):
                    if given.truth is not None:
                        boxes += [*[None] * gap, followed.box]
                    text = f"{_NO_BOX}\n" * gap + f"{box_line(followed.box, given.origin)}\n"
                    results.write(frame, text, partial(_drawn, frame, followed))
                    lines += gap + 1
        if isinstance(frames, ImageFrames):  # whose number of frames is known
            results.write_text(f"{_NO_BOX}\n" * (frames.frames - first - lines))
        if records.done < 2:
            raise DataError(f"{frames.name}: one frame; an object is followed through at least two")
    print(f"{frames.name}: {counted(records.done, 'frame')}", file=sys.stderr)
    return boxes


def _shown(frames: FrameSource, skipped: SkippedFrames) -> Iterator[Frame]:
    """The frames, with a bar over them."""
    source = read_ahead(frames, None, skipped.fault)
    with contextlib.closing(source), show_progress(frames.frames) as (advance, _):
        for frame in source:
            yield frame
            advance()


def _begin(tracker: VisualTracker, given: GivenObject, frame: Frame) -> None:
    height, width = frame.pixels.shape[:2]
    x1, y1, x2, y2 = given.corners
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        box = ",".join(f"{value:g}" for value in given.box)
        what = f"--box {box}" if given.truth is None else f"{given.stem}: the first true box {box}"
        raise UsageError(f"{what}: lies outside of the first frame, which has {width} x {height} pixels")
    tracker.begin(frame.pixels, given.corners)


def _drawn(frame: Frame, followed: Followed) -> np.ndarray:
    pixels: np.ndarray = object_tracks(frame, *followed).draw(frame.pixels)
    return pixels


def _files(out: Path | None, stem: str, draw: bool) -> tuple[Path | None, Path | None]:
    """The text of an object, and the drawn video."""
    if out is None:
        return None, None
    return out / BOXES / f"{stem}.txt", out / DRAWN / f"{stem}.mp4" if draw else None


def _measure(
    objects: list[GivenObject], found: Mapping[str, list[np.ndarray | None]], args: argparse.Namespace, out: Path | None
) -> None:
    """Measures what was followed by OTB's protocol."""
    import numpy as np

    from ui.evaluation.following import measured
    from visionkit.following.one_pass import measure
    from visionkit.report import print_record, write_record

    parts = {}
    for each in objects:
        assert each.truth is not None
        boxes = np.full(each.truth.shape, np.nan)
        for number, box in enumerate(found[each.stem]):
            if box is not None:
                boxes[number] = [*(box[:2] + each.origin), *(box[2:] - box[:2])]
        parts[each.stem] = measure(each.truth, boxes, name=each.stem)
    record = measured(parts, "otb").record("following")
    if out is not None:  # otherwise the records are on the standard output
        print_record(record)
    if args.results:
        write_record(Path(args.results), record)
