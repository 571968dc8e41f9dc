"""Files of predictions and of ground truth that belong together: by their path below each folder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from datamodules.pairing import pair_by_name
from visionkit.errors import DataError
from visionkit.listing import Listing, list_files
from visionkit.names import normalized


class Pair(NamedTuple):
    """One image's ground truth and prediction.

    Attributes:
        name: What the ground truth is called below its folder.
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

    def key(self, stem: str) -> str:
        """What a name without its suffix has in common with the other side's."""
        ending = normalized(self.ending).removesuffix(Path(self.ending).suffix)
        return normalized(stem).removesuffix(ending)

    def has(self, path: Path) -> bool:
        """Whether a file's name ends as this side's do, with its suffix or without."""
        return any(normalized(name).endswith(normalized(self.ending)) for name in (path.name, path.stem))


def pair_files(
    truth: Side, prediction: Side, suffixes: Collection[str], prefer: Sequence[str] = ()
) -> tuple[list[Pair], list[str]]:
    """Pairs the files of two folders, or two files.

    Args:
        truth: Where the ground truth is.
        prediction: Where the predictions are.
        suffixes: Suffixes of files that are read, in lower case.
        prefer: Of two predictions that differ in nothing but these suffixes, the first is taken: `visionkit
            predict` writes depth as both.

    Returns:
        The pairs in the order of their names, and what is to be stated about files that are left out.

    Raises:
        DataError: Nothing there, a name that two files share, or ground truth without a prediction.
    """
    if truth.path.is_file() and prediction.path.is_file():
        return [Pair(truth.path.name, truth.path, prediction.path)], []
    for side in (truth, prediction):
        if side.path.is_file():
            raise DataError(f"{side.path}: is a file, and the other side is none; give two files or two folders")
    known, predicted = _listed(truth, suffixes), _listed(prediction, suffixes)
    notes = _keep_preferred(predicted, prefer)
    try:
        paired = pair_by_name(known, predicted, "prediction", truth.key, prediction.key)
    except DataError as error:
        raise DataError(
            f"{error}; where names end differently, state how with {truth.option} and {prediction.option}"
        ) from None
    if paired.alone:
        notes.append(f"{len(paired.alone)} predictions of {prediction.path} have no ground truth and are left out")
    return [Pair(real.relative_to(truth.path).as_posix(), real, found) for real, found in paired.pairs], notes


def _listed(side: Side, suffixes: Collection[str]) -> Listing:
    listing = list_files(side.path, suffixes, kind="such a file")
    listing.files = [path for path in listing.files if side.has(path)]
    if not listing.files:
        ending = f" ending in {side.ending!r}" if side.ending else ""
        raise DataError(f"{side.path}: no files{ending} in it (looked for {' '.join(sorted(suffixes))})")
    return listing


def _keep_preferred(listing: Listing, prefer: Sequence[str]) -> list[str]:
    if not prefer:
        return []
    best, *others = prefer
    there = {path.with_suffix("") for path in listing.files if path.suffix.lower() == best}
    kept = [path for path in listing.files if path.suffix.lower() not in others or path.with_suffix("") not in there]
    dropped = len(listing.files) - len(kept)
    listing.files = kept
    return (
        [f"{dropped} files of {listing.root} lie beside a {best} of the same name, which is taken"] if dropped else []
    )
