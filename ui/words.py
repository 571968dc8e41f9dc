"""Predictions in a line of words for a terminal, and as records: one case for each kind of answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from visionkit.predictions import Classification, Faces, Label, LabelMap, Picture, Poses, Prediction


def in_words(answer: Prediction, top: int) -> str:
    """One line for people.

    Args:
        answer: The prediction.
        top: How many classes, at most.
    """
    case = _WORDS.get(answer.kind)
    return case(answer, top) if case else answer.kind


def to_record(answer: Prediction, top: int | None) -> dict[str, Any]:
    """The prediction in json types, with the `top` most probable classes alone where that is given."""
    record = answer.to_json()
    if top is not None and isinstance(answer, Classification):
        record["probabilities"] = {label.name: label.probability for label in answer.top(top)}
    return record


def _classification(answer: Any, top: int) -> str:
    if answer.multilabel and not answer.labels:
        return f"none of the classes (the nearest: {_share(answer.best)})"
    return ", ".join(map(_share, answer.labels[:top] if answer.multilabel else answer.top(top)))


def _share(label: Label) -> str:
    return f"{label.name} {label.probability:.1%}"


def _picture(answer: Any, top: int) -> str:
    height, width = answer.size
    return f"{width} x {height} pixels, {answer.scale} times the file"


def _label_map(answer: LabelMap, top: int) -> str:
    return ", ".join(f"{area.name} {area.share:.1%}" for area in answer.areas()[: max(top, 5)]) or "no class"


def _poses(answer: Any, top: int) -> str:
    shown = answer.above()
    subject = answer.skeleton.subject
    if not len(shown):
        return f"no {subject}"
    total = len(answer.skeleton)
    joints = ", ".join(f"{int(seen.sum())} of {total} joints" for seen in shown.visible[:top])
    return f"{len(shown)} {subject}{'' if len(shown) == 1 else 's'} ({joints}{', ...' if len(shown) > top else ''})"


def _faces(answer: Any, top: int) -> str:
    known = [name for name in answer.names if name]
    count = f"{len(answer)} face{'' if len(answer) == 1 else 's'}"
    return f"{count}: {', '.join(known)}" if known else count


_WORDS: dict[str, Callable[[Any, int], str]] = {
    Classification.kind: _classification,
    LabelMap.kind: _label_map,
    Faces.kind: _faces,
    Picture.kind: _picture,
    Poses.kind: _poses,
}
