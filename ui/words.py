"""Predictions in a line of words for a terminal, and as records: one case for each kind of answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from visionkit.predictions import (
    Answers,
    Classification,
    DepthMap,
    Detections,
    Faces,
    Instances,
    Label,
    LabelMap,
    Picture,
    Poses,
    Prediction,
)
from visionkit.wording import counted


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


def nothing_found(answer: Prediction) -> str:
    """What is said of an answer that is empty, of several heads of those that are; "" where there is something."""
    if isinstance(answer, Answers):
        empty = {name: nothing_found(part) for name, part in answer.items()}
        return "; ".join(f"{name}: {words}" for name, words in empty.items() if words)
    objects = isinstance(answer, (Detections, Poses)) and not len(answer.above())
    faces = isinstance(answer, Faces) and not len(answer)
    labels = isinstance(answer, Classification) and answer.multilabel and not answer.labels
    areas = isinstance(answer, LabelMap) and not answer.areas()
    return in_words(answer, 3) if objects or faces or labels or areas else ""


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
        return f"{counted(0, subject)} found"
    total = len(answer.skeleton)
    joints = ", ".join(f"{int(seen.sum())} of {total} joints" for seen in shown.visible[:top])
    return f"{counted(len(shown), subject)} ({joints}{', ...' if len(shown) > top else ''})"


def _faces(answer: Any, top: int) -> str:
    if answer.whole_image and answer.faces_found == 0:
        return "0 faces found; the whole image was taken as one face"
    known = [name for name in answer.names if name]
    count = counted(len(answer), "face") if len(answer) else "0 faces found"
    return f"{count}: {', '.join(known)}" if known else count


def as_asked(answer: Prediction, options: Mapping[str, Any]) -> Prediction:
    """The answer as it is drawn and told: objects from the score that was asked for, where one was.

    Args:
        answer: The prediction.
        options: Of the task's `decode`.
    """
    score = options.get("score_threshold")
    return answer.with_threshold(float(score)) if isinstance(answer, Detections) and score is not None else answer


def _detections(answer: Any, top: int) -> str:
    shown = answer.above()
    if not len(shown):
        best = f" (highest-scoring: {answer.names[0]} {answer.scores[0]:.2f})" if len(answer) else ""
        return f"0 objects found{best}"
    best = ", ".join(f"{name} {score:.2f}" for name, score in zip(shown.names[:top], shown.scores[:top], strict=True))
    counts = Counter(shown.names).most_common()
    told = ", ".join(f"{number} {name}" for name, number in counts[:top])
    rest = f" and {len(counts) - top} more classes" if len(counts) > top else ""
    return best if len(shown) <= top else f"{told}{rest}; the surest {best.split(',')[0]}"


def _depth(answer: Any, top: int) -> str:
    told = answer.summary()
    if told["median"] is None:
        return "no depth"
    if not answer.metric:
        return "relative depth, from near to far"
    return f"{told['min']:.2f} to {told['max']:.2f} m, half of it nearer than {told['median']:.2f} m"


def _answers(answer: Answers, top: int) -> str:
    return "; ".join(f"{name}: {in_words(part, top)}" for name, part in answer.items())


_WORDS: dict[str, Callable[[Any, int], str]] = {
    Answers.kind: _answers,
    Classification.kind: _classification,
    DepthMap.kind: _depth,
    Detections.kind: _detections,
    Instances.kind: _detections,
    LabelMap.kind: _label_map,
    Faces.kind: _faces,
    Picture.kind: _picture,
    Poses.kind: _poses,
}
