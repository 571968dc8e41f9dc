"""NYU Depth v2, its labeled part: one `.mat` file (HDF5) of 1,449 Kinect images with filled-in depth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.depth_data import DepthData, Pairs
from datamodules.depth_files import to_meters
from visionkit.data import Split
from visionkit.errors import DataError
from visionkit.images import ImageSource


class NyuDepthData(DepthData):
    """The labeled set of Silberman et al., 2012: 480x640 images, depth in meters.

    Args:
        mat: `nyu_depth_v2_labeled.mat`; images are read from it one by one.
        splits: `splits.mat` with the official 795 training and 654 test images (`trainNdxs`, `testNdxs`, from 1
            on). Without it each n-th image is held out.
        raw: Depth as the camera measured it, with holes (`rawDepths`), in place of the filled-in one.
        val_every: Each n-th training image is for validation; 0 none.
        **base: See `DepthData`.
    """

    def __init__(
        self,
        mat: str,
        *,
        splits: str | None = None,
        raw: bool = False,
        val_every: int = 20,
        **base: Any,
    ) -> None:
        super().__init__(val_every=val_every, **base)
        self.mat, self.splits, self.raw = Path(mat), Path(splits) if splits else None, raw

    def find(self) -> Pairs:
        """Opens the file and reads the splits."""
        store = NyuStore(self.mat, "rawDepths" if self.raw else "depths")
        names = np.full(len(store), "train", dtype="<U5")
        if self.splits is not None:
            names[:] = ""
            for split, rows in _read_splits(self.splits, len(store)).items():
                names[rows] = split
        return Pairs(store, self.hold_out(store.name, names), str(self.mat))


class NyuStore:
    """The images of the file; each process opens it for itself.

    Args:
        path: The file.
        key: Key of the depth.

    Raises:
        DataError: Not there, no HDF5, or other contents.
    """

    unit = 1.0

    def __init__(self, path: Path, key: str = "depths") -> None:
        self.path, self.key = path, key
        self._file: Any = None
        self._process = -1
        images, depths = self._read("images"), self._read(key)
        # MATLAB writes columns first, so HDF5 shows (n, 3, w, h) and (n, w, h).
        if images.ndim != 4 or images.shape[1] != 3 or depths.shape != (len(images), *images.shape[2:]):
            raise DataError(
                f"{path}: images {images.shape} and {key} {depths.shape} are not those of NYU Depth v2, (n, 3, width, "
                "height) and (n, width, height)"
            )
        self.length = len(images)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_process": -1}

    def __len__(self) -> int:
        return self.length

    def name(self, number: int) -> str:
        """The file and the number of the image, from 1 as in MATLAB."""
        return f"{self.path}[{number + 1}]"

    def source(self, number: int) -> ImageSource:
        """The image."""
        pixels = np.asarray(self._read("images")[number])
        return ImageSource(np.ascontiguousarray(pixels.transpose(2, 1, 0)), self.name(number))

    def depth(self, number: int) -> np.ndarray:
        """Its depth, (h, w) float32 meters."""
        return np.ascontiguousarray(to_meters(np.asarray(self._read(self.key)[number])).T)

    def _read(self, key: str) -> Any:
        import h5py

        if self._process != os.getpid():  # HDF5's handles do not survive a fork
            try:
                self._file = h5py.File(self.path, "r")
            except FileNotFoundError:
                raise DataError(f"{self.path}: no such file; give --data.mat nyu_depth_v2_labeled.mat") from None
            except OSError as error:
                raise DataError(
                    f"{self.path}: cannot be opened as HDF5 ({' '.join(str(error).split())[:120]})"
                ) from None
            self._process = os.getpid()
        if key not in self._file:
            raise DataError(f"{self.path}: holds no {key!r}; it holds {', '.join(sorted(self._file)[:8])}")
        return self._file[key]


def _read_splits(path: Path, count: int) -> dict[Split, np.ndarray]:
    from scipy.io import loadmat

    try:
        table = loadmat(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give --data.splits splits.mat") from None
    except Exception as error:  # scipy raises nearly anything on what is no .mat file
        raise DataError(f"{path}: cannot be read as .mat ({type(error).__name__})") from None
    out: dict[Split, np.ndarray] = {}
    names: tuple[tuple[Split, str], ...] = (("train", "trainNdxs"), ("test", "testNdxs"))
    for split, key in names:
        if key not in table:
            raise DataError(f"{path}: holds no {key!r}, as NYU's splits.mat does")
        rows = np.asarray(table[key]).ravel().astype(np.int64) - 1
        if len(rows) and (rows.min() < 0 or rows.max() >= count):
            raise DataError(f"{path}: {key} names image {int(rows.max()) + 1} of {count}")
        out[split] = rows
    return out
