"""Rectified pairs of images with the disparity of the left one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datamodules.class_names import shorten
from datamodules.disparity_files import read_disparity
from datamodules.pairing import check_same_size
from datamodules.rectification import displacement
from datamodules.splitting import EveryNthSplits
from datamodules.stereo_layouts import StereoFiles, find_pairs
from datamodules.value_files import read_values
from visionkit.augmentation import Augmentation
from visionkit.data import Split
from visionkit.data_summary import SplitSummary
from visionkit.errors import UsageError
from visionkit.images import ImageSource
from visionkit.types import Sample

log = logging.getLogger(__name__)

Rendering = Literal["frames_cleanpass", "frames_finalpass"]

_PROBES = 4
_MOST_VERTICAL = 1.5  # pixels; keypoints lie on whole pixels of reduced images


class StereoData(EveryNthSplits):
    """Pairs in one of these layouts, which are distinguished by what is there.

    `left/`, `right/` and `disparity/` with files of one name, as they are or below `train/`, `val/` and `test/`; scenes
    of Middlebury (2001 to 2014 and its evaluation) and ETH3D; KITTI 2012 and 2015; SceneFlow.

    Args:
        root: The folder.
        scale: Numbers of the disparity files that stand for a pixel; by default 256 for 16 bits, 1 for floats, and 4
            for Middlebury's pairs of 2003 (`im2`, `im6`).
        rendering: Which images of SceneFlow are taken.
        val_every: Where the data names no validation split, each n-th training pair in order is for validation; 0 none.
        test_every: The same for testing; test pairs are taken first.
        augment: Changes training samples, see `PairAugment`.
        **base: See `VisionDataModule`.

    Example:
        >>> data = StereoData("kitti2015", val_every=5, input=task.input)
        >>> data.samples("train")[0].target["disparity"].shape
        (375, 1242)
    """

    def __init__(
        self,
        root: str,
        *,
        scale: float | None = None,
        rendering: Rendering = "frames_cleanpass",
        val_every: int = 8,
        test_every: int = 0,
        augment: Augmentation | None = None,
        **base: Any,
    ) -> None:
        super().__init__(val_every=val_every, test_every=test_every, augment=augment, **base)
        if scale is not None and not scale > 0:
            raise UsageError(f"data.scale {scale}: a number above 0, such as 256 for KITTI's files")
        self.root, self.scale, self.rendering = Path(root), scale, rendering
        self._rows: dict[Split, list[StereoFiles]] | None = None

    def _found(self) -> dict[Split, list[StereoFiles]]:
        """The pairs of each split."""
        if self._rows is None:
            pairs = find_pairs(self.root, self.rendering)
            rows = self.hold_out(lambda row: str(pairs[row].left), np.array([pair.split for pair in pairs]))
            self._rows = {split: [pairs[row] for row in each] for split, each in rows.items()}
        return self._rows

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The pairs of one split; none is read yet."""
        pairs = self._found()[split]
        if not pairs:
            raise self.missing(split, str(self.root))
        return StereoSamples(pairs, self.scale)

    def summary(self, split: Split) -> SplitSummary:
        """Number of pairs and the range of the disparity of some, which are also tried for being rectified."""
        samples = self.samples(split)
        assert isinstance(samples, StereoSamples)
        chosen = np.unique(np.linspace(0, len(samples) - 1, _PROBES).astype(int))
        known: list[np.ndarray] = []
        missing: list[float] = []
        for position in chosen:
            disparity = samples[int(position)].target["disparity"]
            known.append(disparity[disparity > 0])
            missing.append(float((disparity == 0).mean()))
        warn_of_unrectified([samples.pairs[int(position)] for position in chosen], split)
        values = np.concatenate(known)
        if not len(values):
            log.warning("%s: %d of the pairs were read, and none has a measured disparity", split, len(chosen))
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
        own = split not in self._absent
        source = str(self.root) if own else f"each {self.every[split]}th of {self.root}, which names no {split} split"
        note = f"disparity: {low:.3g} to {high:.3g} px in {len(chosen)} pairs; {np.mean(missing):.1%} not measured"
        return SplitSummary(split, len(samples), source, notes=[note])


class StereoSamples(Sequence[Sample]):
    """Pairs of files as samples.

    Args:
        pairs: The files.
        scale: See `StereoData`.
    """

    def __init__(self, pairs: Sequence[StereoFiles], scale: float | None) -> None:
        self.pairs, self.scale = pairs, scale
        # A batch has the same keys for all of its samples.
        self.both_sides = all(pair.right_disparity is not None for pair in pairs)
        self.has_occlusion = all(pair.visible is not None for pair in pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def names(self) -> list[str]:
        """The path of each left image."""
        return [str(pair.left) for pair in self.pairs]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        pair = self.pairs[index]
        left, right = ImageSource(pair.left), ImageSource(pair.right)
        check_same_size(left, right.size, right.name, "right image")
        disparity = self._read(pair, pair.disparity, left)
        target: Any = {"disparity": disparity, "valid": disparity > 0}
        if self.both_sides and pair.right_disparity is not None:
            target["right_disparity"] = self._read(pair, pair.right_disparity, left)
        if self.has_occlusion and pair.visible is not None:
            target["occluded"] = self._occluded(pair, pair.visible, left, disparity)
        return Sample({"left": left, "right": right}, target, left.name)

    def _read(self, pair: StereoFiles, path: Path, image: ImageSource) -> np.ndarray:
        disparity = read_disparity(path, self.scale or pair.scale)
        check_same_size(image, disparity.shape, str(path), "disparity map")
        return disparity

    def _occluded(self, pair: StereoFiles, path: Path, image: ImageSource, disparity: np.ndarray) -> np.ndarray:
        if pair.occlusion == "noc":
            hidden = self._read(pair, path, image) == 0
        else:
            mask = read_values(path, "occlusion mask").array
            mask = mask if mask.ndim == 2 else mask[..., 0]
            check_same_size(image, mask.shape, str(path), "occlusion mask")
            hidden = mask < 255
        occluded: np.ndarray = (disparity > 0) & hidden
        return occluded


def warn_of_unrectified(pairs: Sequence[StereoFiles], split: str) -> None:
    """Warns of pairs whose points do not lie in the same rows, or whose images are exchanged.

    Args:
        pairs: Pairs that are tried.
        split: For the messages.
    """
    tilted: list[str] = []
    exchanged: list[str] = []
    most = 0.0
    for pair in pairs:
        found = displacement(*(ImageSource(path).read(1)[..., 0] for path in (pair.left, pair.right)))
        if found is None:
            continue
        if found.vertical > _MOST_VERTICAL:
            tilted.append(pair.left.name)
            most = max(most, found.vertical)
        elif found.disparity < -1:
            exchanged.append(pair.left.name)
    if tilted:
        log.warning(
            "%s: %d of %d pairs are not rectified (%s): the same points lie up to %.1f px higher or lower in the right "
            "image (median of a pair); rectify them with the cameras' calibration",
            *(split, len(tilted), len(pairs), shorten(tilted, 3), most),
        )
    if exchanged:
        log.warning(
            "%s: in %d of %d pairs (%s) points lie further right in the right image, so left and right are most likely "
            "exchanged",
            *(split, len(exchanged), len(pairs), shorten(exchanged, 3)),
        )
