"""Pictures of persons: a folder each, a zip of such folders, or RecordIO; split by person, never by picture."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.augment import SampleAugment
from datamodules.class_names import shorten
from datamodules.folders import list_labelled
from datamodules.identity_sampler import PersonSampler
from datamodules.pictures import PictureStore, PixelCache, StoredPictures
from datamodules.record_io import is_record, open_record
from datamodules.splits import SPLITS
from datamodules.splitting import SplittingData
from datamodules.verification_sets import read_verification_set
from visionkit.data import Split, VisionDataModule
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.loading import EpochSampler
from visionkit.names import normalized
from visionkit.types import Sample


class PersonBatches(VisionDataModule):
    """A data module whose training batches may hold several pictures of each of their persons.

    Attributes:
        per_identity: K pictures a person in a batch of `batch_size` / K persons; 0 shuffles pictures.
    """

    per_identity: int

    def check_batches(self) -> None:
        """Refuses batches that persons do not fill."""
        if self.per_identity and self.batch_size % self.per_identity:
            raise UsageError(f"data.batch_size {self.batch_size}: not a multiple of per_identity {self.per_identity}")

    def sampler(self, split: Split, rank: int, world: int) -> EpochSampler:
        if split != "train" or not self.per_identity:
            return super().sampler(split, rank, world)
        samples = self.samples(split)
        assert isinstance(samples, PersonPictures)
        persons = self.batch_size // self.per_identity
        return PersonSampler(samples.targets["identity"], persons, self.per_identity, self.seed, rank, world)


class IdentityData(PersonBatches, SplittingData):
    """Persons by folder, split so that nobody who is trained on is measured on.

    Layouts of `root`: `<person>/picture` or `{train,val,test}/<person>/picture` in a folder or a zip archive, or a
    `.rec` file with its `.idx`. Where splits are no folders, persons are split off by share or by fold.

    Args:
        root: See above.
        val_fraction: Share of the training persons who are kept for validation.
        test_fraction: The same for testing.
        folds: Above 0, persons are dealt to so many folds, one of which is the test split.
        fold: Which one, from 0.
        known_pictures: Above 0, the closed set: every person is in training with so many pictures, and these are the
            gallery in which the others are looked for in testing. Validation then has nobody.
        val_set: Measured in validation in place of persons split off: a `pairs.txt` in LFW's form beside its pictures,
            or a `.bin` file.
        test_set: The same for testing.
        split_seed: Chooses who is split off; the run's seed does not.
        per_identity: K pictures a person in a batch of `batch_size` / K persons, as triplets want; 0 shuffles pictures.
        min_pictures: A person with fewer is refused, since a single picture can be compared with nothing.
        leave_out: Leave such persons out instead.
        cache_mb: Decoded pictures are kept in memory where all of a split fit into this many MiB; 0 keeps none.
        augment: Changes training samples.
        **base: See `VisionDataModule`. `classes` are the training persons, found by themselves.

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
        known_pictures: int = 0,
        val_set: str = "",
        test_set: str = "",
        split_seed: int = 0,
        per_identity: int = 0,
        min_pictures: int = 2,
        leave_out: bool = False,
        cache_mb: int = 512,
        augment: SampleAugment | None = None,
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
        self.folds, self.fold, self.known_pictures = folds, fold, known_pictures
        self.sets: dict[Split, str] = {"val": val_set, "test": test_set}
        self.per_identity, self.min_pictures, self.leave_out = per_identity, min_pictures, leave_out
        self._check()
        self.check_batches()
        self._found: _Found | None = None

    def _check(self) -> None:
        if self.folds and not (self.folds > 1 and 0 <= self.fold < self.folds):
            raise UsageError(f"data.fold {self.fold} of {self.folds}: folds are at least 2, numbered from 0")
        if any(not 0 <= share < 1 for share in self.fractions.values()) or sum(self.fractions.values()) >= 1:
            raise UsageError(f"data: val_fraction and test_fraction {self.fractions}: leave some persons to train")
        if self.known_pictures and self.folds:
            raise UsageError("data.known_pictures is the closed set, data.folds the open one; give one of them")
        if self.known_pictures < 0 or self.per_identity < 0 or self.min_pictures < 1:
            raise UsageError("data: known_pictures and per_identity are at least 0, min_pictures at least 1")

    @classmethod
    def discover_classes(cls, root: str = "", **init_args: Any) -> list[str]:
        """The training persons, in order of their names."""
        known = {k: v for k, v in init_args.items() if k in _SPLITTING and v is not None}
        return list(cls(root, **known)._all().persons["train"])

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The pictures of one split, by person and name."""
        if self.sets.get(split):
            store, targets = read_verification_set(Path(self.sets[split]))
            return PersonPictures(store, np.arange(len(targets["identity"])), targets, None)
        found = self._all()
        rows, persons = found.rows[split], found.persons[split]
        if len(rows) == 0 and self.known_pictures:
            raise UsageError("data.known_pictures keeps nothing for validation; set --trainer.limit_val_batches 0")
        if len(rows) == 0:
            raise self.missing(split, f"{self.root}: no folder of that name and no data.{split}_set")
        # Whom the model does not know is numbered on from those it learns; in the closed set it knows everybody.
        first = 0 if split == "train" or self.known_pictures else len(found.persons["train"])
        numbers = {person: first + number for number, person in enumerate(persons)}
        targets = {"identity": np.array([numbers[found.names[row]] for row in rows], np.int64)}
        if self.known_pictures and split != "train":
            targets["gallery"] = np.isin(rows, found.rows["train"]).astype(np.int64)
        elif split != "train" and len(np.unique(targets["identity"])) < 2:
            raise DataError(f"{self.root}: the {split} split has one person alone; give at least two")
        channels = self.input.channels if self.input else 3
        return PersonPictures(
            found.store, rows, targets, PixelCache.for_pictures(found.store, rows, channels, self.cache_mb)
        )

    def _all(self) -> _Found:
        if self._found is None:
            store, names, splits = _read(self.root)
            few = [person for person, count in _counts(names).items() if count < self.min_pictures]
            if few and not self.leave_out:
                raise DataError(
                    f"{self.root}: {len(few)} person(s) with fewer than {self.min_pictures} pictures: "
                    f"{shorten(few, 3)}; add pictures, or leave such persons out with --data.leave_out true"
                )
            keep = ~np.isin(names, few)
            rows = {split: np.flatnonzero(keep & (splits == split)) for split in ("train", "val", "test")}
            before = dict(rows)
            if self.known_pictures:
                rows = _closed(rows["train"], names, self.known_pictures, self.split_seed)
            else:
                rows = self._by_person(rows, names)
                check_no_leak({split: set(names[part]) for split, part in rows.items()}, self.root)
            persons = {split: _by_name(names[part]) for split, part in rows.items()}
            if len(persons["train"]) < 2:
                raise DataError(f"{self.root}: {len(persons['train'])} person(s) to train on; at least two are needed")
            self._found = _Found(store, names, rows, persons)
            self._note_splits(before, self._found)
        return self._found

    def _note_splits(self, before: Mapping[str, np.ndarray], found: _Found) -> None:
        pool = before["train"]
        absent = [each for each in SPLITS[1:] if not np.array_equal(before[each], found.rows[each])]
        kept = np.flatnonzero(np.isin(pool, found.rows["train"]))
        self.note_split([found.store.name(int(row)) for row in pool], kept, absent)

    @property
    def split_options(self) -> dict[str, float]:
        folds = {"folds": self.folds, "fold": self.fold, "known_pictures": self.known_pictures}
        return {**super().split_options, **folds}

    def _by_person(self, rows: dict[str, np.ndarray], names: np.ndarray) -> dict[str, np.ndarray]:
        """Splits off whole persons wherever a split has no folder."""
        train = rows["train"]
        people = np.random.default_rng(self.split_seed).permutation(_by_name(names[train]))
        taken: dict[str, np.ndarray] = {}
        if self.folds:
            if len(people) < self.folds * 2:
                raise DataError(f"{self.root}: {len(people)} persons are too few for {self.folds} folds of two or more")
            taken["test"] = people[self.fold :: self.folds]
            people = people[~np.isin(people, taken["test"])]
        for split, share in self.fractions.items():
            if share and len(rows[split]) == 0:
                number = max(2, round(len(people) * share))  # of one person no pair of different ones can be made
                taken[split], people = people[:number], people[number:]
        out = dict(rows)
        for each, persons in taken.items():
            out[each] = train[np.isin(names[train], persons)]
        out["train"] = train[np.isin(names[train], people)]
        return out


_SPLITTING = (
    *("val_fraction", "test_fraction", "folds", "fold", "known_pictures", "val_set", "test_set", "split_seed"),
    *("min_pictures", "leave_out"),
)


class _Found(NamedTuple):
    store: PictureStore
    names: np.ndarray  # (n,) str, the person of each picture
    rows: dict[str, np.ndarray]
    persons: dict[str, list[str]]


def _read(root: Path) -> tuple[PictureStore, np.ndarray, np.ndarray]:
    """The pictures with person and split of each."""
    if is_record(root):
        store, labels = open_record(root)
        return store, labels.astype(str), np.full(len(labels), "train")
    listed = list_labelled(root)
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
    """Of every person some pictures are known and the rest are asked for."""
    rng = np.random.default_rng(seed)
    train: list[np.ndarray] = []
    for person in _by_name(names[rows]):
        own = rows[names[rows] == person]
        if len(own) <= known:
            raise DataError(f"{person}: {len(own)} pictures, and data.known_pictures {known} leaves none to ask for")
        train.append(rng.permutation(own)[:known])
    return {"train": np.sort(np.concatenate(train)), "val": rows[:0], "test": rows}


def check_no_leak(persons: Mapping[str, set[str]], root: Path) -> None:
    """Refuses a person who is in two splits: a number measured on who was trained on means nothing.

    Args:
        persons: Names by split; they are compared in NFC, without case and surrounding blanks.
        root: For the message.

    Raises:
        DataError: Says who, and where.
    """
    seen: dict[str, str] = {}
    for split, names in persons.items():
        for name in sorted(names):
            plain = " ".join(normalized(name).casefold().split())
            other = seen.setdefault(plain, split)
            if other != split:
                raise DataError(
                    f"{root}: {str(name)!r} is in {other} and in {split}; a person belongs to one split alone"
                )


class PersonPictures(StoredPictures[PictureStore]):
    """Samples of persons.

    Args:
        store: The pictures.
        rows: Which of them belong here, (n,) int.
        targets: One value a sample by key, `identity` among them.
        cache: Decoded pictures by position, or None.
    """

    def __init__(
        self, store: PictureStore, rows: np.ndarray, targets: Mapping[str, np.ndarray], cache: PixelCache | None
    ) -> None:
        super().__init__(store, rows, cache)
        self.targets = targets

    def counts(self, classes: Sequence[str]) -> tuple[dict[str, int], str]:
        """Images per person; those who are measured alone are not among the classes."""
        people = np.unique(self.targets["identity"])
        return {f"{len(people)} people": len(self)}, "images"

    def target(self, index: int, image: ImageSource) -> Any:
        """Who it is, and what else is known."""
        return {key: values[index] for key, values in self.targets.items()}
