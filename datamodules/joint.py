"""Data for several heads at once: label sets of the same images joined, data sets of different images mixed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from datamodules.set_sampler import SetSampler
from visionkit.augmentation import Augmentation, composed
from visionkit.data import Split, VisionDataModule
from visionkit.errors import DataError, UsageError, suggest
from visionkit.plain_values import plain
from visionkit.predictions.labels import LabelFacts
from visionkit.sampling import EpochSampler
from visionkit.types import Sample

Mix = Literal["shuffled", "round_robin", "proportional", "temperature"]


class JointData(VisionDataModule):
    """One data module per head, read as one.

    Parts that label the same images (`together`) become one set: an image has the labels of those parts that know
    it, and the other heads have no loss on it. All sets are mixed by `mix`. The order of an epoch follows from (seed,
    epoch) alone.

    Args:
        parts: Data modules by name; a part serves the head of its name.
        serves: The head that a part serves where it has another name: `{coco: objects, bccd: objects}`.
        together: Groups of parts that label the same images; images are the same where their ids are.
        mix: `shuffled` draws all images of an epoch in one order, so a batch has images of every set. With the
            others a batch is of one set: `round_robin` takes turns, `proportional` gives each set as many batches as
            it has, `temperature` in between.
        temperature: For `temperature`: a set of n images gets batches in proportion to n ** (1 / temperature).
        vocabulary: What the parts state of their heads (class names, skeleton); read from them by default.
        augment: Changes the images of joined parts and all their labels alike. A part that stands alone has its own.
        **base: See `VisionDataModule`.

    Example:
        >>> parts = {"what": SceneData("labels"), "far": SceneData("depth")}
        >>> data = JointData(parts, together=[["what", "far"]])
        >>> sorted(data.samples("train")[0].target["heads"])
        ['far', 'what']
    """

    def __init__(
        self,
        parts: dict[str, VisionDataModule],
        *,
        serves: dict[str, str] | None = None,
        together: list[list[str]] | None = None,
        mix: Mix = "shuffled",
        temperature: float = 2.0,
        vocabulary: dict[str, Any] | None = None,
        augment: Augmentation | None = None,
        **base: Any,
    ) -> None:
        if not parts:
            raise UsageError("data.parts: at least one is needed: {objects: {class_path: CocoData, ...}}")
        if mix not in get_args(Mix):
            raise UsageError(f"data.mix {mix!r}: allowed are {', '.join(get_args(Mix))}{suggest(mix, get_args(Mix))}")
        if temperature < 1:
            raise UsageError(f"data.temperature {temperature:g}: at least 1 (1 is proportional)")
        self.parts, self.mix, self.temperature = dict(parts), mix, float(temperature)
        self.serves = {name: name for name in parts} | dict(serves or {})
        self.groups = _groups(self.parts, self.serves, together or [])
        skeletons = [each for part in self.parts.values() if (each := getattr(part, "skeleton", None)) is not None]
        super().__init__(augment=None, **base)
        self.augment = _JointAugment(composed(augment, *skeletons[:1]), self._own_augments())
        for name, part in self.parts.items():
            known = (vocabulary or {}).get(self.serves[name]) or {}
            part.classes = part.classes or tuple(known.get("classes") or ())

    def _own_augments(self) -> dict[str, Any]:
        own = {}
        for group in self.groups:
            given = [name for name in group if self.parts[name].augment is not None]
            if given and len(group) > 1:
                raise UsageError(
                    f"data.parts.{given[0]}.augment: its images are those of {', '.join(group)}; "
                    "give data.augment, which changes them all alike"
                )
            if given:
                own["+".join(group)] = self.parts[given[0]].augment
        return own

    @classmethod
    def linked(cls, name: str, **init_args: Any) -> Any:
        """Under `vocabulary`, what the parts state of their heads; no image is read for it."""
        return read_vocabulary(init_args) if name == "vocabulary" else None

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The images of all sets, one set after the other.

        Raises:
            DataError: A part has none.
        """
        return _Joined([self._set(group, split) for group in self.groups])

    def _set(self, group: Sequence[str], split: Split) -> _Set:
        for name in group:
            part = self.parts[name]
            part.input = self.input
        return _Set({name: self.parts[name].samples(split) for name in group}, self.serves)

    def label_facts(self) -> LabelFacts:
        """Those of every head: what the parts that serve it state."""
        heads = {self.serves[name]: part.label_facts() for name, part in self.parts.items()}
        return replace(super().label_facts(), heads=heads)

    def files(self, split: Split) -> Sequence[str]:
        """Paths of the images of all parts."""
        self.samples(split)  # gives the parts their input
        return [path for part in self.parts.values() for path in part.files(split)]

    def report(self, splits: Sequence[Split]) -> None:
        """Reports what each part holds."""
        for split in splits:
            self.samples(split)  # gives the parts their input
        for name, part in self.parts.items():
            print(f"head {self.serves[name]}, part {name}:")
            part.trained = self._trained_on(name)
            part.report(splits)

    @property
    def splits_made(self) -> dict[str, Any]:
        return {"parts": {name: part.splits_made for name, part in self.parts.items()}}

    def check_trained(self, split: Split) -> None:
        self.samples(split)  # gives the parts their input
        for name, part in self.parts.items():
            part.trained = self._trained_on(name)
            part.check_trained(split)

    def _trained_on(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = (self.trained.get("parts") or {}).get(name) or {}
        return found

    def sampler(self, split: Split, rank: int, world: int) -> EpochSampler:
        """The order of a split for one rank; where batches are of one set, those of all ranks are of the same one."""
        samples = self.samples(split)
        if split != "train" or self.mix == "shuffled" or len(self.groups) == 1:
            return super().sampler(split, rank, world)
        assert isinstance(samples, _Joined)
        exponent = {"round_robin": 0.0, "proportional": 1.0, "temperature": 1 / self.temperature}[self.mix]
        return SetSampler(samples.lengths, self.batch_size, exponent, seed=self.seed, rank=rank, world=world)


def read_vocabulary(init_args: Mapping[str, Any]) -> dict[str, Any]:
    """What the parts of a configuration state of their heads.

    Args:
        init_args: Constructor arguments of `JointData`, as they are configured: `parts` by class path.

    Raises:
        UsageError: Two parts of one head contradict each other.
    """
    serves = _plain(init_args.get("serves") or {})
    out: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, part in _plain(init_args.get("parts") or {}).items():
        module, _, attribute = str(part["class_path"]).rpartition(".")
        built_by = getattr(sys.modules[module], attribute)
        arguments = {key: value for key, value in (part.get("init_args") or {}).items() if value is not None}
        rest = {key: value for key, value in arguments.items() if key not in ("classes", "input")}
        facts = {
            "classes": list(arguments.get("classes") or built_by.discover_classes(**rest)),
            "skeleton": built_by.settled("skeleton", arguments.get("skeleton"), **arguments)
            or built_by.linked("skeleton", **arguments),
        }
        head = serves.get(name, name)
        stated = {key: plain(value) for key, value in facts.items() if value}
        for key in stated.keys() & out.get(head, {}).keys():
            if stated[key] != out[head][key]:
                raise UsageError(
                    f"data.parts.{name} and {origin[head]}: both serve the head {head}, and their {key} differ "
                    f"({_first_difference(out[head][key], stated[key])}); give both the same --data.parts.<name>.{key}"
                )
        out[head] = {**out.get(head, {}), **stated}
        origin.setdefault(head, name)
    return out


def _first_difference(ours: Any, other: Any) -> str:
    if isinstance(ours, list) and isinstance(other, list):
        for number, (a, b) in enumerate(zip(ours, other, strict=False)):
            if a != b:
                return f"number {number} is {a!r} and {b!r}"
        return f"{len(ours)} and {len(other)}"
    return f"{ours!r} and {other!r}"


def _plain(value: Any) -> Any:
    """Mappings of a configuration as dicts, at every depth."""
    if hasattr(value, "as_dict"):
        value = value.as_dict()
    return {key: _plain(each) for key, each in value.items()} if isinstance(value, Mapping) else value


def _groups(
    parts: Mapping[str, Any], serves: Mapping[str, str], together: Sequence[Sequence[str]]
) -> list[tuple[str, ...]]:
    for name in (*serves, *(name for group in together for name in group)):
        if name not in parts:
            raise UsageError(f"data: there is no part {name!r}; parts are {', '.join(parts)}{suggest(name, parts)}")
    joined = [name for group in together for name in group]
    for name in joined:
        if joined.count(name) > 1:
            raise UsageError(f"data.together: {name} is duplicated")
    for group in together:
        heads = [serves[name] for name in group]
        for head in heads:
            if heads.count(head) > 1:
                raise UsageError(f"data.together: two parts of {', '.join(group)} label one image for head {head}")
    return [tuple(group) for group in together if group] + [(name,) for name in parts if name not in joined]


class _Set(Sequence[Sample]):
    """Images with the labels of every part that knows them; a part's sample is made when it is asked for."""

    def __init__(self, parts: Mapping[str, Sequence[Sample]], serves: Mapping[str, str]) -> None:
        self.parts, self.serves = dict(parts), dict(serves)
        self.name = "+".join(parts)
        self.rows: list[dict[str, int]] | None = None
        if len(parts) > 1:
            known: dict[str, dict[str, int]] = {}
            for name, samples in parts.items():
                for number, each in enumerate(_ids(samples)):
                    row = known.setdefault(each, {})
                    if name in row:
                        raise DataError(f"data.parts.{name}: two images are called {each!r}, so they cannot be joined")
                    row[name] = number
            self.rows = list(known.values())

    def __len__(self) -> int:
        return len(next(iter(self.parts.values()))) if self.rows is None else len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        row = dict.fromkeys(self.parts, index) if self.rows is None else self.rows[index]
        found = {name: self.parts[name][number] for name, number in row.items()}
        first = next(iter(found.values()))
        if any(each.view != first.view for each in found.values()):
            raise DataError(f"{first.id}: parts {', '.join(found)} show different views of it; they cannot be joined")
        heads = {self.serves[name]: sample.target for name, sample in found.items()}
        return _JointSample(
            first.inputs,
            {"heads": heads},
            first.id,
            view=first.view,
            photometric=first.photometric,
            draft=first.draft,
            set_name=self.name,
        )


@dataclass(frozen=True)
class _JointSample(Sample):
    """A sample that knows its set, whose augmentation it gets."""

    set_name: str = ""


def _ids(samples: Sequence[Sample]) -> Iterable[str]:
    ids: Iterable[str] | None = getattr(samples, "ids", None)
    return ids if ids is not None else (sample.id or sample.image.name for sample in samples)


class _Joined(Sequence[Sample]):
    def __init__(self, sets: Sequence[_Set]) -> None:
        self.sets = list(sets)
        self.lengths = [len(each) for each in sets]
        self.ends = np.cumsum(self.lengths)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        number = int(np.searchsorted(self.ends, index, side="right"))
        return self.sets[number][index - int(self.ends[number]) + self.lengths[number]]


@dataclass(frozen=True)
class _JointAugment:
    """Changes an image once and its labels for every head: each head's labels are handed in with the same draws."""

    common: Any
    own: Mapping[str, Any]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        augment = self.own.get(getattr(sample, "set_name", ""), self.common)
        if augment is None:
            return sample
        state = rng.bit_generator.state
        heads: dict[str, Any] = {}
        first: Sample | None = None
        for name, target in sample.target["heads"].items():
            again = np.random.Generator(type(rng.bit_generator)())
            again.bit_generator.state = state
            changed = augment(replace(sample, target=target), again)
            first = first or changed
            alike = (changed.view, changed.photometric) == (first.view, first.photometric)
            if changed.inputs is not sample.inputs or not alike:
                raise UsageError(
                    f"data.augment {type(augment).__name__}: what it does to an image depends on the label, so it "
                    "cannot serve several heads; take one that moves images as a whole (PoseAugment)"
                )
            heads[name] = changed.target
        assert first is not None
        return replace(first, target={"heads": heads})
