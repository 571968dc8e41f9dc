"""Skeletons as data: which keypoints there are, which are flipped counterparts, what is drawn between them.

A skeleton is a small yaml file, shipped (`coco17`, `mpii16`, ...) or your own; a checkpoint holds it whole, so it needs
no file to be served.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from visionkit.errors import DataError, UsageError, suggest
from visionkit.text_files import read_yaml

log = logging.getLogger(__name__)

FOLDER = Path(__file__).with_name("skeletons")

DEFAULT_SIGMA = 0.05
"""Of every keypoint of a skeleton that states none: about the middle of what repeated annotation gives for bodies."""

BOX_FRACTION = 0.53
"""Of width times height of the box: the area of a subject whose annotation has none, as the field takes it."""

AREA_NOTE = f"area the annotation's own, or {BOX_FRACTION:g} x width x height of the box where it has none"
"""What a protocol states about the areas that object keypoint similarity divides by."""

_PALETTE = ((61, 220, 132), (255, 138, 61), (77, 163, 255), (242, 209, 61), (199, 125, 255), (255, 99, 132))


class Edge(NamedTuple):
    """A limb: two keypoints by name, and the color (red, green, blue of 0 to 255) that it is drawn in."""

    first: str
    second: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Skeleton:
    """The keypoints of one type of subject.

    Attributes:
        name: Names it in messages and tables.
        keypoints: K names in the order of the labels.
        flip_pairs: Pairs of names that change places when the image is flipped.
        edges: What is drawn and, for part affinity fields, learned: (first, second, color) or (first, second).
        sigmas: K numbers above 0: the spread of annotations over the square root of the object's area, by which
            object keypoint similarity judges a distance. None is unknown: `oks_sigmas` takes a default and states this.
        subject: What has these keypoints: `person`, `animal`, `hand`.
        head: Two keypoints whose distance is the head's size, for PCKh; empty where there are none.
        torso: Two keypoints across the torso, for PCK; empty where there are none.
        interocular: Two keypoints of the eyes whose distance is a face's unit, for NME; empty where there are none.

    Raises:
        UsageError: A name is duplicated, an edge or a pair names a keypoint that is not there, ...

    Example:
        >>> Skeleton.of("coco17").swap[:2]
        ((1, 2), (3, 4))
    """

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...] = ()
    edges: tuple[Edge, ...] = ()
    sigmas: tuple[float, ...] | None = None
    subject: str = "person"
    head: tuple[str, ...] = ()
    torso: tuple[str, ...] = ()
    interocular: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        keep = object.__setattr__
        keep(self, "keypoints", tuple(str(name) for name in self.keypoints))
        if not self.keypoints:
            raise UsageError(f"skeleton {self.name}: keypoints: at least one name is needed")
        twice = sorted({name for name in self.keypoints if self.keypoints.count(name) > 1})
        if twice:
            raise UsageError(f"skeleton {self.name}: keypoints: {', '.join(twice)} is duplicated")
        keep(self, "flip_pairs", tuple(self._pair("flip_pairs", pair) for pair in self.flip_pairs))
        paired = [name for pair in self.flip_pairs for name in pair]
        if len(set(paired)) < len(paired):
            again = next(name for name in paired if paired.count(name) > 1)
            raise UsageError(
                f"skeleton {self.name}: flip_pairs: {again} is duplicated; each keypoint has one flipped counterpart"
            )
        keep(self, "edges", tuple(self._edge(number, edge) for number, edge in enumerate(self.edges)))
        for key in ("head", "torso", "interocular"):
            keep(self, key, self._pair(key, getattr(self, key)) if getattr(self, key) else ())
        if self.sigmas is not None:
            self._set_sigmas(self.sigmas)

    def _set_sigmas(self, given: Sequence[float]) -> None:
        try:
            sigmas = tuple(float(value) for value in given)
        except (TypeError, ValueError):
            sigmas = ()
        if len(sigmas) != len(self.keypoints) or not all(0 < value < 10 for value in sigmas):
            raise UsageError(
                f"skeleton {self.name}: sigmas: {len(self.keypoints)} keypoints need as many numbers above 0 (COCO's "
                "lie between 0.025 and 0.107), or null where nobody knows them"
            )
        object.__setattr__(self, "sigmas", sigmas)

    def _pair(self, key: str, names: Any, most: int = 2) -> tuple[str, ...]:
        if isinstance(names, str) or not isinstance(names, Sequence) or not 2 <= len(names) <= most:
            raise UsageError(f"skeleton {self.name}: {key}: {names!r} should be two keypoints, [left_eye, right_eye]")
        first, second = (str(name) for name in names[:2])
        for name in (first, second):
            if name not in self.keypoints:
                raise UsageError(
                    f"skeleton {self.name}: {key}: {name!r} is none of its keypoints{suggest(name, self.keypoints)}"
                )
        if first == second:
            raise UsageError(f"skeleton {self.name}: {key}: {first!r} is paired with itself")
        return first, second

    def _edge(self, number: int, given: Any) -> Edge:
        first, second = self._pair("edges", given, 3)
        color = given[2] if len(given) > 2 else _PALETTE[number % len(_PALETTE)]
        try:
            rgb = tuple(int(value) for value in color)
        except (TypeError, ValueError):
            rgb = ()
        if len(rgb) != 3 or not all(0 <= value <= 255 for value in rgb) or len(given) > 3:
            raise UsageError(
                f"skeleton {self.name}: edges: {list(given)!r} should be [first, second] or [first, second, "
                "[red, green, blue]] with colors of 0 to 255"
            )
        return Edge(first, second, rgb)

    # ------------------------------------------------------------------ where it comes from

    @classmethod
    def of(cls, value: Skeleton | str | Path | Mapping[str, Any]) -> Skeleton:
        """A skeleton from its shipped name, the path of a yaml file, or a mapping of its fields.

        Raises:
            UsageError: There is none of that name, the file cannot be read, or what it states does not fit together.
        """
        if isinstance(value, Skeleton):
            return value
        if isinstance(value, Mapping):
            return cls._from_mapping(value, "skeleton")
        text = str(value)
        if not text.endswith((".yaml", ".yml")):
            if text not in shipped():
                raise UsageError(
                    f"skeleton {text!r}: shipped are {', '.join(shipped())}{suggest(text, shipped())}; or give the "
                    "path of your own .yaml"
                )
            return cls._read(FOLDER / f"{text}.yaml")
        return cls._read(Path(text))

    @classmethod
    def _read(cls, path: Path) -> Skeleton:
        try:
            found = read_yaml(path)
        except DataError as error:
            raise UsageError(f"skeleton {error}") from None
        if not isinstance(found, Mapping):
            raise UsageError(f"skeleton {path}: should hold name, keypoints, flip_pairs, edges and sigmas")
        return cls._from_mapping({"name": path.stem, **found}, f"skeleton {path}")

    @classmethod
    def _from_mapping(cls, given: Mapping[str, Any], place: str) -> Skeleton:
        known = [field.name for field in fields(cls)]
        for key in given:
            if key not in known:
                raise UsageError(
                    f"{place}: unknown key {key!r}; allowed are {', '.join(known)}{suggest(str(key), known)}"
                )
        for key in ("name", "keypoints"):
            if not given.get(key):
                raise UsageError(f"{place}: {key} is missing")
        for key in ("keypoints", "flip_pairs", "edges", "head", "torso", "interocular"):
            if isinstance(given.get(key), (str, Mapping)) or not isinstance(given.get(key) or [], Iterable):
                raise UsageError(f"{place}: {key} should be a list")
        return cls(**{key: value for key, value in given.items() if value is not None})

    # ------------------------------------------------------------------ what it states

    def __len__(self) -> int:
        return len(self.keypoints)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.keypoints)}

    def index(self, name: str) -> int:
        """The number of a keypoint.

        Raises:
            UsageError: There is none of that name; the nearest is offered.
        """
        if name not in self._numbers:
            raise UsageError(f"skeleton {self.name}: no keypoint {name!r}{suggest(name, self.keypoints)}")
        return self._numbers[name]

    @cached_property
    def swap(self) -> tuple[tuple[int, int], ...]:
        """The flip pairs as numbers."""
        return tuple((self.index(first), self.index(second)) for first, second in self.flip_pairs)

    @cached_property
    def flip_indices(self) -> tuple[int, ...]:
        """For each keypoint the number of its flipped counterpart, which is its own where it has none."""
        out = list(range(len(self)))
        for first, second in self.swap:
            out[first], out[second] = second, first
        return tuple(out)

    @cached_property
    def limbs(self) -> tuple[tuple[int, int], ...]:
        """The edges as numbers."""
        return tuple((self.index(edge.first), self.index(edge.second)) for edge in self.edges)

    def pair(self, key: str) -> tuple[int, int] | None:
        """The two keypoints of `head`, `torso` or `interocular` as numbers, or None."""
        names = {"head": self.head, "torso": self.torso, "interocular": self.interocular}[key]
        return (self.index(names[0]), self.index(names[1])) if names else None

    @property
    def sigmas_note(self) -> str:
        """Where the sigmas of its similarity come from, for a protocol."""
        return "the skeleton's own sigmas" if self.sigmas else f"no known sigmas: {DEFAULT_SIGMA:g} for every keypoint"

    def oks_sigmas(self) -> np.ndarray:
        """(K,) float64 for object keypoint similarity."""
        return np.array(self.sigmas or (DEFAULT_SIGMA,) * len(self), dtype=np.float64)

    def warn_without_sigmas(self) -> None:
        """Warns, before similarities are measured, where the skeleton states no sigmas."""
        if self.sigmas is None:
            log.warning(
                "skeleton %s states no sigmas: %g is taken for each keypoint, so its OKS compares with no other set's; "
                "visionkit.skeleton.estimate_sigmas works them out from repeated annotation",
                self.name,
                DEFAULT_SIGMA,
            )


def shipped() -> list[str]:
    """Names of the skeletons that come along."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def subject_areas(area: np.ndarray | None, boxes: np.ndarray) -> np.ndarray:
    """The area that object keypoint similarity divides by: the annotation's own, else `BOX_FRACTION` of its box.

    CrowdPose and AI Challenger annotate no areas; their tools take this part of the box.

    Args:
        area: (N,) square pixels, NaN or 0 where the annotation has none; None where none has one.
        boxes: (N, 4) x1, y1, x2, y2.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    instead = BOX_FRACTION * (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    if area is None:
        return np.asarray(instead)
    area = np.asarray(area, dtype=np.float64)
    return np.where(np.isfinite(area) & (area > 0), area, instead)


def estimate_sigmas(annotations: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Sigmas from objects that several people annotated: the spread of a keypoint over the square root of the area.

    Args:
        annotations: (R, N, K, 3) x, y, visibility of R repetitions of the same N objects, in pixels.
        areas: (N,) square pixels.

    Returns:
        (K,) float64; NaN for a keypoint that nobody annotated twice.

    Example:
        >>> sigmas = estimate_sigmas(np.stack([first, second]), areas)
    """
    points, seen = annotations[..., :2].astype(np.float64), annotations[..., 2] > 0
    times = seen.sum(axis=0)  # (N, K)
    weight = seen[..., None]
    center = (points * weight).sum(axis=0) / np.maximum(times, 1)[..., None]
    square = (((points - center) ** 2).sum(axis=-1) * seen).sum(axis=0) / np.asarray(areas, np.float64)[:, None]
    several = times > 1
    # The mean lies nearer to its own annotations than the truth does, hence one less.
    degrees = np.where(several, times - 1, 0).sum(axis=0)
    total = np.where(several, square, 0.0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(total / degrees))
