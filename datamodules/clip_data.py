"""Drawn clips as ready data: sequences of objects with ids, no files, labels that are exactly right."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np

from datamodules.class_names import index_classes
from visionkit.augmentation import Augmentation
from visionkit.data import Split, VisionDataModule
from visionkit.errors import UsageError, suggest
from visionkit.families.detection.motion_speed import motion_ious
from visionkit.images import ImageSource
from visionkit.synthetic import OBJECT_CLASSES, ClipSettings, make_clip
from visionkit.synthetic.clips import ClipFrame
from visionkit.tracking.protocols import PROTOCOLS
from visionkit.tracking.rows import TrackRows
from visionkit.tracking.track_evaluation import measure_tracks
from visionkit.types import Sample

ClipTarget = Literal["boxes", "masks", "depth", "motion"]
Extent = Literal["visible", "whole"]

_FIRST: dict[Split, int] = {"train": 0, "val": 1_000_000_000, "test": 2_000_000_000}

_KEPT_BYTES = 1 << 29
"""Bytes of the images of clips that a process keeps."""


class ClipData(VisionDataModule):
    """Clips drawn on the way, the same ones for the same seed; their frames are samples, each clip a sequence.

    Objects that are hardly seen are crowds: training leaves them out, and metrics count them neither way.

    Args:
        target: Target of the task: `boxes`, `masks`, `depth`, or `motion` of the camera: intrinsics, pose and depth.
        count: Training clips.
        eval_count: Clips of validation and of test, each.
        clip: How clips are drawn: size, length, speed, blur and others.
        clip_seed: Another one gives other clips; the run's seed does not change them.
        extent: Boxes of the `visible` part of objects, or of the `whole`, hidden parts included, as tracking has them;
            what is outside the image is cut off.
        min_visibility: Fraction of an object that is seen, below which it is a crowd.
        tracker: Tracker that follows the detections in evaluation, measured as MOTChallenge does, all classes together;
            by default none.
        augment: Changes training samples.
        **base: See `VisionDataModule`.

    Example:
        >>> data = ClipData(count=4)
        >>> data.samples("train")[9].target["track_ids"].shape == data.samples("train")[9].target["labels"].shape
        True
    """

    def __init__(
        self,
        target: ClipTarget = "boxes",
        *,
        count: int = 100,
        eval_count: int = 20,
        clip: ClipSettings | None = None,
        clip_seed: int = 0,
        extent: Extent = "visible",
        min_visibility: float = 0.1,
        tracker: str = "",
        augment: Augmentation | None = None,
        **base: Any,
    ) -> None:
        super().__init__(augment=augment, **base)
        for key, value, kind in (("target", target, ClipTarget), ("extent", extent, Extent)):
            if value not in get_args(kind):
                allowed = get_args(kind)
                raise UsageError(f"data.{key} {value!r}: allowed are {', '.join(allowed)}{suggest(value, allowed)}")
        if min(count, eval_count) < 1:
            raise UsageError(f"ClipData: count {count} and eval_count {eval_count} must be at least 1")
        if not 0 <= min_visibility <= 1:
            raise UsageError(f"data.min_visibility {min_visibility:g}: allowed is a fraction from 0 to 1")
        self.target, self.counts = target, {"train": count, "val": eval_count, "test": eval_count}
        self.clip, self.clip_seed = clip or ClipSettings(), clip_seed
        self.extent, self.min_visibility, self.tracker = extent, min_visibility, tracker
        names = self.discover_classes(target)
        self.classes = self.classes or tuple(names)
        index_classes(dict.fromkeys(names, f"ClipData target {target!r}"), self.classes)

    @classmethod
    def discover_classes(cls, target: str = "boxes", **init_args: Any) -> list[str]:
        """The names of what clips show; no clip is drawn for it."""
        return [] if target in ("depth", "motion") else list(OBJECT_CLASSES)

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The frames of one split, those of a clip in order; a clip is drawn when it is first asked for, and kept."""
        return ClipFrames(self, split)

    def setup(self, stage: str) -> None:
        """Also adds the evaluation of tracks to the trainer."""
        super().setup(stage)
        if self.tracker and stage in ("validate", "test"):
            frames = self.dataset("val" if stage == "validate" else "test")
            assert isinstance(frames, ClipFrames)
            measure_tracks(self.trainer, self.tracker, frames.truth, PROTOCOLS["mot15"])


