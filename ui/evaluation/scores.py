"""Verification from scores: how alike the images of each pair are, and whether they show one person."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ui.evaluation.measured import Measured, Resampled
from visionkit.errors import DataError
from visionkit.text_files import is_number, read_csv

TRUTH_COLUMNS = ("same", "issame", "label", "target", "match", "truth")
SCORE_COLUMNS = ("score", "similarity", "cosine", "prediction")
DISTANCE_COLUMNS = ("distance", "dist")

_YES = {"1", "1.0", "true", "yes", "same", "positive", "genuine"}
_NO = {"0", "0.0", "-1", "-1.0", "false", "no", "different", "negative", "impostor"}


def measure_scores(truth: Path, scores: Path | None = None, distance: bool = False, analyze: bool = False) -> Measured:
    """Area under the ROC, equal error rate, TAR at FAR and the ten-fold accuracy.

    Args:
        truth: A csv whose column `same` holds 1 for a pair of one person and 0 for others, or one such number per line.
        scores: A csv with a column `score`, one score per line, or a .npy; by default the truth's csv has them too.
            Rows belong together by the further columns that both files have, else by their order.
        distance: Scores are distances: the smaller, the more alike.
        analyze: List the hardest pairs too; the first two further columns of the truth name them, others group them.

    Raises:
        DataError: A file that cannot be read, rows that do not belong together, or pairs of one type alone.
    """
    from tasks.face_recognition.analysis import ScoreAnalysis
    from tasks.face_recognition.metrics import curve, curve_table
    from tasks.face_recognition.verification import FALSE_ACCEPT_RATES, Roc, deal, ten_fold
    from tasks.face_recognition.weighted_faces import WeightedVerification, power
    from visionkit.uncertainty.resampling import Units

    known = _read(truth)
    rows = known if scores is None else _read(scores)
    same = np.array([_flag(value, truth, row) for row, value in _column(known, TRUTH_COLUMNS, truth)], dtype=bool)
    named = [name for name in DISTANCE_COLUMNS if name in rows[0]] if rows else []
    distance = distance or (bool(named) and not any(name in rows[0] for name in SCORE_COLUMNS))
    source = truth if scores is None else scores
    columns = (*SCORE_COLUMNS, *DISTANCE_COLUMNS)
    values = np.array([_number(value, source, row) for row, value in _column(rows, columns, source)], dtype=np.float64)
    if rows is not known:
        values = values[_order(known, rows, truth, source)]
    if distance:
        values = -values
    if not (same.any() and (~same).any()):
        raise DataError(f"{truth}: pairs of one person and pairs of different people are both needed")
    roc = Roc.of(values, same)
    metrics = {"auc": roc.area, "eer": roc.equal_error_rate}
    folds = deal(same)
    if len(np.unique(folds)) > 1:
        folded = ten_fold(values, same, folds)
        metrics |= {"accuracy": folded.mean, "accuracy_std": folded.deviation, "threshold": folded.threshold}
    for rate in FALSE_ACCEPT_RATES:
        if roc.supports(rate):
            metrics[f"tar_at_far_{power(rate)}"] = roc.at(rate)[0]
    protocol = (
        f"{roc.same} pairs of one person and {roc.different} of different people, every score a threshold; accuracy by "
        f"{len(np.unique(folds))} folds dealt in turn, the threshold chosen on the others, both types weighing the same"
        + ("; scores are negated distances" if distance else "")
    )
    import torch

    analysis = None
    if analyze:
        measured = {*TRUTH_COLUMNS, *SCORE_COLUMNS, *DISTANCE_COLUMNS, ""}
        names, *further = [name for name in known[0] if name not in measured][:2], *known[0]
        titles = [" ".join(row[name] for name in names) or f"pair {k}" for k, row in enumerate(known, 1)]
        analysis = ScoreAnalysis(titles, values, same)
        groups = [name for name in further if name not in measured | {*names}]
        analysis.facts = {
            title: {name: row[name] for name in groups if row[name]} for title, row in zip(titles, known, strict=True)
        }
    kinds = [int(each) for each in same]
    units = replace(Units.of([""] * len(same), kinds, "pair"), strata_kind="type of pair")
    resampled = Resampled([WeightedVerification(values, same, folds)], units)
    table = curve_table(torch.from_numpy(curve(roc)))
    return Measured(metrics, protocol, {"roc": table}, analysis=analysis, resampled=resampled)


Row = dict[str, str]


def _read(path: Path) -> list[Row]:
    """Rows of a csv by column; a file without a header has one column, named ''."""
    if path.suffix.lower() == ".npy":
        try:
            return [{"": repr(float(value))} for value in np.load(path, allow_pickle=False).reshape(-1)]
        except FileNotFoundError:
            raise DataError(f"{path}: no such file") from None
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise DataError(f"{path}: cannot be read as .npy ({' '.join(str(error).split())[:120]})") from None
    table = [(number, [cell.strip() for cell in row]) for number, row in read_csv(path, "table of pairs")]
    table = [(number, row) for number, row in table if any(row)]
    if not table:
        raise DataError(f"{path}: empty")
    if len(table[0][1]) == 1 and len(table[0][1][0].split()) > 1:
        table = [(number, row[0].split()) for number, row in table]
    head = [cell.lower() for cell in table[0][1]]
    if not {*TRUTH_COLUMNS, *SCORE_COLUMNS, *DISTANCE_COLUMNS}.intersection(head):
        if len(head) != 1:
            raise DataError(
                f"{path}: its first line names no column; write `same` over the truth and `score` over the scores"
            )
        values = [row[0] for _, row in table]
        return [{"": value} for value in (values if is_number(head[0]) or head[0] in _YES | _NO else values[1:])]
    for number, row in table[1:]:
        if len(row) != len(head):
            raise DataError(f"{path} line {number}: {len(row)} columns where the first line has {len(head)}")
    return [dict(zip(head, row, strict=True)) for _, row in table[1:]]


def _column(rows: list[Row], names: tuple[str, ...], path: Path) -> list[tuple[int, str]]:
    first = rows[0] if rows else {}
    name = next((name for name in (*names, "") if name in first), None)
    if name is None:
        raise DataError(f"{path}: no column {names[0]!r} among {', '.join(first)}")
    return [(number, row[name]) for number, row in enumerate(rows)]


def _flag(text: str, path: Path, row: int) -> bool:
    if text.lower() in _YES | _NO:
        return text.lower() in _YES
    raise DataError(f"{path} row {row + 1}: {text!r} is neither 1 (one person) nor 0 (different people)")


def _number(text: str, path: Path, row: int) -> float:
    if not is_number(text) or not math.isfinite(float(text)):
        raise DataError(f"{path} row {row + 1}: the score {text!r} is no finite number")
    return float(text)


def _order(known: list[Row], scored: list[Row], truth: Path, scores: Path) -> Any:
    """The row of scores for each row of the truth."""
    measured = {*TRUTH_COLUMNS, *SCORE_COLUMNS, *DISTANCE_COLUMNS, ""}
    keys = [name for name in known[0] if name in scored[0] and name not in measured] if known and scored else []
    if not keys:
        if len(known) != len(scored):
            raise DataError(f"{scores}: {len(scored)} scores for the {len(known)} pairs of {truth}")
        return np.arange(len(known))
    place: dict[tuple[str, ...], int] = {}
    for number, row in enumerate(scored):
        key = tuple(row[name] for name in keys)
        if key in place:
            raise DataError(f"{scores} row {number + 1}: duplicate pair {' '.join(key)}")
        place[key] = number
    rows = []
    for number, row in enumerate(known):
        key = tuple(row[name] for name in keys)
        if key not in place:
            raise DataError(f"{truth} row {number + 1}: {scores} has no score of the pair {' '.join(key)}")
        rows.append(place[key])
    return np.array(rows, dtype=np.int64)
