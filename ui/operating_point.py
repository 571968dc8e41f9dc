"""From which similarity on two faces are one person: a model's ROC, read at the false-accept rate asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from visionkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from tasks.face_recognition.gallery import Gallery
    from visionkit.predictions import Faces

FAR = 0.01
"""Rate at which strangers may pass where none is asked for."""


class Point(NamedTuple):
    """From which similarity on two faces are one person.

    Attributes:
        threshold: The similarity.
        message: Where it comes from, in words.
        curve: Rows of the ROC with `far`, `tar` and `threshold`; empty where none is known.
    """

    threshold: float
    message: str
    curve: list[dict[str, float]]


def operating_point(
    curve: list[dict[str, float]], far: float, threshold: float | None = None, source: str = "the model card"
) -> Point:
    """The threshold that a false-accept rate asks for.

    Args:
        curve: Rows of the ROC.
        far: Rate at which strangers may pass.
        threshold: Taken as it is, where given.
        source: Where the curve comes from, for messages.

    Raises:
        UsageError: No curve, or one that does not reach that low.
    """
    if threshold is not None:
        if not -1 <= threshold <= 1:
            raise UsageError(f"threshold {threshold}: a cosine lies between -1 and 1")
        return Point(threshold, f"threshold {threshold:.3f} as given", curve)
    if not 0 < far < 1:
        raise UsageError(f"false-accept rate {far}: a rate lies between 0 and 1")
    if not curve:
        raise UsageError(
            f"{source} has no ROC to read a false-accept rate of {far:g} from; on the command line --threshold or "
            "--roc results.json does without"
        )
    lowest = min((row["far"] for row in curve if row["far"] > 0), default=1.0)
    possible = [row for row in curve if row["far"] <= far]
    # Rates that rest on fewer than ten false accepts are not stated: the lowest on the curve is one pair.
    if not possible or far < 10 * lowest:
        raise UsageError(
            f"false-accept rate {far:g}: {source} supports no rate below {10 * lowest:.2g}; give that or a higher one"
        )
    row = max(possible, key=lambda each: each["far"])
    return Point(row["threshold"], f"threshold {row['threshold']:.3f} for a false-accept rate of {far:g}", curve)


def place_on_curve(score: float, curve: Sequence[dict[str, float]]) -> dict[str, float]:
    """Which fraction of pairs of different people (`far`) and of one person (`tar`) score as high, or nothing."""
    if not curve:
        return {}
    rows = sorted(curve, key=lambda row: row["threshold"])
    reached = [row for row in rows if row["threshold"] >= score]
    row = reached[0] if reached else {"far": 0.0, "tar": 0.0}
    return {"far": row["far"], "tar": row["tar"]}


def read_curve(path: Path) -> list[dict[str, float]]:
    """The ROC in a results.json.

    Raises:
        DataError: Not there, or without one.
    """
    try:
        rows = json.loads(path.read_text("utf-8"))["tables"]["roc"]
        return [{key: float(row[key]) for key in ("far", "tar", "threshold")} for row in rows]
    except FileNotFoundError:
        raise DataError(f"--roc {path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"--roc {path}: holds no table `roc`; give what `visionkit test --results` wrote") from error


def card_curve(card: dict[str, Any]) -> list[dict[str, float]]:
    """The ROC in a model card, or nothing."""
    rows = card.get("roc") or []
    try:
        return [{"far": float(far), "tar": float(tar), "threshold": float(at)} for far, tar, at in rows]
    except (TypeError, ValueError):
        return []


def named(gallery: Gallery, faces: Faces, threshold: float) -> Faces:
    """The same faces with the names of those who are known."""
    from dataclasses import replace

    import numpy as np

    predictions = gallery.identify(faces.embeddings) if len(faces) else []
    scores = np.array([found[0].similarity if found else np.nan for found in predictions], np.float32)
    names = tuple(found[0].name if found and found[0].similarity >= threshold else None for found in predictions)
    return replace(faces, names=names, similarities=scores)
