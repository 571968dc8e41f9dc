"""The one base of readers that split images off the training images, where the data names no split for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from datamodules.image_store import check_fractions, split_rows
from datamodules.splits import SPLITS
from visionkit.data import Split, VisionDataModule
from visionkit.data_summary import fingerprint
from visionkit.errors import UsageError

log = logging.getLogger(__name__)

_FACTS = ("apart", "split_off", "number", "images", "train")  # of `splits_made`; the others are options


class NotedSplits(VisionDataModule):
    """A data module that keeps how it split images off the training images, so that none is trained on and evaluated.

    Every checkpoint has it (`splits_made`); an evaluation compares.
    """

    split_by = ("fraction", "0.1")
    """What the option that splits images off is called after the split, and a usual value."""

    def __init__(self, **base: Any) -> None:
        super().__init__(**base)
        self._made: dict[str, Any] = {}
        self._absent: frozenset[Split] = frozenset()

    @property
    def split_options(self) -> dict[str, float]:
        """The options that decide which images are split off, by name."""
        return {}

    @property
    def splits_made(self) -> dict[str, Any]:
        return {**super().splits_made, **self._made}

    def note_split(self, files: Sequence[str], train: np.ndarray, absent: Collection[Split]) -> None:
        """Keeps how the images were split, for the checkpoint.

        Args:
            files: Paths of the images before any were split off.
            train: Rows of those that are trained on.
            absent: Splits that were split off.
        """
        self._absent = frozenset(absent)
        self._made = {
            **self.split_options,
            "split_off": sorted(absent),
            "number": len(files),
            "images": fingerprint(files),
            "train": fingerprint([files[row] for row in train]),
        }

    def missing(self, split: Split, what: str) -> UsageError:
        """The error where a split is neither named nor split off.

        Args:
            split: `train`, `val` or `test`.
            what: The data, and where the split was looked for.
        """
        by, usual = self.split_by
        if split == "train":
            return UsageError(f"{what}: no images to train on, or none left after data.val_{by} and data.test_{by}")
        advice = f"set --data.val_{by} {usual} to split some of the training images off"
        if split == "test":
            advice = (
                "`visionkit validate --ckpt_path RUN` measures on the validation split; to have a test split, train "
                f"with --data.test_{by} {usual} from the beginning"
            )
        return UsageError(f"{what}: no {split} split and data.{split}_{by} is 0; {advice}")

    def check_trained(self, split: Split) -> None:
        self.samples(split)
        if split not in self._absent:
            return
        made, now, (by, usual) = self.trained, self._made, self.split_by
        option = f"data.{split}_{by} {self.split_options.get(f'{split}_{by}', 0):g}"
        if made.get("images") == now["images"]:
            whole = self.split_options.get(f"{split}_fraction") == 1
            if not whole and made.get("train") == now["train"]:
                return
            options = {key: value for key, value in made.items() if key not in _FACTS and value != now.get(key)}
            then = ", ".join(f"data.{key} {value}" for key, value in options.items())
            advice = "leave these options as they were in training"
            if split == "test" and split not in (made.get("split_off") or ()):
                advice = (
                    f"use `visionkit validate --ckpt_path RUN`, or train with --data.test_{by} {usual} from the "
                    "beginning"
                )
            raise UsageError(
                f"{option}: the model was trained on these images{f' with {then}' if then else ''}, so the {split} "
                f"images that are split off now are among those that it was trained on; {advice}"
            )
        known = f"the model was trained on other data ({made['number']} images)" if made.get("number") else ""
        log.warning(
            "%s: %s images are split off the training images of this data; the result means something only for a model "
            "that was not trained on them (%s)",
            *(option, split, known or "the model does not state how its training data was split"),
        )


class EveryNthSplits(NotedSplits):
    """Base of readers that take each n-th training image in order for a split that the data does not name.

    Args:
        val_every: Where the data names no validation split, each n-th training image in order is for validation; 0
            none.
        test_every: The same for testing; test images are taken first.
        **base: See `VisionDataModule`.
    """

    split_by = ("every", "8")

    def __init__(self, *, val_every: int = 8, test_every: int = 0, **base: Any) -> None:
        super().__init__(**base)
        self.every: dict[Split, int] = {"test": test_every, "val": val_every}
        for split, number in self.every.items():
            if number < 0 or number == 1:
                raise UsageError(f"data.{split}_every {number}: 0 for none, or 2 and more")

    @property
    def split_options(self) -> dict[str, float]:
        return {f"{split}_every": number for split, number in self.every.items()}

    def hold_out(self, name: Callable[[int], str], splits: np.ndarray) -> dict[Split, np.ndarray]:
        """Rows of each split; where one has none, each n-th training row in order is taken for it.

        Args:
            name: Path of the image of a row.
            splits: (n,) str.
        """
        rows: dict[Split, np.ndarray] = {split: np.flatnonzero(splits == split) for split in SPLITS}
        pool = rows["train"]
        absent = [split for split, number in self.every.items() if number and not len(rows[split])]
        for split in absent:
            chosen = np.arange(len(rows["train"])) % self.every[split] == self.every[split] - 1
            rows[split], rows["train"] = rows["train"][chosen], rows["train"][~chosen]
        files = [name(int(row)) for row in pool]
        self.note_split(files, np.flatnonzero(np.isin(pool, rows["train"])), absent)
        return rows


class SplittingData(NotedSplits):
    """A data module that splits a fraction of the images off for each split that the data does not name.

    Args:
        val_fraction: Fraction of the training images that is split off for validation where the data names no such
            split. 1 takes all of them, to evaluate a model that was trained on other images.
        test_fraction: The same for testing.
        split_seed: Chooses which images are split off; the run's seed does not.
        **base: See `VisionDataModule`.
    """

    def __init__(
        self, *, val_fraction: float = 0.1, test_fraction: float = 0.0, split_seed: int = 0, **base: Any
    ) -> None:
        super().__init__(**base)
        self.fractions: dict[Split, float] = {"val": val_fraction, "test": test_fraction}
        self.split_seed = split_seed

    @property
    def split_options(self) -> dict[str, float]:
        return {**{f"{split}_fraction": part for split, part in self.fractions.items()}, "split_seed": self.split_seed}

    def missing(self, split: Split, what: str) -> UsageError:
        more = "" if split == "train" else ", or set it to 1 to take all images, for a model that was trained on others"
        return UsageError(f"{super().missing(split, what)}{more}")

    def absent(self, named: Collection[Split]) -> list[Split]:
        """The splits that are split off: those with a fraction that the data does not name."""
        return [split for split, part in self.fractions.items() if part and split not in named]

    def split_off(
        self,
        files: Sequence[str],
        absent: Collection[Split],
        groups: np.ndarray | None = None,
        order: np.ndarray | None = None,
    ) -> dict[Split, np.ndarray]:
        """Splits the training images; rows of each split that has some.

        Args:
            files: Paths of the training images, in a fixed order.
            absent: Splits that are split off them, see `absent`.
            groups: See `datamodules.image_store.split_rows`; by default all images are of one group.
            order: See there.
        """
        wanted = {split: part for split, part in self.fractions.items() if split in absent and part != 1}
        rows = self.divided(np.zeros(len(files), dtype=np.int64) if groups is None else groups, wanted, order)
        rows |= {split: np.arange(len(files)) for split in absent if self.fractions[split] == 1}
        self.note_split(files, rows["train"], absent)
        return rows

    def divided(
        self, groups: np.ndarray, wanted: dict[Split, float], order: np.ndarray | None
    ) -> dict[Split, np.ndarray]:
        """Rows of `train` and of each wanted split; by default at random within each group.

        Args:
            groups: (n,) int group of each training image.
            wanted: Fractions below 1 by split.
            order: See `datamodules.image_store.split_rows`.
        """
        return split_rows(groups, wanted, self.split_seed, order)

    def part_of(self, split: Split, source: object) -> str:
        """Where a split comes from that is split off, for the summary.

        Args:
            split: `val` or `test`.
            source: Names the training images.
        """
        return f"{100 * self.fractions.get(split, 0.0):g}% of {source}, which names no {split} split"


def last_parts(groups: np.ndarray, fractions: Mapping[Split, float], least: int = 0) -> dict[Split, np.ndarray]:
    """Splits the last part of every video off: frames that follow each other are alike, so none are drawn at random.

    Args:
        groups: (n,) int, the video of each row; the rows of one are in order of time.
        fractions: Fraction of `val` and of `test`, which is the very last part; the rest is `train`.
        least: Rows that each of them takes of a video at least, as long as one is left for training.

    Returns:
        Row numbers of each split, ascending within a video.

    Raises:
        UsageError: Fractions that leave nothing to train.
    """
    check_fractions(fractions)
    rows: dict[Split, list[int]] = {"train": [], "val": [], "test": []}
    for group in dict.fromkeys(groups.tolist()):
        own = np.flatnonzero(groups == group).tolist()
        for split in SPLITS[::-1]:
            part = fractions.get(split, 0)
            if part and (count := min(max(least, round(len(own) * part)), len(own) - 1)) > 0:
                own, rows[split] = own[:-count], rows[split] + own[-count:]
        rows["train"] += own
    return {split: np.array(numbers, dtype=np.int64) for split, numbers in rows.items()}
