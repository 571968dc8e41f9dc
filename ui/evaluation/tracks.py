"""Tracks of files of MOTChallenge's format against their ground truth: HOTA, CLEAR MOT and identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ui.evaluation.measured import Measured
from visionkit.errors import DataError, UsageError, suggest

if TYPE_CHECKING:
    from visionkit.tracking.metrics import Convention
    from visionkit.tracking.protocols import TrackProtocol

_TEXTS = (".txt", ".csv", ".jsonl")


@dataclass(frozen=True)
class TrackOptions:
    """How tracks are measured.

    Attributes:
        benchmark: Whose protocol; by default MOT16's where the ground truth has classes, else MOT15's.
        classes: Classes of the ground truth that count.
        regions: Classes of the ground truth that are regions to be ignored.
        min_visibility: Least visibility of a true box that counts.
        convention: See `visionkit.tracking.metrics.Convention`.
    """

    benchmark: str | None = None
    classes: tuple[int, ...] = ()
    regions: tuple[int, ...] = ()
    min_visibility: float = 0.0
    convention: str = "trackeval"


def measure_tracks(
    truth: Sequence[Path], predictions: Sequence[Path], options: TrackOptions, analyze: bool = False
) -> Measured:
    """Measures sequences and all of them together.

    Args:
        truth: Files of ground truth, or one folder: of MOTChallenge's sequences, or of one text per sequence.
        predictions: As many files of tracks, in the same order, or a folder of one text per sequence.
        options: The protocol.
        analyze: Attribute the errors too.

    Raises:
        DataError: A file is missing or cannot be read, or has an id in a frame twice.
        UsageError: An unknown benchmark, or options that it does not have.
    """
    from visionkit.tracking.metrics import combine, measure
    from visionkit.tracking.mot_files import has_classes, read_tracks
    from visionkit.tracking.seqinfo import read_info
    from visionkit.tracking.track_errors import TrackAnalysis, track_errors

    convention = _convention(options.convention)
    sequences = _sequences(truth, predictions)
    texts = [each for _, each, _ in sequences if each.suffix != ".jsonl"]
    protocol = _protocol(options, bool(texts) and all(map(has_classes, texts)))
    parts, rows, notes = {}, [], []
    by_class: dict[int, list[Any]] = {}
    analysis = TrackAnalysis() if analyze else None
    for name, true, found in sequences:
        real, tracks = read_tracks(true), read_tracks(found)
        length = read_info(true.parent.parent).frames if true.parent.name == "gt" else 0
        if length and (late := tracks.frames > length).any():
            raise DataError(
                f"{found}: frame {tracks.frames[late][0]} of a sequence of {length} frames; is it the tracks of {name}?"
            )
        if left := protocol.other_classes(tracks):
            notes.append(f"{found}: {left} boxes of classes that do not count were left out")
        pairs = protocol.pairs(real, tracks, length or None)
        of_class = {label: measure(pair, convention) for label, pair in pairs.items()}
        for label, measures in of_class.items():
            by_class.setdefault(label, []).append(measures)
        for label, pair in pairs.items() if analysis is not None else ():
            title = name if len(pairs) == 1 else f"{name} class {label}"
            analysis.add_sequence(title, track_errors(pair, convention))  # type: ignore[union-attr]
        parts[name] = combine(list(of_class.values()))
        rows.append({"sequence": name, "frames": max(len(pair.true) for pair in pairs.values()), **_row(parts[name])})
    together = combine(list(parts.values()))
    boxes = int(together.hota.tp[0] + together.hota.fn[0])
    text = (
        f"{protocol.text()}; HOTA over 19 thresholds; CLEAR MOT and identity as {convention} defines them; "
        f"{len(parts)} sequence{'s' * (len(parts) != 1)}, {boxes} true boxes"
    )
    tables: dict[str, list[dict[str, Any]]] = {}
    if len(rows) > 1:
        tables["per sequence"] = rows
    if len(by_class) > 1:
        tables["per class"] = [{"class": label, **_row(combine(some))} for label, some in by_class.items()]
    return Measured(together.values(), text, tables, [], notes, analysis)


def _row(measures: Any) -> dict[str, float]:
    values = measures.values()
    names = ("hota", "deta", "assa", "mota", "motp", "idf1", "recall", "precision", "fp", "fn", "ids", "fm")
    whole = ("fp", "fn", "ids", "fm")
    return {name: int(values[name]) if name in whole else values[name] for name in names}


def _convention(given: str) -> Convention:
    from visionkit.tracking.metrics import Convention

    allowed = get_args(Convention)
    if given not in allowed:
        raise UsageError(f"--convention {given}: allowed are {', '.join(allowed)}{suggest(given, allowed)}")
    return given  # type: ignore[return-value]


def _protocol(options: TrackOptions, classes: bool) -> TrackProtocol:
    from visionkit.tracking.protocols import PROTOCOLS

    name = (options.benchmark or ("mot16" if classes else "mot15")).lower()
    if name not in PROTOCOLS:
        raise UsageError(f"--benchmark {name}: allowed are {', '.join(PROTOCOLS)}{suggest(name, PROTOCOLS)}")
    protocol = PROTOCOLS[name]
    if protocol.classes is not None and not classes:
        raise DataError(f"--benchmark {name}: the ground truth has no classes (nine columns); mot15 takes such files")
    if options.classes or options.regions or options.min_visibility:
        if protocol.classes is None:
            raise UsageError(f"{protocol.name}: --class, --ignore-class and --min-visibility need files with classes")
        protocol = protocol.with_options(options.classes, options.regions, options.min_visibility)
    return protocol


# ---------------------------------------------------------------------- which files belong together


def _sequences(truth: Sequence[Path], predictions: Sequence[Path]) -> list[tuple[str, Path, Path]]:
    """Name, ground truth and predictions of each sequence."""
    if len(truth) == 1 and truth[0].is_dir():
        if len(predictions) != 1 or not predictions[0].is_dir():
            raise UsageError(f"{truth[0]}: a folder of ground truth; give one folder of predictions too")
        return _of_folders(truth[0], predictions[0])
    if len(truth) != len(predictions):
        raise UsageError(
            f"{len(truth)} files of ground truth and {len(predictions)} of predictions; give one per sequence"
        )
    names = [_name(each) for each in truth]
    named = names if len(set(names)) == len(names) else [str(each) for each in truth]
    return list(zip(named, truth, predictions, strict=True))


def _name(path: Path) -> str:
    """Name of the sequence of a file: `A/gt/gt.txt` and `A/gt.txt` are of A."""
    if path.stem not in ("gt", "test", "res", "pred"):
        return path.stem
    above = path.absolute().parent
    return above.parent.name if above.name == "gt" else above.name


def _of_folders(truth: Path, predictions: Path) -> list[tuple[str, Path, Path]]:
    known: dict[str, Path] = {}
    if (truth / "gt" / "gt.txt").is_file():  # the folder of one sequence
        known[truth.absolute().name] = truth / "gt" / "gt.txt"
    for each in sorted(truth.iterdir()):
        if each.is_dir():
            inside = next((p for p in (each / "gt" / "gt.txt", each / "gt.txt") if p.is_file()), None)
            if inside is not None:
                known[each.name] = inside
        elif each.suffix in _TEXTS and each.stem.lower() not in ("readme", "seqmap"):
            known[each.stem] = each
    if not known:
        raise DataError(f"{truth}: no ground truth (<sequence>/gt/gt.txt, <sequence>/gt.txt or <sequence>.txt)")
    found = []
    for name, path in known.items():
        places = [predictions / f"{name}{suffix}" for suffix in _TEXTS]
        places += [predictions / name / f"{stem}.txt" for stem in ("tracks", "test", "res", "pred")]
        place = next((each for each in places if each.is_file()), None)
        if place is None:
            raise DataError(f"{predictions}: no tracks of sequence {name} (looked for {places[0].name})")
        found.append((name, path, place))
    return found
