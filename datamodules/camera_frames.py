"""Videos of a moving camera with known intrinsics: frames to train on, true poses and depth to measure with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.camera_sequences import CameraSequence, SequenceReader
from datamodules.depth_data import check_unit
from datamodules.depth_files import read_depth
from datamodules.frames import OfSequences
from datamodules.image_store import FileStore, PixelCache, StoredImages, split_rows
from datamodules.pairing import check_same_size
from datamodules.splits import SPLITS
from datamodules.splitting import SplittingData, last_parts
from visionkit.camera import CameraIntrinsics
from visionkit.data import Split
from visionkit.data_summary import SplitSummary
from visionkit.errors import UsageError
from visionkit.images import ImageSource
from visionkit.types import Sample
from visionkit.wording import counted


class CameraFrameStore(FileStore):
    """The frames of sequences, by number over all of them.

    Args:
        sequences: The sequences.
        units_per_meter: Of files of depth, see `read_depth`.
    """

    def __init__(self, sequences: Sequence[CameraSequence], units_per_meter: float | None) -> None:
        super().__init__(Path(), [frame for each in sequences for frame in each.frames])
        self.sequences, self.units = sequences, units_per_meter
        counts = [len(each.frames) for each in sequences]
        self.owner = np.repeat(np.arange(len(sequences)), counts)
        self.position = np.concatenate([np.arange(count) for count in counts])

    def place(self, number: int) -> tuple[CameraSequence, int]:
        """The sequence of a frame and its position in it."""
        return self.sequences[self.owner[number]], int(self.position[number])

    def source(self, number: int) -> ImageSource:
        """The frame."""
        sequence, position = self.place(number)
        return ImageSource(sequence.pixels[position] if sequence.pixels else self.name(number), self.name(number))


class CameraFrames(OfSequences, StoredImages[CameraFrameStore]):
    """Frames with the intrinsics of their camera, and with what else is known of them where it is measured.

    Args:
        store: Frames of all splits.
        rows: Numbers of those that belong here, (n,) int.
        cache: Decoded frames by position, or None.
        measured: Give true poses and depth too, NaN and 0 where a sequence has none and another one has.
    """

    def __init__(self, store: CameraFrameStore, rows: np.ndarray, cache: PixelCache | None, measured: bool) -> None:
        super().__init__(store, rows, cache)
        self.places = [(sequence.name, position) for sequence, position in map(store.place, rows.tolist())]
        own = [store.sequences[k] for k in np.unique(store.owner[rows])]
        self.own = own
        self.has_poses = measured and any(each.poses is not None for each in own)
        self.has_depth = measured and any(any(each.depths) for each in own)

    def target(self, index: int, image: ImageSource) -> Any:
        """The intrinsics, and the pose and depth that are measured."""
        sequence, position = self.store.place(int(self.rows[index]))
        known: dict[str, Any] = {"intrinsics": sequence.intrinsics}
        if self.has_poses:
            known["pose"] = np.full((4, 4), np.nan) if sequence.poses is None else sequence.poses[position]
        if self.has_depth:
            known["depth"] = self._depth(sequence.depths[position], image)
        return known

    def _depth(self, path: str, image: ImageSource) -> np.ndarray:
        if not path:
            return np.zeros(image.size, dtype=np.float32)
        depth = read_depth(path, self.store.units)
        check_same_size(image, depth.shape, path, "depth map")
        return depth


class CameraFramesData(SplittingData):
    """Videos of one's own for camera motion: folders of frames and video files, each of them a sequence.

    Only the intrinsics of the camera must be known. True poses and depth are measured in evaluation and never trained
    on: `poses.txt`, a KITTI text with one line per frame, and files of the frames' names in a folder `depth`. These and
    `intrinsics.txt` lie beside the frames of a folder or in a folder above, up to the root; poses and depth only where
    no other sequence lies below that. Files of `walk.mp4` are `walk.intrinsics.txt` and `walk.poses.txt`.

    Args:
        root: Folder of the training videos, searched deeply: folders of frames in the order of their names, and video
            files; or one video file. Folders that are called `depth` hold no frames.
        val_root: The same for validation; by default sequences of `root` are split off.
        test_root: The same for testing.
        intrinsics: fx, fy, cx, cy in pixels of the frames, for sequences without an `intrinsics.txt`; cx is .5 in the
            middle of the first pixel. The file holds these four numbers, or a 3x3 matrix as calibration tools write it:
            there cx is 0 in the middle of the first pixel, so half a pixel is added. The nearest file wins.
        pattern: Chooses among frames that are images, such as `*.jpg`.
        units_per_meter: What stands for a meter in files of depth; by default 1000 for whole numbers and 1 for floats.
        val_fraction: Fraction of the sequences that is split off for validation where `val_root` is not given, at least
            one; of too few sequences the last part of each. 1 takes all of them, for a model that was trained on
            others.
        cache_mb: MiB in which decoded frames are kept. Those of video files must fit in.
        **base: See `SplittingData`.

    Example:
        >>> data = CameraFramesData("videos", intrinsics=[520, 520, 320, 240])
        >>> data.samples("val")[0].target["intrinsics"].tolist()
        [520.0, 520.0, 320.0, 240.0]
    """

    def __init__(
        self,
        root: str = "",
        *,
        val_root: str | None = None,
        test_root: str | None = None,
        intrinsics: Sequence[float] | None = None,
        pattern: str = "*",
        units_per_meter: float | None = None,
        val_fraction: float = 0.1,
        cache_mb: int = 1024,
        **base: Any,
    ) -> None:
        super().__init__(val_fraction=val_fraction, **base)
        self.roots: dict[Split, str | None] = {"train": root or None, "val": val_root, "test": test_root}
        check_unit(units_per_meter)
        self.intrinsics: CameraIntrinsics | None = None
        if intrinsics is not None:
            try:
                self.intrinsics = CameraIntrinsics.parse(",".join(map(str, intrinsics)))
            except UsageError:
                raise UsageError(
                    f"data.intrinsics {list(intrinsics)}: give four numbers [fx,fy,cx,cy] in pixels of the frames, "
                    "fx and fy above 0"
                ) from None
        self.pattern, self.units_per_meter, self.cache_mb = pattern, units_per_meter, cache_mb
        self._stores: dict[str, CameraFrameStore] = {}
        self._passed_over: dict[str, Mapping[str, int]] = {}

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The frames of one split, those of a sequence in order.

        Raises:
            DataError: A sequence without intrinsics, with frames of different sizes, or with another number of poses.
        """
        root, absent = self._root(split), self._split_off()
        if root not in self._stores:
            reader = SequenceReader(root, self.pattern, self.intrinsics, self.cache_mb)
            self._stores[root] = CameraFrameStore(reader.read(), self.units_per_meter)
            self._passed_over[root] = reader.passed_over
        store = self._stores[root]
        rows = np.arange(len(store))
        if split in ("train", *absent):
            rows = self.split_off([store.name(k) for k in range(len(store))], absent, store.owner)[split]
            if not len(rows):
                raise self.missing(split, root)
        channels = self.input.channels if self.input else 3
        is_decoded = any(each.pixels for each in store.sequences)
        cache = None if is_decoded else PixelCache.for_images(store, rows, channels, self.cache_mb)
        return CameraFrames(store, rows, cache, measured=split != "train")

    def divided(
        self, groups: np.ndarray, wanted: dict[Split, float], order: np.ndarray | None
    ) -> dict[Split, np.ndarray]:
        """Whole sequences are held back, or the last part of each where there are too few of them."""
        count = int(groups.max()) + 1
        if count <= len(wanted):
            return last_parts(groups, wanted, least=1)
        chosen = split_rows(np.zeros(count, dtype=np.int64), wanted, self.split_seed)
        return {split: np.flatnonzero(np.isin(groups, some)) for split, some in chosen.items()}

    def summary(self, split: Split) -> SplitSummary:
        """Number of frames and sequences, and what is known of them."""
        samples, root = self.samples(split), self._root(split)
        frames: Any = getattr(samples, "samples", samples)  # clips are made of them
        own: list[CameraSequence] = frames.own
        source = root if self.roots[split] is not None else self.part_of(split, root)
        notes = [counted(len(own), "sequence")]
        if split != "train":
            posed = sum(each.poses is not None for each in own)
            deep = sum(any(each.depths) for each in own)
            notes[0] += f"; measured are poses of {posed} and depth of {deep}"
        return SplitSummary(split, len(samples), source, passed_over=self._passed_over.get(root, {}), notes=notes)

    def _split_off(self) -> list[Split]:
        return self.absent([split for split in SPLITS if self.roots[split] is not None])

    def _root(self, split: Split) -> str:
        root = self.roots["train" if split in self._split_off() else split]
        if root is None and split in ("train", *self._split_off()):
            raise UsageError("data: there are no videos to train on; give their folder with --data.root")
        if root is None:
            raise self.missing(split, f"data.{split}_root is not given")
        return root
