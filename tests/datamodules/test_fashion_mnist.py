import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from datamodules.fashion_mnist import CLASSES, FashionMnistData
from visionkit.errors import DataError, EnvironmentFault
from visionkit.geometry import InputSpec


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(root: Path, packed: bool = True) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 40), ("t10k", 10)):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    for name, array in arrays.items():
        (root / (name + ".gz" * packed)).write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    return arrays


@pytest.mark.parametrize("packed", [True, False])
def test_published_files(tmp_path: Path, packed: bool) -> None:
    arrays = write(tmp_path, packed)
    data = FashionMnistData(str(tmp_path), input=InputSpec((28, 28), channels=1), batch_size=5)
    assert data.classes == CLASSES == tuple(FashionMnistData.discover_classes())
    assert [len(data.samples(split)) for split in ("train", "val", "test")] == [30, 10, 10]  # type: ignore[arg-type]
    sample = data.samples("test")[7]
    assert (sample.image.read(1)[..., 0] == arrays["t10k-images-idx3-ubyte"][7]).all() and sample.target["labels"] == 7
    assert next(iter(data.loader("train")))["inputs"]["image"].shape == (5, 1, 28, 28)
    assert sample.image.read(3).shape == (28, 28, 3)


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t10k-images.* no such file; .*--data.download true"):
        FashionMnistData(str(tmp_path)).samples("test")
    write(tmp_path)
    name = tmp_path / "t10k-labels-idx1-ubyte.gz"
    for content, message in (
        (gzip.compress(idx(np.zeros(9, dtype=np.uint8))), "9 labels up to 0 for 10 images"),
        (gzip.compress(idx(np.full(10, 12, dtype=np.uint8))), "labels up to 12"),
        (gzip.compress(idx(np.zeros(10, dtype=np.uint8))[:-3]), "cut short"),
        (gzip.compress(b"text"), "not an idx file"),
        (b"text", "cannot be unpacked"),
    ):
        name.write_bytes(content)
        with pytest.raises(DataError, match=message):
            FashionMnistData(str(tmp_path)).samples("test")


def test_download_without_network(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="cannot be downloaded"):
        FashionMnistData(str(tmp_path), download=True).samples("train")
