"""Follows objects to the pixel through a video, their mask given in the first frame (video object segmentation).

SOURCE is a video file or a folder of frames. --mask is a png of the first frame's size: 0 is the background and each
object has a number of its own, from 1 on; 0 and 255 alone are one object. MODEL is a backbone with public weights
(timm:resnet18), a run, a checkpoint or a bundle; by default the backbone whose weights are installed with visionkit.

  visionkit propagate video.mp4 --mask first.png --out results --draw
  visionkit propagate video.mp4 --mask first.png --method osvos --out results
  visionkit propagate SEGMENTATION_MODEL frames --mask first.png --method osvos --set steps=300 --out results

DIR/Annotations/NAME/ gets an indexed png per frame in the layout and the colors of DAVIS, DIR/predictions.jsonl a
record per frame, and with --draw DIR/drawn/NAME.mp4 the drawn video. A frame that cannot be read is reported and
skipped, and the exit status is then 3.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.option_values import named_values
from ui.paths import check_exists, check_model_or_backbone
from ui.prediction_devices import device_names
from ui.prediction_records import RECORDS, cannot_write, prepare_folder, records_of
from ui.prediction_report import DRAWN, show_progress
from ui.stopping import stopped_by_signal
from ui.video_results import DrawnVideo, SkippedFrames, VideoRecords, check_free, read_ahead, video_stems
from visionkit.errors import DataError, UsageError
from visionkit.wording import counted

if TYPE_CHECKING:
    import numpy as np

    from visionkit.families.propagation.propagator import Propagator
    from visionkit.frame_sources import FrameSource
    from visionkit.video import Frame

SUMMARY = "segment objects through a video, their mask given in the first frame"

MASKS = "Annotations"
"""Folder of the masks, below that of the results: DAVIS's name for it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this command takes."""
    parser.add_argument("model", metavar="MODEL", nargs="?", help="backbone or model, see above")
    parser.add_argument("source", metavar="SOURCE", help="video file or folder of frames")
    parser.add_argument("--mask", metavar="PNG", required=True, help="mask of the first frame, see above")
    parser.add_argument(
        "--method",
        default="label_propagation",
        metavar="NAME",
        help="label_propagation, by similar features and without training, or osvos, which fine-tunes a segmentation "
        "network on the first frame (default: %(default)s)",
    )
    parser.add_argument(
        "--set",
        dest="arguments",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set an argument of the method, such as steps=300; repeatable; a wrong name lists those it has",
    )
    parser.add_argument("--out", metavar="DIR", required=True, help=f"folder for {RECORDS} and {MASKS}/")
    parser.add_argument("--draw", action="store_true", help=f"also write the drawn video into DIR/{DRAWN}/")
    parser.add_argument(
        "--overwrite", action="store_true", help=f"replace an existing DIR/{RECORDS} and the masks of this video"
    )
    parser.add_argument(
        "--devices",
        type=int,
        choices=(0, 1),
        metavar="N",
        help="1 uses a GPU, 0 the CPU (default: a GPU if there is one, otherwise the CPU)",
    )


def run(args: argparse.Namespace) -> int:
    """Propagates, writes and prints; returns the exit status."""
    from visionkit.frame_sources import is_live, open_frames

    if is_live(args.source):
        raise UsageError(f"{args.source}: its first frame is not known before; record it, and give the file")
    check_exists([args.mask], "--mask")
    if args.model is not None:
        check_model_or_backbone(args.model)
    arguments = named_values(args.arguments, "--set", "steps=300")
    mask = read_mask(Path(args.mask))
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(stopped_by_signal())
        frames = stack.enter_context(open_frames(args.source))
        out = prepare_folder(Path(args.out), args.overwrite)
        stem = video_stems([args.source])[0]
        _check_files(args, out, stem)
        from visionkit.families.propagation.propagator import DEFAULT_BACKBONE, make_propagator

        device = device_names(args.devices)[0]
        propagator = make_propagator(args.method, args.model or DEFAULT_BACKBONE, arguments, device)
        file = stack.enter_context(records_of(out))
        skipped = SkippedFrames()
        results = stack.enter_context(_Results(out, stem, args.draw, frames))
        with VideoRecords(file, frames, skipped, stop) as records:
            _propagate(propagator, mask, args.mask, results, records)
    print(f"{frames.name}: {counted(records.done, 'frame')}", file=sys.stderr)
    print(f"results: {out}", file=sys.stderr)
    return skipped.status


