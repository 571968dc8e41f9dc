"""One pass over the images: each is decoded once, small, and measured together with its target."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset

from visionkit.checkup.findings import Found
from visionkit.checkup.near_duplicates import Fingerprint, fingerprint_of
from visionkit.checkup.samples import Seen, check_sample
from visionkit.errors import DataError
from visionkit.inputs import last_frame
from visionkit.refusals import kept_refusals
from visionkit.types import Sample
from visionkit.workers import init_worker, shorten_sockets

DECODED = 224
"""Shorter side in pixels that a JPEG is decoded to at least."""

_BATCH = 16
_WHOLE = 1 << 24  # bytes of a file up to which all of them are compared
_SMALL_KEYS = ("boxes", "labels", "iscrowd", "area", "keypoints", "identity")
_TYPES = (
    (b"\xff\xd8\xff", "JPEG", (".jpg", ".jpeg", ".jfif", ".jpe", ".mpo")),
    (b"\x89PNG", "PNG", (".png", ".apng")),
    (b"GIF8", "GIF", (".gif",)),
    (b"BM", "BMP", (".bmp", ".dib")),
    (b"RIFF", "WebP", (".webp",)),
    (b"II*\0", "TIFF", (".tif", ".tiff")),
    (b"MM\0*", "TIFF", (".tif", ".tiff")),
)
_KNOWN = {ending for _, _, endings in _TYPES for ending in endings}


class Measured(NamedTuple):
    """What is known of one sample after it was read.

    Attributes:
        file: Path or name of its image.
        size: Height and width of the file with EXIF applied, or None where it cannot be read.
        orientation: EXIF orientation, 1 to 8.
        gray: Its pixels have no color.
        mean: (3,) float64, of the values 0 to 1.
        square: (3,) float64, mean of their squares.
        print: What it is compared by, or None.
        content: Stands for the bytes of the file, or for the pixels of what is no file of its own.
        target: The small parts of its target.
        facts: See `Seen`.
        found: What is wrong with it.
    """

    file: str
    size: tuple[int, int] | None = None
    orientation: int = 1
    gray: bool = False
    mean: np.ndarray | None = None
    square: np.ndarray | None = None
    print: Fingerprint | None = None
    content: bytes = b""
    target: Mapping[str, Any] = {}
    facts: Mapping[str, Any] = {}
    found: tuple[Found, ...] = ()


class Measuring(Dataset[Measured]):
    """Samples as what is measured of them.

    Args:
        parts: Samples of each split.
        names: File of each sample, by split; empty where samples do not name them before they are read.
        rows: (n, 2) int, split and position of each sample that is measured.
        classes: Class names.
    """

    def __init__(
        self,
        parts: Sequence[Sequence[Sample]],
        names: Sequence[Sequence[str]],
        rows: np.ndarray,
        classes: Sequence[str],
    ) -> None:
        self.parts, self.names, self.rows, self.classes = parts, names, rows, classes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Measured:
        split, position = (int(value) for value in self.rows[index])
        names = self.names[split]
        return measure(self.parts[split], position, names[position] if len(names) else "", self.classes)


def measure_all(measuring: Measuring, num_workers: int, progress: Callable[[int], None] | None) -> list[Measured]:
    """Measures every sample.

    Args:
        measuring: The samples.
        num_workers: Processes that read; 0 reads in this one.
        progress: Called with the number of samples that are done.
    """
    if num_workers:
        shorten_sockets()
    loader = DataLoader(
        measuring,
        batch_size=_BATCH,
        num_workers=num_workers,
        collate_fn=list,
        worker_init_fn=init_worker if num_workers else None,
    )
    done: list[Measured] = []
    for batch in loader:
        done += batch
        if progress is not None:
            progress(len(done))
    return done


def measure(samples: Sequence[Sample], position: int, name: str, classes: Sequence[str]) -> Measured:
    """Reads one sample and checks it.

    Args:
        samples: Samples of a split.
        position: Which one.
        name: File of its image, where it is known before.
        classes: Class names.
    """
    with kept_refusals() as refused:
        try:
            sample = samples[position]
        except DataError as error:
            file = name or str(error).partition(":")[0]
            return Measured(file, found=(*_of(refused), _of_error(error, file)))
        image, target = sample.image, sample.target
        name = name or image.name
        found: list[Found] = []
        try:
            size = image.size
            pixels = image.read(3, min_scale=min(1.0, DECODED / min(size)))
            for other in [*sample.inputs.values()][1:]:
                further = last_frame(other)
                further.read(1, min_scale=min(1.0, DECODED / min(further.size)))
        except DataError as error:
            return Measured(name, found=(*_of(refused), _of_error(error, "")), target=_small(target))
        seen = Seen(sample, target, pixels, size, classes)
        found += check_sample(seen)
    original = _original(target)
    shown = pixels if original is None else original
    found += [*_of(refused), *_of_pixels(shown, size)]
    content, wrong_type = _of_file(name)
    content = content or hashlib.blake2b(np.ascontiguousarray(shown).data, digest_size=16).digest()
    mean, deviation = (each.ravel()[:3] / 255 for each in cv2.meanStdDev(shown))
    spread = float(np.ptp(cv2.resize(shown, (32, 32), interpolation=cv2.INTER_AREA).astype(np.int16), axis=2).max())
    return Measured(
        name,
        size,
        image.orientation,
        spread < 3,
        mean,
        mean**2 + deviation**2,
        fingerprint_of(shown),
        content,
        _small(target),
        seen.facts,
        (*found, *wrong_type),
    )


def _of(refused: Sequence[Any]) -> Iterator[Found]:
    return (Found(each.kind, str(each.error)) for each in refused)


def _of_error(error: DataError, image: str) -> Found:
    """What a sample that cannot be read has: a file that is missing, empty or damaged, or a label that is broken."""
    text = str(error)
    if "no such file" in text:
        return Found("missing-image", text)
    if "empty (0 bytes)" in text:
        return Found("empty-file", text)
    return Found("unreadable-image" if text.startswith(image) else "broken-label", text)


def _original(target: Any) -> np.ndarray | None:
    """The image that the sample's own was made of, for restoration and super-resolution."""
    for key in ("high_res", "clean"):
        if key in target:
            pixels = np.asarray(target[key]).transpose(1, 2, 0)
            pixels = np.clip(pixels, 0, 255).astype(np.uint8)
            return np.ascontiguousarray(pixels if pixels.shape[2] == 3 else pixels[:, :, :1].repeat(3, axis=2))
    return None


