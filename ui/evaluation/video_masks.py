"""Masks of videos against their ground truth: DAVIS's region similarity J and contour accuracy F."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.evaluation.measured import Measured
from visionkit.errors import DataError

if TYPE_CHECKING:
    import numpy as np

_SUFFIX = ".png"


def measure_video_masks(truth: Path, predictions: Path, all_frames: bool = False) -> Measured:
    """Measures every object that the first frame of its sequence marks.

    Args:
        truth: Folder of one sequence's masks, one png per frame, or of such folders by name of the sequence.
        predictions: The same of the predictions.
        all_frames: The first and the last frame of each sequence count too.

    Raises:
        DataError: A file is missing or cannot be read, sizes differ, or a first frame marks no object.
    """
    from visionkit.families.propagation.metrics import ObjectScores, SequenceScores, Statistics, combine

    sequences, notes = _sequences(truth, predictions)
    objects: list[ObjectScores] = []
    rows: list[dict[str, Any]] = []
    frames: list[dict[str, Any]] = []
    count = 0
    for name, true, found in sequences:
        files = _frames(true)
        first = _read(files[0])
        scores = SequenceScores(first)
        if not scores.objects:
            raise DataError(f"{files[0]}: the first frame of {name} marks no object, all pixels are 0")
        counted = files if all_frames else files[1:-1]
        if not counted:
            raise DataError(
                f"{true}: {len(files)} frames; the first and the last one are left out, so at least 3 are needed"
            )
        late: set[int] = set()
        for path in counted:
            real, ours = _read(path), _prediction(found, path, name)
            if real.shape != first.shape or ours.shape != first.shape:
                odd, shape = (path, real.shape) if real.shape != first.shape else (found / path.name, ours.shape)
                raise DataError(
                    f"{odd}: {shape[1]}x{shape[0]} pixels, and the first frame of {name} has "
                    f"{first.shape[1]}x{first.shape[0]}"
                )
            late |= _late(real, scores)
            scores.add(ours, real)
        if late:
            which = ", ".join(map(str, sorted(late)))
            notes.append(f"{name}: objects {which} are not in its first frame, where they would be given, and left out")
        for number, each in scores.objects.items():
            of = {"j": Statistics.of(each.j), "f": Statistics.of(each.f)}
            values = {f"{key}_{what}": getattr(of[key], what) for key in of for what in ("mean", "recall", "decay")}
            mean = (of["j"].mean + of["f"].mean) / 2
            rows.append({"sequence": name, "object": number, "frames": len(counted), "j_and_f": mean, **values})
            frames += [
                {"image": f"{name}/{path.name}", "object": number, "j": j, "f": f}
                for path, j, f in zip(counted, each.j, each.f, strict=True)
            ]
        objects += scores.objects.values()
        count += len(counted)
    left_out = "all frames" if all_frames else "first and last frame left out"
    text = (
        f"DAVIS, semi-supervised: J is IoU, F the F-measure of boundaries within .008 of the diagonal, {left_out}; "
        f"means over {len(objects)} object{'s' * (len(objects) != 1)} in {count} frames of {len(sequences)} "
        f"sequence{'s' * (len(sequences) != 1)}"
    )
    return Measured(combine(objects), text, {"per object": rows} if len(rows) > 1 else {}, frames, notes)


def _late(truth: np.ndarray, scores: Any) -> set[int]:
    from visionkit.drawing.object_masks import object_numbers

    return set() if scores.is_binary else set(object_numbers(truth)) - set(scores.objects)


def _read(path: Path) -> np.ndarray:
    """(h, w) uint8 numbers of a mask."""
    import numpy as np

    from datamodules.value_files import gray, read_values

    values = read_values(path, "mask")
    numbers = gray(values.array, values.lossy)
    if numbers.ndim != 2:
        raise DataError(f"{path}: is in color; a mask has one number per pixel, 0 for the background")
    if numbers.dtype.kind == "f" or numbers.min() < 0 or numbers.max() > 255:
        raise DataError(f"{path}: values from {numbers.min()} to {numbers.max()}; objects of a mask are 1 to 254")
    return numbers.astype(np.uint8)


def _prediction(folder: Path, truth: Path, name: str) -> np.ndarray:
    path = folder / truth.name
    if not path.is_file():
        raise DataError(f"{path}: no mask of frame {truth.stem} of sequence {name}; each frame of the truth needs one")
    return _read(path)


def _frames(folder: Path) -> list[Path]:
    from visionkit.listing import list_files

    return list_files(folder, (_SUFFIX,), deep=False, kind="a mask").files


def _sequences(truth: Path, predictions: Path) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    """Name, ground truth and predictions of each sequence, and what was left out."""
    for folder in (truth, predictions):
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "no such folder"
            raise DataError(f"{folder}: {what}; give a folder of masks, one png per frame, or of such folders")
    known, found = _folders(truth), _folders(predictions)
    if not known:
        raise DataError(f"{truth}: no masks in it (<frame>.png, or <sequence>/<frame>.png)")
    if list(known.values()) == [truth]:
        name = truth.absolute().name
        place = found.get(name) or (predictions if predictions in found.values() else None)
        if place is None:
            raise DataError(f"{predictions}: no masks of sequence {name} in it")
        return [(name, truth, place)], []
    missing = [name for name in known if name not in found]
    if missing:
        raise DataError(f"{predictions}: no folder of masks of sequence {', '.join(missing[:3])}")
    notes = [f"{predictions}: {len(found.keys() - known.keys())} sequences have no ground truth and are left out"]
    return [(name, path, found[name]) for name, path in known.items()], notes * bool(found.keys() - known.keys())


def _folders(folder: Path) -> dict[str, Path]:
    """Folders of masks by name: this one, or those in it."""
    if any(each.suffix.lower() == _SUFFIX and not each.name.startswith(".") for each in folder.iterdir()):
        return {folder.absolute().name: folder}
    inside = [each for each in sorted(folder.iterdir()) if each.is_dir() and not each.name.startswith((".", "@"))]
    return {each.name: each for each in inside if any(path.suffix.lower() == _SUFFIX for path in each.iterdir())}
