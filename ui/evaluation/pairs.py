"""Files of predictions and of ground truth that belong together: by their path below each folder."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from visionkit.errors import DataError


class Pair(NamedTuple):
    """One image's ground truth and prediction.

    Attributes:
        name: What both are called below their folders.
        truth: File of the ground truth.
        prediction: File of the prediction.
    """

    name: str
    truth: Path
    prediction: Path


@dataclass(frozen=True)
class Side:
    """Where the files of one side are.

    Attributes:
        path: A folder, or one file.
        ending: What the files' names end in beside what both sides share: `_depth`, `_HR.png`; files without it are
            none of this side.
        option: The option that sets the ending, for messages.
    """

    path: Path
    ending: str
    option: str


def pair_files(
    truth: Side, prediction: Side, suffixes: Sequence[str], prefer: Sequence[str] = ()
) -> tuple[list[Pair], list[str]]:
    """Pairs the files of two folders, or two files.

    Args:
        truth: Of the ground truth.
        prediction: Of the predictions.
        suffixes: Of files that are read, in lower case.
        prefer: Of two predictions that differ in nothing but these endings, the first is taken.

    Returns:
        The pairs by name, and what is to be said about files that are left out.

    Raises:
        DataError: Nothing there, a name that two files share, or ground truth without a prediction.
    """
    if truth.path.is_file() and prediction.path.is_file():
        return [Pair(truth.path.name, truth.path, prediction.path)], []
    known, notes = _listed(truth, suffixes, ())
    said, more = _listed(prediction, suffixes, prefer)
    missing = [name for name in known if name not in said]
    if missing:
        few = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(
            f"{prediction.path}: {len(missing)} of {len(known)} files of {truth.path} have no prediction of the same "
            f"path ({few}); where names end differently, say how with {truth.option} and {prediction.option}"
        )
    extra = len(said) - len(known)
    if extra:
        more.append(f"{extra} predictions of {prediction.path} have no ground truth and are left out")
    return [Pair(name, known[name], said[name]) for name in sorted(known)], notes + more


def _listed(side: Side, suffixes: Sequence[str], prefer: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """Files by their path below the folder, composed and without the ending."""
    if not side.path.exists():
        raise DataError(f"{side.path}: no such file or folder")
    if not side.path.is_dir():
        raise DataError(f"{side.path}: is a file, and the other side is a folder; give two files or two folders")
    out: dict[str, Path] = {}
    preferred = 0
    for path in sorted(side.path.rglob("*")):
        below = PurePosixPath(unicodedata.normalize("NFC", path.relative_to(side.path).as_posix()))
        if any(part.startswith((".", "@")) for part in below.parts) or not path.is_file():
            continue
        name = _without(below, side.ending)
        if path.suffix.lower() not in suffixes or name is None:
            continue
        if name in out:
            both = [out[name].suffix.lower(), path.suffix.lower()]
            if not all(suffix in prefer for suffix in both) or both[0] == both[1]:
                raise DataError(
                    f"{side.path}: {out[name].name} and {path.name} are both {name}; say which with {side.option}"
                )
            preferred += 1
            out[name] = min(out[name], path, key=lambda each: prefer.index(each.suffix.lower()))
        else:
            out[name] = path
    if not out:
        ending = f" ending in {side.ending!r}" if side.ending else ""
        raise DataError(f"{side.path}: no files{ending} in it (looked for {' '.join(suffixes)})")
    notes = [f"{preferred} files of {side.path} lie beside a {prefer[0]} of the same name, which is taken"]
    return out, notes if preferred else []


def _without(below: PurePosixPath, ending: str) -> str | None:
    """The path without its suffix and the side's ending; None where it does not end so."""
    for name in (below.name, below.stem):
        if name.endswith(ending):
            kept = name.removesuffix(ending) if ending else below.stem
            return (below.parent / (kept or below.stem)).as_posix()
    return None
