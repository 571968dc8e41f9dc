"""Lists of pairs that face networks are verified on: LFW's `pairs.txt`, and the `.bin` sets."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.class_names import shorten
from datamodules.image_store import FileStore, ImageStore
from visionkit.errors import DataError
from visionkit.images import ImageSource
from visionkit.listing import SUFFIXES, list_folders, resolve_listed
from visionkit.text_files import read_lines

_USUAL = (".jpg", ".png")  # asked for first

# All that the sets in circulation are made of: bytes, lists, booleans, arrays.
_HARMLESS = {
    ("_codecs", "encode"),
    *((module, "_reconstruct") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    *((module, "scalar") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


def read_verification_set(path: Path) -> tuple[ImageStore, dict[str, np.ndarray]]:
    """Images two by two, and the targets `identity` and `pair` of each.

    Args:
        path: A `.bin` file, or a `pairs.txt` beside the folders of people (or beside one folder that holds them).

    Raises:
        DataError: The file is missing or damaged, or names images that are not there.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; a list of pairs or a .bin set is expected")
    return _read_bin(path) if path.suffix == ".bin" else _read_pairs(path)


# ---------------------------------------------------------------------- pairs.txt


def _read_pairs(path: Path) -> tuple[ImageStore, dict[str, np.ndarray]]:
    """Lines of `name a b` (one person's images a and b) or `name a other b`, after a line with their number."""
    root: Path | None = None
    names: list[str] = []
    people: list[str] = []
    missing: list[str] = []
    for number, line in read_lines(path, "list of pairs"):
        fields = line.split("\t") if "\t" in line else line.split()
        if number == 1 and all(field.strip().isdigit() for field in fields):
            continue
        if len(fields) == 3:
            fields = [fields[0], fields[1], fields[0], fields[2]]
        if len(fields) != 4 or not (fields[1].isdigit() and fields[3].isdigit()):
            raise DataError(f"{path} line {number}: `name a b` or `name a other b` is expected, not {line[:60]!r}")
        root = root or _images_of(path, fields[0])
        for person, which in ((fields[0], fields[1]), (fields[2], fields[3])):
            found = _image(root, person, int(which))
            if found is None:
                missing.append(f"{person}/{person}_{int(which):04d} (line {number})")
            names.append(found or "")
            people.append(person)
    if root is None:
        raise DataError(f"{path}: no pairs in it")
    if missing:
        raise DataError(f"{path}: {len(missing)} images that it names are not in {root}: {shorten(missing, 3)}")
    _, identity = np.unique(people, return_inverse=True)
    return FileStore(root, names), _targets(identity)


def _images_of(path: Path, person: str) -> Path:
    """LFW's list lies beside the folders of people, or beside a folder of these: where the first of them is found."""
    folders = list_folders(path.parent)
    return next((each for each in (path.parent, *folders) if (each / person).is_dir()), path.parent)


def _image(root: Path, person: str, number: int) -> str | None:
    if "/" in person or person in ("", ".", ".."):
        return None
    stem = f"{person}/{person}_{number:04d}"
    for suffix in (*_USUAL, *sorted(SUFFIXES)):
        path = resolve_listed(root, stem + suffix)
        if path.is_file():
            return str(path.absolute())
    return None


# ---------------------------------------------------------------------- .bin


class _Bytes:
    """Encoded images in memory."""

    def __init__(self, path: Path, images: list[bytes]) -> None:
        self.path, self.images = path, images

    def __len__(self) -> int:
        return len(self.images)

    def source(self, number: int) -> ImageSource:
        return ImageSource(self.images[number], self.name(number))

    def name(self, number: int) -> str:
        return f"{self.path}[{number}]"


class _Unpickler(pickle.Unpickler):
    """Reads lists of bytes and booleans and refuses everything that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def _read_bin(path: Path) -> tuple[ImageStore, dict[str, np.ndarray]]:
    """A pickle of (encoded images two by two, whether each two are one person)."""
    try:
        loaded = _Unpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        images, same = loaded
        images = [_as_bytes(each) for each in images]
        same = np.asarray([bool(each) for each in same])
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: no .bin set, or one that could run code, which is refused ({error})") from None
    except Exception as error:  # a damaged pickle makes nearly any of them
        raise DataError(f"{path}: damaged, or no .bin set of images and pairs ({type(error).__name__})") from error
    if len(images) != 2 * len(same) or not len(same):
        raise DataError(f"{path}: {len(images)} images do not make {len(same)} pairs; download it again")
    # It states who is the same, not who: every pair has people of its own.
    first = np.arange(len(same)) * 2
    identity = np.stack([first, first + ~same], axis=1).ravel()
    return _Bytes(path, images), _targets(identity)


def _as_bytes(value: Any) -> bytes:
    return value.tobytes() if isinstance(value, np.ndarray) else bytes(value)


def _targets(identity: np.ndarray) -> dict[str, np.ndarray]:
    return {"identity": identity.astype(np.int64), "pair": np.arange(len(identity), dtype=np.int64) // 2}