def _small(target: Any) -> dict[str, Any]:
    """The parts of a target that are kept for checks over all samples."""
    inner = next((head for head in target.get("heads", {}).values() if "boxes" in head), target)
    kept = {key: np.asarray(inner[key]) for key in _SMALL_KEYS if key in inner}
    return {key: value for key, value in kept.items() if value.size < 1 << 16}


def _of_pixels(pixels: np.ndarray, size: tuple[int, int]) -> Iterator[Found]:
    low, high = (int(each) for each in np.quantile(pixels[:: max(1, len(pixels) // 64)], (0.005, 0.995)))
    if high - low <= 2:
        yield Found("blank-image", f"nearly every pixel is {low if low == high else f'{low} to {high}'}")
    if min(size) < 8:
        yield Found("tiny-image", f"{size[1]} x {size[0]} pixels")


def _of_file(name: str) -> tuple[bytes, list[Found]]:
    """What stands for the bytes of a file, and whether its ending states another type than it has."""
    try:
        size = os.stat(name).st_size  # noqa: PTH116 (a hot path)
        with open(name, "rb") as file:  # noqa: PTH123 (a hot path)
            data = file.read(_WHOLE)
    except (OSError, ValueError):
        return b"", []
    content = hashlib.blake2b(data, digest_size=16, key=size.to_bytes(8, "little")).digest()
    ending = Path(name).suffix.lower()
    kind = next(((kind, endings) for magic, kind, endings in _TYPES if data.startswith(magic)), None)
    if kind is not None and ending in _KNOWN and ending not in kind[1]:
        return content, [Found("wrong-file-type", f"{name}: is a {kind[0]}")]
    return content, []
