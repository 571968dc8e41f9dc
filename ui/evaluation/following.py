"""Boxes of one followed object per sequence against its true boxes: OTB's one-pass evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ui.evaluation.measured import Measured
from visionkit.errors import DataError, UsageError, suggest

if TYPE_CHECKING:
    from visionkit.following.one_pass import Convention, OnePass

_TEXTS = (".txt", ".csv", ".json")


def measure_following(truth: Sequence[Path], predictions: Sequence[Path], convention: str | None = None) -> Measured:
    """Measures sequences and the mean over them.

    Args:
        truth: Files of true boxes, or one folder: a sequence of OTB or a folder of them.
        predictions: As many files of boxes, in the same order, or a folder with one per sequence.
        convention: See `visionkit.following.one_pass.Convention`; OTB's by default.

    Raises:
        DataError: A file is missing or cannot be read, or has another number of boxes.
        UsageError: An unknown convention, or another number of files.
    """
    from visionkit.following.one_pass import Convention, measure
    from visionkit.following.otb_files import read_boxes

    allowed = get_args(Convention)
    chosen: Any = convention or "otb"
    if chosen not in allowed:
        raise UsageError(f"--convention {chosen}: allowed are {', '.join(allowed)}{suggest(chosen, allowed)}")
    parts = {
        name: measure(read_boxes(true), read_boxes(found), chosen, str(found))
        for name, true, found in _pairs(truth, predictions)
    }
    return measured(parts, chosen)


def measured(parts: Mapping[str, OnePass], convention: Convention) -> Measured:
    """What was measured, with a row per sequence where there are several.

    Args:
        parts: By the name of the sequence.
        convention: What counted.
    """
    from visionkit.following.one_pass import mean_values, protocol_text

    each = list(parts.values())
    rows = [{"sequence": name, "frames": len(part.frames), **part.values()} for name, part in parts.items()]
    frames = [
        {
            "sequence": name,
            "frame": int(frame),
            "distance": float(apart) if apart < float("inf") else None,
            "overlap": float(overlap),
        }
        for name, part in parts.items()
        for frame, apart, overlap in zip(part.frames, part.distances, part.overlaps, strict=True)
    ]
    tables = {"per sequence": rows} if len(rows) > 1 else {}
    return Measured(mean_values(each), protocol_text(each, convention), tables, frames)


def _pairs(truth: Sequence[Path], predictions: Sequence[Path]) -> list[tuple[str, Path, Path]]:
    """Name, true boxes and predicted boxes of each sequence."""
    from visionkit.following.otb_files import find_truth

    if len(truth) == 1 and truth[0].is_dir():
        if len(predictions) != 1 or not predictions[0].is_dir():
            raise UsageError(f"{truth[0]}: a folder of ground truth; give one folder of predictions too")
        return [(name, path, _found(name, predictions[0])) for name, path in find_truth(truth[0]).items()]
    if len(truth) != len(predictions):
        raise UsageError(
            f"{len(truth)} files of ground truth and {len(predictions)} of predictions; give one per sequence"
        )
    names = [each.absolute().parent.name if each.stem.startswith("groundtruth_rect") else each.stem for each in truth]
    named = names if len(set(names)) == len(names) else [str(each) for each in truth]
    return list(zip(named, truth, predictions, strict=True))


def _found(name: str, folder: Path) -> Path:
    """The predicted boxes of a sequence, in a folder or where `visionkit follow --out` puts them."""
    places = [home / f"{name}{suffix}" for home in (folder, folder / "boxes") for suffix in _TEXTS]
    place = next((each for each in places if each.is_file()), None)
    if place is None:
        raise DataError(f"{folder}: no boxes of sequence {name} (looked for {places[0].name})")
    return place
