"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) from the files as they are published, python or binary, packed or not."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from datamodules.class_names import index_classes
from datamodules.downloads import download
from datamodules.image_store import ArrayStore, LabeledImages
from datamodules.splitting import SplittingData
from visionkit.augmentation import Augmentation
from visionkit.data import Split
from visionkit.errors import DataError, UsageError
from visionkit.types import Sample

Variant = Literal["cifar10", "cifar100"]
_HOME = "https://www.cs.toronto.edu/~kriz/"
_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


class _Published(NamedTuple):
    """How one of the sets is published: folder and archive by form, the members of each split, its classes."""

    python: tuple[str, str]
    binary: tuple[str, str, str]  # with the archive's md5
    members: dict[str, dict[str, list[str]]]
    label: bytes
    label_bytes: int
    classes: tuple[str, ...]


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FINE_LABELS = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100_CLASSES = tuple(_FINE_LABELS.split())

_SETS: dict[str, _Published] = {
    "cifar10": _Published(
        ("cifar-10-batches-py", "cifar-10-python.tar.gz"),
        ("cifar-10-batches-bin", "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
        {
            "python": {"train": [f"data_batch_{k}" for k in range(1, 6)], "test": ["test_batch"]},
            "binary": {"train": [f"data_batch_{k}.bin" for k in range(1, 6)], "test": ["test_batch.bin"]},
        },
        b"labels",
        1,
        CIFAR10_CLASSES,
    ),
    "cifar100": _Published(
        ("cifar-100-python", "cifar-100-python.tar.gz"),
        ("cifar-100-binary", "cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
        {
            "python": {"train": ["train"], "test": ["test"]},
            "binary": {"train": ["train.bin"], "test": ["test.bin"]},
        },
        b"fine_labels",
        2,
        CIFAR100_CLASSES,
    ),
}


class CifarData(SplittingData):
    """CIFAR-10 or CIFAR-100 (fine labels), held in memory.

    Args:
        root: Folder with the published archive or its unpacked folder; python and binary form are both read.
        name: `cifar10` or `cifar100`.
        download: Bring the binary archive (160 MB) where nothing is there.
        augment: Changes training samples.
        **base: See `SplittingData`.
    """

    def __init__(
        self,
        root: str,
        *,
        name: Variant = "cifar10",
        download: bool = False,
        augment: Augmentation | None = None,
        **base: Any,
    ) -> None:
        super().__init__(augment=augment, test_fraction=0.0, **base)
        self.published, self.name = _published(name), name
        self.root, self.download = Path(root), download
        self.classes = self.classes or self.published.classes
        self.order = index_classes(dict.fromkeys(self.published.classes, f"CifarData {name}"), self.classes)
        self._read: dict[str, tuple[ArrayStore, np.ndarray]] = {}

    @classmethod
    def discover_classes(cls, name: str = "cifar10", **init_args: Any) -> list[str]:
        """The published names; no file is read."""
        return list(_published(name).classes)

    def prepare_data(self) -> None:
        """Downloads where that was asked for; called on one process alone."""
        form, _ = self._place()
        if form is None and self.download:
            _, archive, md5 = self.published.binary
            download(_HOME + archive, self.root / archive, md5)

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The images of one split in the published order."""
        store, labels = self._load("test" if split == "test" else "train")
        rows = np.arange(len(labels))
        if split != "test":
            # Drawn in the published order of classes, whatever their configured order is.
            order = np.array([self.order[name] for name in self.published.classes])
            files = [store.name(row) for row in range(len(labels))]
            rows = self.split_off(files, self.absent(["test"]), labels, order)[split]
            if len(rows) == 0:
                raise self.missing(split, type(self).__name__)
        return LabeledImages(store, rows, labels[rows])

    def _load(self, part: str) -> tuple[ArrayStore, np.ndarray]:
        if part not in self._read:
            self.prepare_data()
            form, place = self._place()
            if form is None:
                names = ", ".join([*self.published.python, *self.published.binary[:2]])
                raise DataError(
                    f"{self.root}: none of {names} is here; "
                    f"bring one from {_HOME}cifar.html or set --data.download true"
                )
            members = self.published.members[form][part]
            contents = _from_folder(place, members) if place.is_dir() else _from_archive(place, members)
            decode = self._decode_python if form == "python" else self._decode_binary
            images, labels = zip(*(decode(content, f"{place}/{name}") for name, content in contents), strict=True)
            numbers = np.array([self.order[name] for name in self.published.classes])
            flat = np.concatenate(images).reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
            store = ArrayStore(np.ascontiguousarray(flat), f"{self.name}-{part}")
            self._read[part] = store, numbers[np.concatenate(labels)]
        return self._read[part]

    def _place(self) -> tuple[str | None, Path]:
        for form, names in (("python", self.published.python), ("binary", self.published.binary[:2])):
            for name in names:
                for place in (self.root / name, self.root):
                    if place.name == name and place.exists():
                        return form, place
        return None, self.root

    def _decode_binary(self, content: bytes, place: str) -> tuple[np.ndarray, np.ndarray]:
        record = self.published.label_bytes + _PIXELS
        if not content or len(content) % record:
            raise DataError(f"{place}: {len(content)} bytes are no whole number of records of {record}")
        rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, record)
        labels = rows[:, self.published.label_bytes - 1].astype(np.int64)
        return rows[:, self.published.label_bytes :], self._checked(labels, place)

    def _decode_python(self, content: bytes, place: str) -> tuple[np.ndarray, np.ndarray]:
        try:
            batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
            images = np.asarray(batch[b"data"])
            labels = np.array(batch[self.published.label], dtype=np.int64)
        except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise DataError(f"{place}: not a batch of {self.name} ({error})") from None
        if images.dtype != np.uint8 or images.shape != (len(labels), _PIXELS):
            raise DataError(
                f"{place}: images of shape {images.shape} {images.dtype}, not ({len(labels)}, {_PIXELS}) uint8"
            )
        return images, self._checked(labels, place)

    def _checked(self, labels: np.ndarray, place: str) -> np.ndarray:
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.published.classes):
            raise DataError(f"{place}: labels from {labels.min()} to {labels.max()}, so this is not {self.name}")
        return labels


def _published(name: str) -> _Published:
    if name not in _SETS:
        raise UsageError(f"data.name {name!r}: allowed are {', '.join(_SETS)}")
    return _SETS[name]


class _ArraysOnly(pickle.Unpickler):
    """The published batches are pickles; of all that a pickle can ask for, only what builds an array is given."""

    _ALLOWED = ("_reconstruct", "ndarray", "dtype")

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in self._ALLOWED:
            return np._core.multiarray._reconstruct if name == "_reconstruct" else getattr(np, name)  # type: ignore[attr-defined]
        if (module, name) == ("_codecs", "encode"):
            import codecs

            return codecs.encode
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch needs")


def _from_folder(place: Path, members: Sequence[str]) -> list[tuple[str, bytes]]:
    missing = [name for name in members if not (place / name).is_file()]
    if missing:
        raise DataError(f"{place}: {missing[0]} is missing")
    return [(name, (place / name).read_bytes()) for name in members]


def _from_archive(place: Path, members: Sequence[str]) -> list[tuple[str, bytes]]:
    """Reads the members where they lie; nothing is unpacked to the disk."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(place) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name in members and member.isfile():
                    content = archive.extractfile(member)
                    assert content is not None
                    found[name] = content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{place}: not the published archive, or a damaged one ({error})") from None
    missing = [name for name in members if name not in found]
    if missing:
        raise DataError(f"{place}: {missing[0]} is missing")
    return [(name, found[name]) for name in members]