class ClipFrames(Sequence[Sample]):
    """The frames of clips as samples.

    Args:
        data: Its data module.
        split: `train`, `val` or `test`.
    """

    def __init__(self, data: ClipData, split: Split) -> None:
        self.target, self.extent, self.least = data.target, data.extent, data.min_visibility
        self.settings, self.seed, self.split = data.clip, data.clip_seed, split
        self.clips = data.counts[split]
        self.numbers = np.array([data.classes.index(name) for name in data.discover_classes(data.target)], np.int64)
        self.kept: dict[int, list[Sample]] = {}

    def __len__(self) -> int:
        return self.clips * self.settings.length

    @property
    def ids(self) -> list[str]:
        """What the samples will be called; none is drawn for it."""
        length = self.settings.length
        return [f"{self._name(k // length)}/{k % length}" for k in range(len(self))]

    def sequences(self) -> Sequence[str]:
        """See `visionkit.sequences.SequencedSamples`."""
        return [self._name(clip) for clip in range(self.clips) for _ in range(self.settings.length)]

    def truth(self, sequence: str) -> TrackRows:
        """The tracks of one clip, in frames from 1; hardly seen objects are marked with a score of 0.

        Args:
            sequence: Name of the clip.
        """
        clip = int(sequence.removeprefix("clip-")) - _FIRST[self.split]
        rows = [
            (sample.frame + 1, *values)
            for sample in self._clip(clip)
            for values in zip(
                sample.target["track_ids"].tolist(),
                sample.target["boxes"].tolist(),
                (1 - sample.target["iscrowd"]).tolist(),
                strict=True,
            )
        ]
        frames, ids, boxes, scores = zip(*rows, strict=True) if rows else ((), (), (), ())
        return TrackRows(np.array(frames), np.array(ids), np.array(boxes, float), np.array(scores), name=sequence)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        clip, frame = divmod(range(len(self))[index], self.settings.length)
        sample = self._clip(clip)[frame]
        if self.split != "train" or "boxes" not in sample.target:
            return sample
        seen = sample.target["iscrowd"] == 0
        rows = {key: values[seen] for key, values in sample.target.items() if not key.startswith("file_")}
        return sample.changed(target=rows)

    def _name(self, clip: int) -> str:
        return f"clip-{_FIRST[self.split] + clip}"

    def _clip(self, clip: int) -> list[Sample]:
        if clip not in self.kept:
            frames = _frames(self.seed, _FIRST[self.split] + clip, self.settings)
            targets: list[Any] = [self._known(frame) for frame in frames]
            if self.target in ("boxes", "masks"):
                self._add_motion(targets)
            name = self._name(clip)
            self._make_room(frames)
            self.kept[clip] = [
                Sample.of(ImageSource(frame.image, f"{name}/{k}"), target, f"{name}/{k}", sequence=name, frame=k)
                for k, (frame, target) in enumerate(zip(frames, targets, strict=True))
            ]
        return self.kept[clip]

    def _known(self, frame: ClipFrame) -> Any:
        if self.target == "depth":
            return {"depth": frame.depth}
        if self.target == "motion":
            intrinsics = np.array(frame.camera, dtype=np.float32)
            return {"intrinsics": intrinsics, "pose": frame.pose, "depth": frame.depth}
        return self._objects(frame)

    def _make_room(self, frames: Sequence[ClipFrame]) -> None:
        """Drops the clips that were drawn longest ago, where all of them would take too much memory."""
        most = max(1, _KEPT_BYTES // sum(each.image.nbytes for each in frames))
        while len(self.kept) >= most:
            self.kept.pop(next(iter(self.kept)))

    def _objects(self, frame: ClipFrame) -> Any:
        height, width = frame.ids.shape
        boxes = np.array([each.box if self.extent == "visible" else each.whole for each in frame.objects], np.float32)
        boxes = boxes.reshape(-1, 4).clip(0, (width, height, width, height))
        sides = boxes[:, 2:] - boxes[:, :2]
        ids = np.array([each.id for each in frame.objects], np.int64)
        target: dict[str, Any] = {
            "boxes": boxes,
            "labels": self.numbers[[each.label for each in frame.objects]],
            "area": sides.prod(axis=1).astype(np.float64),
            "iscrowd": np.array([each.visibility < self.least for each in frame.objects], np.int64),
            "track_ids": ids,
        }
        if self.target == "masks":
            target["masks"] = frame.ids[None] == ids[:, None, None]
            target["area"] = np.array([each.area for each in frame.objects], np.float64)
        return target

    @staticmethod
    def _add_motion(targets: Sequence[Any]) -> None:
        counts = [len(each["track_ids"]) for each in targets]
        frames = np.repeat(np.arange(len(targets)), counts)
        ids, boxes = (np.concatenate([each[key] for each in targets]) for key in ("track_ids", "boxes"))
        motion = motion_ious(frames, ids, boxes)
        for each, part in zip(targets, np.split(motion, np.cumsum(counts)[:-1]), strict=True):
            each["file_motion"] = part


@lru_cache(maxsize=4)
def _frames(seed: int, index: int, settings: ClipSettings) -> list[ClipFrame]:
    """Data modules that are read side by side ask for the same clip one after the other; it is drawn once."""
    clip = make_clip(seed, index, settings)
    return [clip.frame(number) for number in range(len(clip))]
