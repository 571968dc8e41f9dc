"""Pairs of images and the true flow between them as samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from datamodules.flow_files import read_flow
from datamodules.flow_layouts import LAYOUTS, FlowPair, find_pairs
from datamodules.pairing import check_same_size
from datamodules.splits import SPLITS
from datamodules.splitting import SplittingData
from datamodules.value_files import read_values
from visionkit.data import Split
from visionkit.data_summary import SplitSummary
from visionkit.errors import UsageError, suggest
from visionkit.images import ImageSource
from visionkit.types import Sample

Rendering = Literal["clean", "final"]


class FlowSamples(Sequence[Sample]):
    """Samples of a set of optical flow; images and flow are read when a sample is asked for.

    Args:
        pairs: Files of each sample.
    """

    def __init__(self, pairs: Sequence[FlowPair]) -> None:
        self.pairs = list(pairs)
        # A batch has the same targets for all of its samples.
        self.states_occluded = all(pair.occluded or pair.visible_flow for pair in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def names(self) -> list[str]:
        """The path of the first image of each pair."""
        return [str(pair.first) for pair in self.pairs]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        pair = self.pairs[index]
        inputs = {"first": ImageSource(pair.first), "second": ImageSource(pair.second)}
        return Sample(inputs, self._target(pair, inputs["first"]), str(pair.first))

    def _target(self, pair: FlowPair, image: ImageSource) -> Any:
        """Flow, where it is valid, and where the whole set states it, what is occluded."""
        flow, valid = read_flow(pair.flow)
        check_same_size(image, flow.shape[1:], str(pair.flow), "flow")
        if pair.invalid is not None:
            valid &= ~_mask(pair.invalid, image)
        target: dict[str, Any] = {"flow": flow, "valid": valid}
        if self.states_occluded and pair.occluded is not None:
            target["occluded"] = _mask(pair.occluded, image)
        elif self.states_occluded and pair.visible_flow is not None:
            visible = read_flow(pair.visible_flow)[1]
            check_same_size(image, visible.shape, str(pair.visible_flow), "flow")
            target["occluded"] = valid & ~visible
        return target


def _mask(path: Path, image: ImageSource) -> np.ndarray:
    """(h, w) bool: what is not black."""
    values = read_values(path, "mask").array
    values = values if values.ndim == 2 else values.max(axis=2)
    check_same_size(image, values.shape, str(path), "mask")
    mask: np.ndarray = values > 0
    return mask


class FlowData(SplittingData):
    """Pairs of images and the true flow between them, in the layout of one of the published sets or in folders.

    Args:
        root: The folder.
        layout: `sintel`, `chairs`, `kitti`, `middlebury`; `folders` (`first`, `second`, `flow`, files of one name) or
            `frames` (`frames`, `flow`: of each frame to the next one of its folder). By default what is found.
        rendering: Of Sintel, the images: `clean` or `final`.
        val_sequences: Scenes that are for validation in place of a fraction of all pairs: frames of one scene are
            alike.
        **base: See `SplittingData`.

    Example:
        >>> data = FlowData("FlyingChairs_release", input=task.input)
        >>> data.samples("train")[0].target["flow"].shape
        (2, 384, 512)
    """

    def __init__(
        self,
        root: str,
        *,
        layout: str | None = None,
        rendering: Rendering = "clean",
        val_sequences: Sequence[str] = (),
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if layout is not None and layout not in LAYOUTS:
            raise UsageError(f"data.layout {layout!r}: allowed are {', '.join(LAYOUTS)}{suggest(layout, LAYOUTS)}")
        if rendering not in get_args(Rendering):
            raise UsageError(f"data.rendering {rendering!r}: allowed are {', '.join(get_args(Rendering))}")
        self.root, self.layout, self.rendering = Path(root), layout, rendering
        self.val_sequences = tuple(val_sequences)
        self._found: dict[Split, list[FlowPair]] | None = None
        self._source = ""

    @property
    def found(self) -> dict[Split, list[FlowPair]]:
        """The pairs of each split."""
        if self._found is None:
            self._found = self._find()
        return self._found

    def _find(self) -> dict[Split, list[FlowPair]]:
        name, pairs = find_pairs(self.root, self.layout, self.rendering)
        self._source = f"{self.root}, {name}"
        known = {pair.sequence for pair in pairs}
        for sequence in self.val_sequences:
            if sequence not in known:
                raise UsageError(
                    f"data.val_sequences: no scene {sequence!r} in {self.root}{suggest(sequence, sorted(known))}"
                )
        named: dict[Split, list[FlowPair]] = {split: [] for split in SPLITS}
        for pair in pairs:
            named["val" if pair.sequence in self.val_sequences else pair.split or "train"].append(pair)
        pool = named["train"]
        absent = self.absent([split for split in SPLITS if named[split]])
        rows = self.split_off([str(pair.first) for pair in pool], absent)
        return named | {split: [pool[row] for row in rows[split]] for split in ("train", *absent)}

    def dataset(self, split: Split) -> Sequence[Sample]:
        if not self.found[split]:
            raise self.missing(split, self._source)
        return FlowSamples(self.found[split])

    def summary(self, split: Split) -> SplitSummary:
        """Number of pairs, and whether it is known what is occluded."""
        samples = self.samples(split)
        assert isinstance(samples, FlowSamples)
        source = self.part_of(split, self._source) if split in self._absent else self._source
        notes = ["what is occluded is known"] if samples.states_occluded else []
        return SplitSummary(split, len(samples), source, notes=notes)
