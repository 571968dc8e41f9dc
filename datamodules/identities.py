"""Images of people: one folder each, a zip of such folders, or RecordIO; split by person, never by image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.class_names import shorten
from datamodules.folders import list_labeled
from datamodules.identity_sampler import IdentitySampler
from datamodules.image_store import ImageStore, PixelCache, StoredImages
from datamodules.record_io import is_record, open_record
from datamodules.splits import SPLITS
from datamodules.splitting import SplittingData
from datamodules.verification_sets import read_verification_set
from visionkit.augmentation import Augmentation
from visionkit.data import Split, VisionDataModule
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.names import normalized
from visionkit.refusals import refuse
from visionkit.sampling import EpochSampler
from visionkit.types import Sample
from visionkit.wording import counted


class IdentityBatches(VisionDataModule):
    """A data module whose training batches may hold several images of each of their people.

    Attributes:
        per_identity: K images per person in a batch of `batch_size` / K people; 0 shuffles images.
    """

    per_identity: int

    def check_batches(self) -> None:
        """Refuses batches that people do not fill."""
        if self.per_identity and self.batch_size % self.per_identity:
            raise UsageError(f"data.batch_size {self.batch_size}: not a multiple of per_identity {self.per_identity}")

    def sampler(self, split: Split, rank: int, world: int) -> EpochSampler:
        if split != "train" or not self.per_identity:
            return super().sampler(split, rank, world)
        samples = self.samples(split)
        assert isinstance(samples, IdentityImages)
        people = self.batch_size // self.per_identity
        return IdentitySampler(samples.targets["identity"], people, self.per_identity, self.seed, rank, world)


class IdentityData(IdentityBatches, SplittingData):
    """People by folder, split so that nobody who is trained on is measured on.

    Layouts of `root`: `<person>/image` or `{train,val,test}/<person>/image` in a folder or a zip archive, or a
    `.rec` file with its `.idx`. Where splits are no folders, people are split off by fraction or by fold.

    Args:
        root: See above.
        val_fraction: Fraction of the training people who are kept for validation.
        test_fraction: The same for testing.
        folds: Above 0, people are dealt to so many folds, one of which is the test split.
        fold: Which one, from 0.
        known_images: Above 0, the closed set: every person is in training with so many images, and these are the
            gallery in which the others are looked for in testing. Validation then has nobody.
        val_set: Measured in validation in place of people split off: a `pairs.txt` in LFW's form beside its images,
            or a `.bin` file.
        test_set: The same for testing.
        split_seed: Chooses who is split off; the run's seed does not.
        per_identity: K images per person in a batch of `batch_size` / K people, as triplets need; 0 shuffles images.
        min_images: A person with fewer is refused, since a single image can be compared with nothing.
        leave_out: Leave such people out instead.
        cache_mb: Decoded images are kept in memory where all of a split fit into this many MiB; 0 keeps none.
        augment: Changes training samples.
        **base: See `VisionDataModule`. `classes` are the training people, found by themselves.

    Example:
        >>> data = IdentityData("people", val_fraction=0.2, per_identity=4, batch_size=64, input=InputSpec((112, 112)))
        >>> data.samples("train")[0].target["identity"]
        0
    """

    def __init__(
        self,
        root: str,
        *,
        val_fraction: float = 0.1,
        test_fraction: float = 0.0,
        folds: int = 0,
        fold: int = 0,
        known_images: int = 0,
        val_set: str = "",
        test_set: str = "",
        split_seed: int = 0,
        per_identity: int = 0,
        min_images: int = 2,
        leave_out: bool = False,
        cache_mb: int = 512,
        augment: Augmentation | None = None,
        **base: Any,
    ) -> None:
        super().__init__(
            augment=augment,
            val_fraction=0.0 if val_set else val_fraction,
            test_fraction=0.0 if test_set or folds else test_fraction,
            split_seed=split_seed,
            **base,
        )
        self.root, self.cache_mb = Path(root), cache_mb
        self.folds, self.fold, self.known_images = folds, fold, known_images
        self.sets: dict[Split, str] = {"val": val_set, "test": test_set}
        self.per_identity, self.min_images, self.leave_out = per_identity, min_images, leave_out
        self._check()
        self.check_batches()
        self._found: _Identities | None = None

    def _check(self) -> None:
        if self.folds and not (self.folds > 1 and 0 <= self.fold < self.folds):
            raise UsageError(f"data.fold {self.fold} of {self.folds}: folds are at least 2, numbered from 0")
        if any(not 0 <= fraction < 1 for fraction in self.fractions.values()) or sum(self.fractions.values()) >= 1:
            raise UsageError(f"data: val_fraction and test_fraction {self.fractions}: leave some people to train")
        if self.known_images and self.folds:
            raise UsageError("data.known_images is the closed set, data.folds the open one; give one of them")
        if self.known_images < 0 or self.per_identity < 0 or self.min_images < 1:
            raise UsageError("data: known_images and per_identity are at least 0, min_images at least 1")

    @classmethod
    def discover_classes(cls, root: str = "", **init_args: Any) -> list[str]:
        """The training people, in order of their names."""
        known = {k: v for k, v in init_args.items() if k in _SPLITTING and v is not None}
        return list(cls(root, **known)._all().people["train"])

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The images of one split, by person and name."""
        if self.sets.get(split):
            store, targets = read_verification_set(Path(self.sets[split]))
            return IdentityImages(store, np.arange(len(targets["identity"])), targets, None)
        found = self._all()
        rows, people = found.rows[split], found.people[split]
        if len(rows) == 0 and self.known_images:
            raise UsageError("data.known_images keeps nothing for validation; set --trainer.limit_val_batches 0")
        if len(rows) == 0:
            raise self.missing(split, f"{self.root}: no folder of that name and no data.{split}_set")
        # Whom the model does not know is numbered on from those it is trained on; in the closed set it knows everybody.
        first = 0 if split == "train" or self.known_images else len(found.people["train"])
        numbers = {person: first + number for number, person in enumerate(people)}
        targets = {"identity": np.array([numbers[found.names[row]] for row in rows], np.int64)}
        if self.known_images and split != "train":
            targets["gallery"] = np.isin(rows, found.rows["train"]).astype(np.int64)
        elif split != "train" and len(np.unique(targets["identity"])) < 2:
            raise DataError(f"{self.root}: the {split} split has one person alone; give at least two")
        channels = self.input.channels if self.input else 3
        return IdentityImages(
            found.store, rows, targets, PixelCache.for_images(found.store, rows, channels, self.cache_mb)
        )

    def _all(self) -> _Identities:
        if self._found is None:
            store, names, splits = _read(self.root)
            few = [person for person, count in _counts(names).items() if count < self.min_images]
            if few and not self.leave_out:
                error = DataError(
                    f"{self.root}: {len(few)} identities with fewer than {self.min_images} images: "
                    f"{shorten(few, 3)}; add images, or leave such people out with --data.leave_out true"
                )
                refuse("refused", error)
                few = []
            keep = ~np.isin(names, few)
            rows = {split: np.flatnonzero(keep & (splits == split)) for split in ("train", "val", "test")}
            before = dict(rows)
            if self.known_images:
                rows = _closed(rows["train"], names, self.known_images, self.split_seed)
            else:
                rows = self._by_person(rows, names)
                check_no_leak({split: set(names[part]) for split, part in rows.items()}, self.root)
            people = {split: _by_name(names[part]) for split, part in rows.items()}
            if len(people["train"]) < 2:
                raise DataError(f"{self.root}: {len(people['train'])} identities to train on; at least two are needed")
            self._found = _Identities(store, names, rows, people)
            self._note_splits(before, self._found)
        return self._found

    def _note_splits(self, before: Mapping[str, np.ndarray], found: _Identities) -> None:
        pool = before["train"]
        absent = [each for each in SPLITS[1:] if not np.array_equal(before[each], found.rows[each])]
        kept = np.flatnonzero(np.isin(pool, found.rows["train"]))
        self.note_split([found.store.name(int(row)) for row in pool], kept, absent)

    @property
    def split_options(self) -> dict[str, float]:
        folds = {"folds": self.folds, "fold": self.fold, "known_images": self.known_images}
        return {**super().split_options, **folds}

    def _by_person(self, rows: dict[str, np.ndarray], names: np.ndarray) -> dict[str, np.ndarray]:
        """Splits off whole people wherever a split has no folder."""
        train = rows["train"]
        people = np.random.default_rng(self.split_seed).permutation(_by_name(names[train]))
        taken: dict[str, np.ndarray] = {}
        if self.folds:
            if len(people) < self.folds * 2:
                raise DataError(f"{self.root}: {len(people)} people are too few for {self.folds} folds of two or more")
            taken["test"] = people[self.fold :: self.folds]
            people = people[~np.isin(people, taken["test"])]
        for split, fraction in self.fractions.items():
            if fraction and len(rows[split]) == 0:
                number = max(2, round(len(people) * fraction))  # of one person no pair of different ones can be made
                taken[split], people = people[:number], people[number:]
        out = dict(rows)
        for each, identities in taken.items():
            out[each] = train[np.isin(names[train], identities)]
        out["train"] = train[np.isin(names[train], people)]
        return out


