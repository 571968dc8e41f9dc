"""One object of a video, marked in its first frame: found under a point, outlined, followed, and cut out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ui.drawings import as_sent
from ui.inference import Upload
from ui.model_registry import finds_boxes
from ui.server.job_queue import JobQueue
from ui.track_results import OBJECT, object_tracks
from ui.video_files import MASKS, TEXT, ShownFrame
from ui.videos import VideoProgress, first_frame, go_through
from visionkit.errors import UsageError
from visionkit.images import ImageSource

if TYPE_CHECKING:
    from visionkit.families.propagation.propagator import Propagator
    from visionkit.following.visual_tracker import VisualTracker
    from visionkit.predictions import Detections
    from visionkit.video import Frame

PROPAGATOR = "label_propagation"
"""The method that cuts out."""

CUT_SIDE = 240
"""Short side of the frames in which an object is cut out: finer ones take seconds each on a processor."""

_GRABCUT_SIDE = 480
_SAME = 0.7  # overlap from which a box is that of a detected object


@dataclass(frozen=True)
class ObjectRequest:
    """What is asked of one object.

    Attributes:
        upload: The video.
        box: x1, y1, x2, y2 of the object in the first frame, in pixels of the video.
        model: Model that outlines the object, where it finds masks.
        method: Name of the visual tracker; None cuts the object out.
        rate: Frames per second that are processed.
    """

    upload: Upload | None
    box: tuple[float, ...]
    model: str | None = None
    method: str | None = None
    rate: float = 15.0


def read_place(text: str | None) -> tuple[float, ...]:
    """A box (four numbers) or a clicked point (two, behind @) in pixels; nothing where the field is empty.

    Raises:
        UsageError: Neither.
    """
    from visionkit.text_files import finite_numbers

    words = (text or "").strip()
    if not words:
        return ()
    values = finite_numbers(words.removeprefix("@"))
    if len(values) != (2 if words.startswith("@") else 4):
        raise UsageError(f"object {words[:60]!r}: give x1,y1,x2,y2 of its box in pixels")
    if len(values) == 4:
        x1, x2, y1, y2 = *sorted(values[::2]), *sorted(values[1::2])
        if x2 - x1 < 2 or y2 - y1 < 2:
            raise UsageError("the box of the object: width and height are at least 2 pixels")
        return x1, y1, x2, y2
    return values


def box_under(
    job_queue: JobQueue, model: str | None, pixels: np.ndarray, point: tuple[float, ...]
) -> tuple[float, ...] | None:
    """The box of the smallest object that a model finds under a point; None where there is none.

    Args:
        job_queue: Where the model runs.
        model: A model that finds objects.
        pixels: (h, w, 3) uint8 RGB.
        point: x and y.
    """
    found = _objects(job_queue, model, pixels)
    if found is None:
        return None
    x, y = point
    x1, y1, x2, y2 = found.boxes.T
    inside = np.flatnonzero((x1 <= x) & (x <= x2) & (y1 <= y) & (y <= y2))
    if not len(inside):
        return None
    best = inside[np.argmin(((x2 - x1) * (y2 - y1))[inside])]
    return tuple(round(float(value), 1) for value in found.boxes[best])


def mask_in(job_queue: JobQueue, model: str | None, pixels: np.ndarray, box: tuple[float, ...]) -> np.ndarray:
    """Which pixels of a box are the object: by a model that finds masks, otherwise by GrabCut.

    Args:
        job_queue: Where the model runs.
        model: Name of a model.
        pixels: (h, w, 3) uint8 RGB.
        box: x1, y1, x2, y2.

    Returns:
        (h, w) bool.
    """
    from visionkit.masks import decode_masks
    from visionkit.predictions import Instances
    from visionkit.tracking.boxes import box_ious

    found = _objects(job_queue, model, pixels)
    if isinstance(found, Instances) and len(found):
        fits = box_ious(np.array([box]), found.boxes.astype(np.float64))[0]
        if fits.max() >= _SAME:
            mask: np.ndarray = decode_masks([found.masks[int(fits.argmax())]], found.size)[0]
            if mask.any():
                return mask
    return job_queue.in_turn(lambda: grab_cut(pixels, box), "video")


def grab_cut(pixels: np.ndarray, box: tuple[float, ...]) -> np.ndarray:
    """(h, w) bool, the object of a box by GrabCut (Rother et al., 2004); the whole box where that finds nothing.

    Args:
        pixels: (h, w, 3) uint8 RGB.
        box: x1, y1, x2, y2.
    """
    import cv2

    height, width = pixels.shape[:2]
    scale = min(1.0, _GRABCUT_SIDE / max(height, width))
    h, w = (max(8, round(length * scale)) for length in (height, width))
    small = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA)
    x1, y1, x2, y2 = (round(value * scale) for value in box)
    x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(max(x2, x1 + 2), w), min(max(y2, y1 + 2), h)
    filled = np.zeros((h, w), np.uint8)
    filled[y1:y2, x1:x2] = 1
    if not filled.any():
        raise UsageError("the box of the object lies outside of the frame")
    found = filled.copy()
    if filled.mean() < 0.95:  # what lies outside of the box states what the background looks like
        cv2.setRNGSeed(0)
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
        labels = np.where(filled > 0, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
        shown = small[..., ::-1].copy()
        cv2.grabCut(shown, labels, (0, 0, 1, 1), background, foreground, 5, cv2.GC_INIT_WITH_MASK)
        found = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    if found.sum() < 0.05 * filled.sum():
        found = filled
    return cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _objects(job_queue: JobQueue, model: str | None, pixels: np.ndarray) -> Detections | None:
    """What a model finds, from its threshold on; None where it finds no objects."""
    from visionkit.predictions import Detections

    registry = job_queue.model_registry
    entry = next((each for each in registry.entries() if model and each.name == model.strip()), None)
    known = registry.known(entry) if entry is not None else None
    if not model or (known is not None and known.task and not finds_boxes(known)):
        return None
    found = job_queue.ask(model, ImageSource(pixels, "first frame"), channel="video").prediction
    return found.above() if isinstance(found, Detections) else None


def follow(
    job_queue: JobQueue, asked: ObjectRequest, folder: Path, is_stopped: Callable[[], bool] = lambda: False
) -> Generator[VideoProgress, None, None]:
    """Follows or cuts out one object, as `ui.videos.watch` goes through a video.

    Args:
        job_queue: Where frames are processed, each in its turn with what others ask.
        asked: What is asked.
        folder: For the files.
        is_stopped: Asked before each frame; where it is so, the video ends there.

    Raises:
        VisionKitError: No video, or a box that is none of it.
    """
    if asked.upload is None:
        raise UsageError("give a video first")
    if len(asked.box) != 4:
        raise UsageError("mark the object in the first frame first: click it, or draw a box around it")
    size = first_frame(asked.upload, job_queue.limits.megapixels).shape
    if asked.box[0] >= size[1] or asked.box[1] >= size[0] or asked.box[2] <= 0 or asked.box[3] <= 0:
        raise UsageError(f"the box of the object lies outside of the frame, which has {size[1]} x {size[0]} pixels")

    def begin(rate: float) -> FollowedObject | CutObject:
        return FollowedObject(job_queue, asked) if asked.method else CutObject(job_queue, asked)

    yield from go_through(job_queue, asked.upload, asked.rate, folder, is_stopped, begin)


class FollowedObject:
    """Follows an object by a box.

    Args:
        job_queue: Where the tracker runs.
        asked: What is asked.
    """

    parts: Collection[str] = (TEXT,)
    followed = None

    def __init__(self, job_queue: JobQueue, asked: ObjectRequest) -> None:
        self.job_queue, self.asked = job_queue, asked
        self._tracker: VisualTracker | None = None

    def step(self, frame: Frame) -> ShownFrame:
        """The object in the next frame."""
        box, score = self.job_queue.in_turn(lambda: self._found(frame), "video")
        tracks = object_tracks(frame, box, score)
        message = f"{OBJECT} at {', '.join(f'{value:.0f}' for value in box)}, match {score:.2f}"
        return ShownFrame(as_sent(tracks.draw(frame.pixels)), message, tracks.to_json(), tracks)

    def _found(self, frame: Frame) -> tuple[np.ndarray, float]:
        from visionkit.following.visual_tracker import make_visual_tracker

        if self._tracker is None:
            self._tracker = make_visual_tracker(str(self.asked.method))
            self._tracker.begin(frame.pixels, self.asked.box)
            return self._tracker.box, 1.0
        box, score = self._tracker.update(frame.pixels)
        return box, score


class CutObject:
    """Cuts an object out, to the pixel.

    Args:
        job_queue: Where the method runs.
        asked: What is asked.
    """

    parts: Collection[str] = (MASKS,)
    followed = None

    def __init__(self, job_queue: JobQueue, asked: ObjectRequest) -> None:
        self.job_queue, self.asked = job_queue, asked
        self._propagator: Propagator | None = None

    def step(self, frame: Frame) -> ShownFrame:
        """The object in the next frame."""
        if self._propagator is None:
            first = mask_in(self.job_queue, self.asked.model, frame.pixels, self.asked.box)
            mask = self.job_queue.in_turn(lambda: self._begun(frame, first), "video")
        else:
            propagator = self._propagator
            mask = self.job_queue.in_turn(lambda: propagator.update(frame.pixels) > 0, "video")
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        there = bool(len(rows))
        box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1] if there else None
        record: dict[str, Any] = {"kind": "object_mask", "box": box, "pixels": int(mask.sum())}
        message = f"{OBJECT} of {record['pixels']:,} pixels" if there else "the object is not in sight"
        return ShownFrame(as_sent(cut_out(frame.pixels, mask)), message, record, mask=mask)

    def _begun(self, frame: Frame, mask: np.ndarray) -> np.ndarray:
        from visionkit.families.propagation.propagator import make_propagator

        self._propagator = make_propagator(PROPAGATOR, arguments={"short_side": CUT_SIDE})
        found: np.ndarray = self._propagator.begin(frame.pixels, mask) > 0
        return found


def cut_out(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The frame with everything but the object dark and gray.

    Args:
        pixels: (h, w, 3) uint8 RGB.
        mask: (h, w) bool.
    """
    gray = (pixels @ np.array([0.3, 0.59, 0.11], np.float32) * 0.35 + 20).astype(np.uint8)
    return np.where(mask[..., None], pixels, gray[..., None])
