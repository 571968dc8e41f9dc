"""Which images are worth a person's time first: those that a model is least certain of, and those unlike each other."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visionkit.errors import EnvironmentFault, UsageError

SCAN = "label_scan.jsonl"


@dataclass(frozen=True, eq=False)
class Scanned:
    """What a model makes of an image that may be labeled.

    Attributes:
        uncertainty: See `ui.labeling.uncertainty_of`.
        features: (D,) float32 of the backbone, or None where it gives none.
    """

    uncertainty: float
    features: np.ndarray | None


class Scan:
    """What a model made of images, kept in a file so that an interrupted or a second selection does not begin again.

    Args:
        path: Path of the file.
        model: Names the model and its weights; what was kept of another one is dropped.
    """

    def __init__(self, path: Path, model: Sequence[Any]) -> None:
        self.path, self.known = path, dict[str, Scanned]()
        head = json.dumps({"model": list(model)})
        try:
            lines = path.read_text("utf-8").split("\n")[:-1] if path.exists() else []
            if lines[:1] != [head]:
                path.write_text(head + "\n", encoding="utf-8")
                lines = []
            for line in lines[1:]:
                record = json.loads(line)
                features = record["features"]
                values = (
                    None if features is None else np.frombuffer(base64.b64decode(features), "<f2").astype(np.float32)
                )
                self.known[_key(record["image"], record["file"])] = Scanned(record["uncertainty"], values)
            whole = path.read_bytes().rfind(b"\n") + 1
            os.truncate(path, whole)  # a record that a full disk or a killed process left unfinished
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise EnvironmentFault(f"{path}: cannot be written ({error.strerror or error})") from error
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{path}: damaged; remove it, and the images are run through the model again") from None

    def get(self, path: Path) -> Scanned | None:
        """What is known of an image; None where that is nothing, or of another content."""
        return self.known.get(_key(str(path.resolve()), stamp(path)))

    def add(self, path: Path, scanned: Scanned) -> None:
        """Keeps what a model made of an image."""
        features = scanned.features
        packed = None if features is None else base64.b64encode(features.astype("<f2").tobytes()).decode()
        image, file = str(path.resolve()), stamp(path)
        record = {"image": image, "file": file, "uncertainty": scanned.uncertainty, "features": packed}
        rounded = None if features is None else features.astype("<f2").astype(np.float32)
        self.known[_key(image, file)] = Scanned(scanned.uncertainty, rounded)
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        except OSError as error:
            raise EnvironmentFault(f"{self.path}: cannot be written ({error.strerror or error})") from error

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _key(image: str, file: Sequence[int]) -> str:
    return f"{image} {list(file)}"


def stamp(path: Path) -> list[int]:
    """Size and time of a file, which change with its content."""
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def model_key(model: str) -> list[Any]:
    """Names a model and, where it is a file or a folder, the state of its weights."""
    path = Path(model)
    files = sorted(path.glob("*.*")) if path.is_dir() else [path] if path.is_file() else []
    return [str(path.resolve()) if files else model, *(stamp(each) for each in files)]


def select(scanned: Sequence[Scanned], number: int, by: str, labeled: Sequence[np.ndarray] = ()) -> list[int]:
    """Chooses images, the most useful one first; the same ones for the same input.

    `uncertainty` takes those with the highest. `diversity` takes the farthest point again and again: the image whose
    features are farthest from those of all chosen and labeled ones (k-center greedy, Sener and Savarese, 2018), from
    the most usual image on. `both` weights that distance by the uncertainty.

    Args:
        scanned: Images to choose from.
        number: Number of images to choose.
        by: `uncertainty`, `diversity` or `both`.
        labeled: Features of the images that have labels already.

    Raises:
        UsageError: The model gives no features to compare.
    """
    uncertainty = np.array([each.uncertainty for each in scanned])
    number = min(number, len(scanned))
    if by == "uncertainty":
        return [int(k) for k in np.argsort(-uncertainty, kind="stable")[:number]]
    if any(each.features is None for each in scanned):
        raise UsageError(f"--by {by}: this model has no backbone whose features could be compared; use uncertainty")
    features = np.stack([np.asarray(each.features, dtype=np.float64) for each in scanned])
    weights = uncertainty + 1e-6 if by == "both" else np.ones(len(features))
    far = np.full(len(features), np.inf)
    for each in labeled:
        far = np.minimum(far, np.linalg.norm(features - each, axis=1))
    chosen: list[int] = []
    while len(chosen) < number:
        if np.isinf(far).all():  # nothing to be far from yet
            usual = -np.linalg.norm(features - features.mean(axis=0), axis=1)
            worth = weights if by == "both" else usual
        else:
            worth = far * weights
        worth = np.where(np.isin(np.arange(len(features)), chosen), -np.inf, worth)
        chosen.append(int(np.argmax(worth)))
        far = np.minimum(far, np.linalg.norm(features - features[chosen[-1]], axis=1))
    return chosen