_SPLITTING = (
    *("val_fraction", "test_fraction", "folds", "fold", "known_images", "val_set", "test_set", "split_seed"),
    *("min_images", "leave_out"),
)


class _Identities(NamedTuple):
    store: ImageStore
    names: np.ndarray  # (n,) str, the person of each image
    rows: dict[str, np.ndarray]
    people: dict[str, list[str]]


def _read(root: Path) -> tuple[ImageStore, np.ndarray, np.ndarray]:
    """The images with person and split of each."""
    if is_record(root):
        store, labels = open_record(root)
        return store, labels.astype(str), np.full(len(labels), "train")
    listed = list_labeled(root)
    # In the order of names as people count: 2 before 10.
    listed.images.sort(key=lambda each: _natural(each.path))
    return (
        listed.store(),
        np.array([each.label for each in listed.images]),
        np.array([each.split for each in listed.images]),
    )


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _by_name(names: Iterable[str]) -> list[str]:
    return sorted({str(name) for name in names}, key=_natural)


def _counts(names: np.ndarray) -> dict[str, int]:
    values, counts = np.unique(names, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _closed(rows: np.ndarray, names: np.ndarray, known: int, seed: int) -> dict[str, np.ndarray]:
    """Of every person some images are known and the rest are asked for."""
    rng = np.random.default_rng(seed)
    train: list[np.ndarray] = []
    for person in _by_name(names[rows]):
        own = rows[names[rows] == person]
        if len(own) <= known:
            raise DataError(f"{person}: {len(own)} images, and data.known_images {known} leaves none to ask for")
        train.append(rng.permutation(own)[:known])
    return {"train": np.sort(np.concatenate(train)), "val": rows[:0], "test": rows}


def check_no_leak(people: Mapping[str, set[str]], root: Path) -> None:
    """Refuses a person who is in two splits: a number measured on who was trained on means nothing.

    Args:
        people: Names by split; they are compared in NFC, without case and surrounding blanks.
        root: For the message.

    Raises:
        DataError: States who, and where.
    """
    seen: dict[str, str] = {}
    for split, names in people.items():
        for name in sorted(names):
            plain = " ".join(normalized(name).casefold().split())
            other = seen.setdefault(plain, split)
            if other != split:
                error = f"{root}: {str(name)!r} is in {other} and in {split}; a person belongs to one split alone"
                refuse("identity-leak", DataError(error))


class IdentityImages(StoredImages[ImageStore]):
    """Samples of people.

    Args:
        store: The images.
        rows: Indices of those that belong here, (n,) int.
        targets: One value a sample by key, `identity` among them.
        cache: Decoded images by position, or None.
    """

    def __init__(
        self, store: ImageStore, rows: np.ndarray, targets: Mapping[str, np.ndarray], cache: PixelCache | None
    ) -> None:
        super().__init__(store, rows, cache)
        self.targets = targets

    def counts(self, classes: Sequence[str]) -> tuple[dict[str, int], str]:
        """Images per person; those who are measured alone are not among the classes."""
        people = np.unique(self.targets["identity"])
        return {counted(len(people), "person"): len(self)}, "image"

    def target(self, index: int, image: ImageSource) -> Any:
        """Who it is, and what else is known."""
        return {key: values[index] for key, values in self.targets.items()}
