"""Files of tracks: MOTChallenge's text, of 2015 and of 2016 and later, and records of `visionkit predict`.

A line of text is `frame,id,left,top,width,height,score,...`; frames, and positions in the image, count from 1. Ground
truth of 2016 and later goes on with class and visibility (nine columns), that of 2015 with world positions (ten).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from visionkit.errors import DataError
from visionkit.text_files import is_number, object_at, read_lines, real_number, whole_number
from visionkit.tracking.rows import TrackRows

_LEAST_COLUMNS = 6
_MAX_FRAME = 10_000_000  # of a day's video; a larger number is a mistake
_2016 = 9
"""Columns of ground truth that has classes and visibility."""


def read_tracks(path: str | Path) -> TrackRows:
    """The tracks of a file: MOTChallenge's text, or json lines where the name ends in `.jsonl`.

    Raises:
        DataError: It cannot be read, with the line.
    """
    path = Path(path)
    return read_records(path) if path.suffix == ".jsonl" else read_mot(path)


def read_mot(path: str | Path) -> TrackRows:
    """The tracks, the detections or the ground truth of a MOTChallenge text file.

    Columns are separated by commas or blanks. Without a seventh column the score is 1.

    Raises:
        DataError: Missing, or a line that is none of this format, with its number.
    """
    table = _table(Path(path))
    columns = table.shape[1]
    scores = table[:, 6] if columns > _LEAST_COLUMNS else np.ones(len(table))
    has_classes = columns == _2016
    corners = table[:, 2:4] - 1
    return TrackRows(
        table[:, 0].astype(np.int64),
        table[:, 1].astype(np.int64),
        np.concatenate([corners, corners + table[:, 4:6]], axis=1),
        scores,
        table[:, 7].astype(np.int64) if has_classes or _states_classes(table) else np.full(len(table), -1),
        table[:, 8] if has_classes else np.ones(len(table)),
        str(path),
    )


def has_classes(path: str | Path) -> bool:
    """Whether a ground truth file has classes and visibility, as those of 2016 and later have."""
    lines = read_lines(path, "file of tracks")
    return bool(lines) and len(_cells(lines[0][1])) == _2016


def read_records(path: str | Path) -> TrackRows:
    """The tracks in the records of `visionkit predict --track`.

    Raises:
        DataError: A line that is no record of tracks, with its number.
    """
    table: list[tuple[float, ...]] = []
    for number, line in read_lines(path, "file of tracks"):
        place = f"{path} line {number}"
        try:
            record = object_at(json.loads(line), place, "record of a frame")
        except ValueError:
            raise DataError(f"{place}: not valid json") from None
        prediction = object_at(record.get("prediction"), place, "prediction")
        if "frame" not in record or prediction.get("kind") != "tracks":
            raise DataError(f"{place}: no tracks of a frame; these are records of predict without --track")
        frame = whole_number(record["frame"], place, "frame") + 1
        for each in prediction.get("objects", ()):
            found = object_at(each, place, "object")
            box = found.get("box")
            if not isinstance(box, list) or len(box) != 4:
                raise DataError(f"{place}: box is a list of x1, y1, x2, y2")
            corners = [real_number(value, place, "box") for value in box]
            score = real_number(found.get("score", 1), place, "score")
            label = whole_number(found.get("label", 0), place, "label") + 1
            table.append((frame, whole_number(found.get("id"), place, "id"), *corners, score, label))
    values = np.array(table, np.float64).reshape(-1, 8)
    frames, ids, labels = (values[:, column].astype(np.int64) for column in (0, 1, 7))
    return TrackRows(frames, ids, values[:, 2:6], values[:, 6], labels, name=str(path))


def write_mot(path: str | Path, rows: TrackRows) -> None:
    """Writes tracks as MOTChallenge's text.

    Raises:
        EnvironmentFault: The file cannot be written.
    """
    from visionkit.atomic import atomic_file

    with atomic_file(Path(path)) as file:
        for line in mot_lines(rows):
            file.write(f"{line}\n".encode())


def mot_lines(rows: TrackRows) -> Iterable[str]:
    """Lines of results as MOTChallenge takes them, in the order of the rows; boxes to a hundredth of a pixel."""
    for frame, number, box, score, label in zip(
        rows.frames, rows.ids, rows.boxes, rows.scores, rows.classes, strict=True
    ):
        x1, y1, x2, y2 = (float(value) for value in box)
        sides = ",".join(f"{value:.2f}" for value in (x1 + 1, y1 + 1, x2 - x1, y2 - y1))
        yield f"{frame},{number},{sides},{score:.4f},{label},-1,-1"


def _states_classes(table: np.ndarray) -> bool:
    """Whether the eighth column of results holds classes: whole numbers from 1 on, and -1 in all that follow."""
    if table.shape[1] < 10 or not len(table):
        return False
    labels = table[:, 7]
    return bool((labels == np.rint(labels)).all() and (labels >= 1).all() and (table[:, 8:] == -1).all())


def _table(path: Path) -> np.ndarray:
    lines = read_lines(path, "file of tracks")
    if not lines:
        return np.zeros((0, 7))
    text = "\n".join(line for _, line in lines)
    try:
        first = lines[0][1]
        delimiter = next((each for each in ",;" if each in first), None)
        table = np.loadtxt(io.StringIO(text), delimiter=delimiter, ndmin=2, comments=None)
    except ValueError:
        raise _fault(path, lines) from None
    if table.shape[1] < _LEAST_COLUMNS or not _is_sound(table):
        raise _fault(path, lines)
    return table


def _is_sound(table: np.ndarray) -> bool:
    numbers = table[:, :2]
    whole = bool((numbers == np.rint(numbers)).all() and (np.abs(numbers) < 2**53).all())
    return (
        bool(np.isfinite(table).all())
        and whole
        and bool(((table[:, 0] >= 1) & (table[:, 0] <= _MAX_FRAME)).all() and (table[:, 4:6] >= 0).all())
    )


def _fault(path: Path, lines: list[tuple[int, str]]) -> DataError:
    """The message for the first line that is wrong."""
    wide = len(_cells(lines[0][1]))
    for number, line in lines:
        place, cells = f"{path} line {number}", _cells(line)
        if len(cells) < _LEAST_COLUMNS or not all(map(is_number, cells)):
            return DataError(
                f"{place}: {line[:60]!r} is not frame,id,left,top,width,height,score,... as MOT files have"
            )
        if len(cells) != wide:
            return DataError(f"{place}: {len(cells)} columns where the first line has {wide}")
        values = np.array([float(cell) for cell in cells])
        if not np.isfinite(values).all():
            return DataError(f"{place}: a number that is not finite")
        if not (values[:2] == np.rint(values[:2])).all() or not 1 <= values[0] <= _MAX_FRAME:
            return DataError(
                f"{place}: frame {cells[0]}, id {cells[1]}; allowed are whole numbers, frames from 1 to {_MAX_FRAME:,}"
            )
        if (values[4:6] < 0).any():
            return DataError(f"{place}: a box of width {cells[4]} and height {cells[5]}; both are at least 0")
    return DataError(f"{path}: not a MOT file")


def _cells(line: str) -> list[str]:
    delimiter = next((each for each in ",;" if each in line), None)
    return [cell.strip() for cell in line.split(delimiter)]
