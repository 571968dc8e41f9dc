"""Fashion-MNIST (Xiao et al., 2017), or any set in the four idx files of MNIST."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.class_names import index_classes
from datamodules.downloads import download
from datamodules.image_store import ArrayStore, LabeledImages
from datamodules.splitting import SplittingData
from visionkit.augmentation import Augmentation
from visionkit.data import Split
from visionkit.errors import DataError
from visionkit.types import Sample

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_HOME = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_FILES = {
    "train": (
        ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
    ),
    "test": (
        ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
        ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    ),
}


class FashionMnistData(SplittingData):
    """Fashion-MNIST, 28 x 28 gray, held in memory.

    Args:
        root: Folder with the four published files, packed (.gz) or not.
        download: Bring them (30 MB) where they are not there.
        augment: Changes training samples.
        **base: See `SplittingData`.
    """

    def __init__(
        self,
        root: str,
        *,
        download: bool = False,
        augment: Augmentation | None = None,
        **base: Any,
    ) -> None:
        super().__init__(augment=augment, test_fraction=0.0, **base)
        self.root, self.download = Path(root), download
        self.classes = self.classes or CLASSES
        numbers = index_classes(dict.fromkeys(CLASSES, "FashionMnistData"), self.classes)
        self.order = np.array([numbers[name] for name in CLASSES])
        self._read: dict[str, tuple[ArrayStore, np.ndarray]] = {}

    @classmethod
    def discover_classes(cls, **init_args: Any) -> list[str]:
        """The published names; no file is read."""
        return list(CLASSES)

    def prepare_data(self) -> None:
        """Downloads where that was asked for; called on one process alone."""
        if self.download:
            for name, md5 in (each for part in _FILES.values() for each in part):
                if not self._place(name).exists():
                    download(_HOME + name, self.root / name, md5)

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The images of one split in the published order."""
        store, labels = self._load("test" if split == "test" else "train")
        rows = np.arange(len(labels))
        if split != "test":
            files = [store.name(row) for row in range(len(labels))]
            rows = self.split_off(files, self.absent(["test"]), labels, self.order)[split]
            if len(rows) == 0:
                raise self.missing(split, type(self).__name__)
        return LabeledImages(store, rows, labels[rows])

    def _load(self, part: str) -> tuple[ArrayStore, np.ndarray]:
        if part not in self._read:
            self.prepare_data()
            (images_name, _), (labels_name, _) = _FILES[part]
            images = read_idx(self._found(images_name), 3)
            labels = read_idx(self._found(labels_name), 1).astype(np.int64)
            if len(images) != len(labels) or (len(labels) and labels.max() >= len(CLASSES)):
                raise DataError(
                    f"{self._found(labels_name)}: {len(labels)} labels up to {labels.max(initial=0)} for {len(images)} "
                    f"images of {len(CLASSES)} classes"
                )
            self._read[part] = ArrayStore(images[..., None], f"fashion-mnist-{part}"), self.order[labels]
        return self._read[part]

    def _place(self, name: str) -> Path:
        plain = self.root / name.removesuffix(".gz")
        return plain if plain.exists() else self.root / name

    def _found(self, name: str) -> Path:
        place = self._place(name)
        if not place.exists():
            raise DataError(f"{place}: no such file; bring the four files from {_HOME} or set --data.download true")
        return place


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Reads an idx file of bytes.

    Args:
        path: The file; unpacked where its name ends in .gz.
        dimensions: How many the array must have.

    Returns:
        Array of uint8, shaped as the file states.

    Raises:
        DataError: Not such a file, or cut short.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be unpacked ({error})") from None
    start = 4 + 4 * dimensions
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) < start:
        raise DataError(f"{path}: not an idx file of {dimensions} dimensions of bytes")
    shape = tuple(int(side) for side in np.frombuffer(content[4:start], dtype=">u4"))
    if len(content) - start != int(np.prod(shape)):
        raise DataError(f"{path}: {len(content) - start} bytes where its header states {shape}; the file is cut short")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy()
