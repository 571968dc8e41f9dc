import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from datamodules.cifar import CIFAR10_CLASSES, CIFAR100_CLASSES, CifarData
from visionkit.errors import DataError, EnvironmentFault, UsageError
from visionkit.geometry import InputSpec


def records(seed: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3072), dtype=np.uint8), np.arange(count) % classes


def files(name: str, form: str) -> dict[str, bytes]:
    """The published files of a small set, made as their authors describe."""
    ten = name == "cifar10"
    parts = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"] if ten else ["train", "test"]
    out = {}
    for number, part in enumerate(parts):
        images, labels = records(number, 20 if ten else 200, 10 if ten else 100)
        if form == "python":
            batch = {b"data": images, (b"labels" if ten else b"fine_labels"): labels.tolist()}
            out[part] = pickle.dumps(batch, protocol=2)
        else:
            head = labels[:, None] if ten else np.stack([labels // 5, labels], axis=1)
            out[f"{part}.bin"] = np.concatenate([head.astype(np.uint8), images], axis=1).tobytes()
    return out


FOLDERS = {
    ("cifar10", "python"): ("cifar-10-batches-py", "cifar-10-python.tar.gz"),
    ("cifar10", "binary"): ("cifar-10-batches-bin", "cifar-10-binary.tar.gz"),
    ("cifar100", "python"): ("cifar-100-python", "cifar-100-python.tar.gz"),
    ("cifar100", "binary"): ("cifar-100-binary", "cifar-100-binary.tar.gz"),
}


def write(root: Path, name: str, form: str, packed: bool) -> Path:
    folder, archive = FOLDERS[name, form]
    if packed:
        with tarfile.open(root / archive, "w:gz") as out:
            for part, content in files(name, form).items():
                member = tarfile.TarInfo(f"{folder}/{part}")
                member.size = len(content)
                out.addfile(member, io.BytesIO(content))
        return root / archive
    (root / folder).mkdir()
    for part, content in files(name, form).items():
        (root / folder / part).write_bytes(content)
    return root / folder


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("name", "form"), FOLDERS)
def test_published_files(tmp_path: Path, name: str, form: str, packed: bool) -> None:
    place = write(tmp_path, name, form, packed)
    images, labels = records(
        5 if name == "cifar10" else 1, 20 if name == "cifar10" else 200, 10 if name == "cifar10" else 100
    )
    for root in (tmp_path, place):
        data = CifarData(str(root), name=name, val_fraction=0.2)  # type: ignore[arg-type]
        test = data.samples("test")
        assert [int(sample.target["labels"]) for sample in test] == labels.tolist()
        assert (test[3].image.read() == images[3].reshape(3, 32, 32).transpose(1, 2, 0)).all()
        assert len(data.samples("train")) + len(data.samples("val")) == (100 if name == "cifar10" else 200)
        assert len(data.samples("val")) == (20 if name == "cifar10" else 100)


def test_classes_are_known_without_files() -> None:
    assert CifarData.discover_classes(root="nowhere") == list(CIFAR10_CLASSES)
    assert CifarData.discover_classes(root="nowhere", name="cifar100") == list(CIFAR100_CLASSES)
    assert len(set(CIFAR100_CLASSES)) == 100 and list(CIFAR100_CLASSES) == sorted(CIFAR100_CLASSES)
    with pytest.raises(UsageError, match="allowed are cifar10, cifar100"):
        CifarData.discover_classes(name="cifar20")


def test_another_order_of_classes(tmp_path: Path) -> None:
    write(tmp_path, "cifar10", "binary", packed=False)
    plain, turned = CifarData(str(tmp_path)), CifarData(str(tmp_path), classes=list(reversed(CIFAR10_CLASSES)))
    for split in ("val", "test"):
        for a, b in zip(plain.samples(split), turned.samples(split), strict=True):  # type: ignore[arg-type]
            assert a.id == b.id and plain.classes[int(a.target["labels"])] == turned.classes[int(b.target["labels"])]


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(_Evil.target),)

    target: Path


def test_a_pickle_that_would_run_code_does_not(tmp_path: Path) -> None:
    folder = write(tmp_path, "cifar10", "python", packed=False)
    _Evil.target = tmp_path / "ran"
    (folder / "test_batch").write_bytes(pickle.dumps({b"data": _Evil()}))
    with pytest.raises(DataError, match=r"test_batch: not a batch of cifar10 \(it asks for posix.mkdir"):
        CifarData(str(tmp_path)).samples("test")
    assert not _Evil.target.exists()


def test_damaged_files(tmp_path: Path) -> None:
    folder = write(tmp_path, "cifar10", "binary", packed=False)
    (folder / "test_batch.bin").write_bytes(b"123")
    with pytest.raises(DataError, match=r"test_batch.bin: 3 bytes are no whole number of records"):
        CifarData(str(tmp_path)).samples("test")
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_3.bin is missing"):
        CifarData(str(tmp_path)).samples("train")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cifar-10-python.tar.gz").write_text("no archive")
    with pytest.raises(DataError, match="not the published archive"):
        CifarData(str(tmp_path / "other")).samples("train")


def test_nothing_there_and_no_network(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of cifar-10-batches-py.* --data.download true"):
        CifarData(str(tmp_path)).samples("train")
    with pytest.raises(EnvironmentFault, match=r"cannot be downloaded .* bring it by hand to") as error:
        CifarData(str(tmp_path), download=True).samples("train")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_batches(tmp_path: Path) -> None:
    write(tmp_path, "cifar10", "binary", packed=True)
    data = CifarData(str(tmp_path), input=InputSpec((32, 32)), batch_size=10, num_workers=1)
    assert next(iter(data.loader("train")))["inputs"]["image"].shape == (10, 3, 32, 32)