def _drawn_file(out: Path, stem: str, draw: bool) -> Path | None:
    return out / DRAWN / f"{stem}.mp4" if draw else None


def _check_files(args: argparse.Namespace, out: Path, stem: str) -> None:
    """Checks that neither what is read nor anything else that is not to be replaced lies where masks are written."""
    folder = out / MASKS / stem
    for option, path in (("--mask", Path(args.mask).parent), ("SOURCE", Path(args.source))):
        if path.resolve() == folder.resolve():
            raise UsageError(f"--out {args.out}: the masks would replace {option} in {folder}; name another folder")
    check_free(filter(None, (folder, _drawn_file(out, stem, args.draw))), args.overwrite)


def read_mask(path: Path) -> np.ndarray:
    """The mask of a first frame, from a file.

    Raises:
        DataError: Not readable, without an object, or not of numbers.
    """
    from datamodules.value_files import read_values
    from visionkit.families.propagation.first_mask import checked_mask

    return checked_mask(read_values(path, "mask").array, name=str(path))


def _propagate(propagator: Propagator, mask: np.ndarray, name: str, results: _Results, records: VideoRecords) -> None:
    from visionkit.families.propagation.first_mask import checked_mask

    frames, skipped = records.frames, records.skipped
    source = read_ahead(frames, None, skipped.fault)
    with contextlib.closing(source), show_progress(frames.frames, "first frame") as (advance, part):
        for frame in source:
            if not records.done:
                if frame.number and skipped.count:
                    raise DataError(f"{frames.name}: the first frame, to which the mask belongs, cannot be read")
                size = (frame.pixels.shape[0], frame.pixels.shape[1])
                labels = propagator.begin(frame.pixels, checked_mask(mask, size, name), part)
                part(1, 1)
            else:
                try:
                    labels = propagator.update(frame.pixels)
                except DataError as error:
                    skipped.fault(f"{frames.name}, frame {frame.number}: {error}")
                    continue
            with records.frame(frame, _prediction(labels), files=[str(results.place(frame).relative_to(results.out))]):
                results.write(frame, labels)
            advance()


class _Results:
    """The files of one video beside its records: masks, and the drawn video."""

    def __init__(self, out: Path, stem: str, draw: bool, frames: FrameSource) -> None:
        from visionkit.drawing.object_masks import davis_palette
        from visionkit.frame_sources import ImageFrames

        self.out, self.folder, self._is_new = out, out / MASKS / stem, True
        self.names = frames.names() if isinstance(frames, ImageFrames) else {}
        self.palette = davis_palette()
        self.video = DrawnVideo(_drawn_file(out, stem, draw), frames)

    def place(self, frame: Frame) -> Path:
        """The file of a frame's mask."""
        return self.folder / f"{self.names.get(frame.number, f'{frame.number:05}')}.png"

    def write(self, frame: Frame, labels: np.ndarray) -> None:
        """Takes a frame in."""
        from visionkit.atomic import write_whole
        from visionkit.drawing.object_masks import draw_objects
        from visionkit.predictions import LabelMap

        if self._is_new:
            self._make_folder()
        path = self.place(frame)
        try:
            write_whole(path, LabelMap((), labels).png(self.palette))
        except OSError as error:
            raise cannot_write(path, error) from error
        self.video.write(frame, lambda: draw_objects(frame.pixels, labels))

    def _make_folder(self) -> None:
        """Takes the masks of an earlier run away, which may have had more frames, now that there are new ones."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in self.folder.glob("*.png"):
                path.unlink()
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        self._is_new = False

    def __enter__(self) -> _Results:
        return self

    def __exit__(self, *_: object) -> None:
        self.video.__exit__()


def _prediction(labels: np.ndarray) -> dict[str, Any]:
    """What a record states of the objects; their pixels are in the file."""
    import numpy as np

    from visionkit.drawing.object_masks import object_numbers

    objects = []
    for number in object_numbers(labels):
        y, x = np.nonzero(labels == number)
        box = [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]
        objects.append({"id": number, "pixels": len(x), "box": box})
    return {"kind": "object_masks", "objects": objects}
