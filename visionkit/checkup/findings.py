"""What an examination of data finds, one record per fault."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from visionkit.checkup.kinds import KINDS, SEVERITIES, Severity

Box = tuple[float, float, float, float]


class Found(NamedTuple):
    """What a check of one sample reports; its place is added by the caller.

    Attributes:
        kind: A name of `visionkit.checkup.kinds`.
        message: What is wrong, with numbers.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        kind: A name of `visionkit.checkup.kinds`.
        split: `train`, `val` or `test`; several are joined by `+`.
        message: What is wrong, with numbers.
        file: The image, or empty.
        place: The label file and what in it, or empty.
        object: Number of the object in its image, from 1, or None.
        box: x1, y1, x2, y2 in file pixels of what is to be shown, or None.
        points: x, y of an outline or of keypoints in file pixels.
        others: Further images that belong to it, such as copies.
    """

    kind: str
    split: str
    message: str
    file: str = ""
    place: str = ""
    object: int | None = None
    box: Box | None = None
    points: tuple[tuple[float, float], ...] = ()
    others: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity:
        """That of its kind."""
        return KINDS[self.kind].severity

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not known is left out."""
        known: dict[str, Any] = {"kind": self.kind, "severity": self.severity, "split": self.split}
        known |= {"message": self.message, "file": self.file, "place": self.place, "object": self.object}
        known |= {"box": None if self.box is None else [_plain(value) for value in self.box]}
        known |= {"others": list(self.others), "advice": KINDS[self.kind].advice}
        return {key: value for key, value in known.items() if value not in (None, "", [])}

    def where(self) -> str:
        """The place in one line: of the label where there is one, else the image."""
        of = f" object {self.object}" if self.object is not None else ""
        return f"{self.place or self.file}{of}"


def _plain(value: float) -> float | None:
    """Json has no NaN."""
    return round(float(value), 3) if abs(value) < float("inf") else None


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """The most severe first, then by kind as they are listed, then by split and place."""
    kinds = {name: number for number, name in enumerate(KINDS)}
    return sorted(findings, key=lambda each: (SEVERITIES.index(each.severity), kinds[each.kind], each.split))
