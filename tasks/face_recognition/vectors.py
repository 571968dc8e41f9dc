"""Vectors in append-only mapped files, and the exact nearest ones: an 8-bit scan, then the few that can win in float.

Each vector lies twice: as float32, and as int8 with one step for all. The int8 file is a quarter as long, and reading
it is what a search costs. What the scan leaves out is not guessed: the error of an 8-bit product is bounded by the
lengths of the two remainders (Cauchy-Schwarz), so every vector that can be among the nearest is compared in float, and
the prediction is that of a full comparison. A vector whose remainder is larger than the bound allows for is `coarse`
and always compared.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

CLIP = 5.0
"""Values of a unit vector of width D beyond this many times 1 / sqrt(D) are cut off in 8 bit."""

REMAINDER = 0.014
"""Longest remainder of a vector that the scan may judge; that of a vector without a cut value is about 0.0114."""

FLOATS, CODES = "vectors.f32", "vectors.i8"
_CHUNK = 64  # rows whose highest product stands for them
_FLOAT_BLOCK = 1 << 14  # rows that are in floating point at once
_BLOCK = 1 << 18  # products kept at once for one query; fewer rows for more queries


class VectorIndex(Protocol):
    """Where vectors lie and how the nearest are found; a vector database on other machines can take this place.

    Rows are numbered by the caller, who states which of them count: nothing written here is true before that.
    """

    width: int

    def write(self, first: int, vectors: np.ndarray) -> np.ndarray:
        """Puts (n, D) float32 vectors at the rows from `first` on, durably; (n,) bool states which are coarse."""
        ...

    def wipe(self, rows: Sequence[int]) -> None:
        """Overwrites rows for good, durably."""
        ...

    def read(self, rows: np.ndarray) -> np.ndarray:
        """(n, D) float32 vectors of some rows."""
        ...

    def search(
        self, queries: np.ndarray, k: int, count: int, coarse: np.ndarray, removed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest of the first `count` rows.

        Args:
            queries: (Q, D) float32 of length 1.
            k: How many.
            count: Rows that count.
            coarse: (c,) int64 rows that are coarse.
            removed: (r,) int64 rows that are not to be found.

        Returns:
            (Q, k') int64 rows and (Q, k') float32 cosines, the nearest first; k' is below `k` where there are fewer.
        """
        ...


class MappedVectors:
    """A `VectorIndex` in two files of one folder.

    Args:
        folder: Where the files lie, or will.
        width: D.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder, self.width = folder, width
        self._step = CLIP / np.sqrt(width) / 127
        self._maps: tuple[int, np.ndarray, np.ndarray] | None = None

    def missing(self, count: int) -> int:
        """How many of the first `count` rows the files are too short for."""
        whole = min(
            (self.folder / name).stat().st_size // (self.width * size) if (self.folder / name).is_file() else 0
            for name, size in ((FLOATS, 4), (CODES, 1))
        )
        return max(0, count - whole)

    def write(self, first: int, vectors: np.ndarray) -> np.ndarray:
        """See `VectorIndex`."""
        vectors = np.ascontiguousarray(vectors, dtype="<f4")
        codes, remainder = quantize(vectors, self._step)
        _put(self.folder / FLOATS, first * self.width * 4, vectors.tobytes())
        _put(self.folder / CODES, first * self.width, codes.tobytes())
        return np.asarray(remainder > REMAINDER)

    def wipe(self, rows: Sequence[int]) -> None:
        """See `VectorIndex`."""
        for name, size in ((FLOATS, 4), (CODES, 1)):
            handle = os.open(self.folder / name, os.O_WRONLY)
            try:
                for row in rows:
                    os.pwrite(handle, bytes(self.width * size), row * self.width * size)
                os.fsync(handle)
            finally:
                os.close(handle)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """See `VectorIndex`."""
        floats, _ = self._mapped(int(np.max(rows, initial=-1)) + 1)
        return np.asarray(floats[rows], dtype=np.float32)

    def search(
        self, queries: np.ndarray, k: int, count: int, coarse: np.ndarray, removed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorIndex`."""
        queries = np.ascontiguousarray(queries, np.float32)
        k = min(k, count - len(removed))
        if k <= 0:
            return np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
        floats, codes = self._mapped(count)
        # Removed vectors are wiped and their products are 0, so they may be among the first; so many more are taken.
        candidates = self._scan(queries, codes, k + min(len(removed), count - k))
        rows = np.zeros((len(queries), k), np.int64)
        scores = np.zeros((len(queries), k), np.float32)
        for number, (query, found) in enumerate(zip(queries, candidates, strict=True)):
            found = np.union1d(found, coarse)
            found = found[~np.isin(found, removed)] if len(removed) else found
            exact = floats[found] @ query
            best = np.argsort(-exact, kind="stable")[:k]
            rows[number], scores[number] = found[best], exact[best]
        return rows, scores

    def _scan(self, queries: np.ndarray, codes: np.ndarray, k: int) -> list[np.ndarray]:
        """Rows that can be among the k nearest of each query, coarse ones aside."""
        import torch
        from torch.nn.functional import pad

        count = len(codes)
        if count <= max(4 * _CHUNK, 2 * k):
            return [np.arange(count)] * len(queries)
        steps = np.abs(queries).max(axis=1) / 127 + 1e-12
        asked, _ = quantize(queries, steps[:, None])
        short = np.linalg.norm(queries - asked * steps[:, None], axis=1)
        error = np.linalg.norm(queries, axis=1) * REMAINDER + short * (1 + REMAINDER)
        # In units of the integer products. One more for what float rounding does to the bound.
        slack = torch.from_numpy(np.ceil(2 * error / (steps * self._step)).astype(np.int64) + 1)
        turned, stored = torch.from_numpy(asked), torch.from_numpy(codes).T
        size = max(_CHUNK, _BLOCK // len(queries) // _CHUNK * _CHUNK) if len(queries) > 1 else count
        lowest = torch.iinfo(torch.int32).min
        least = torch.full((len(queries), k), lowest, dtype=torch.int32)
        hot: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for start in range(0, count, size):
            products = _multiply(turned, stored[:, start : start + size])
            if missing := -products.shape[1] % _CHUNK:
                products = pad(products, (0, missing), value=lowest)
            chunks = products.unflatten(1, (-1, _CHUNK))
            peaks = chunks.amax(dim=2)
            # The k-th highest peak is at most the k-th highest product: nothing below it less the slack can win.
            least = torch.cat([least, peaks], dim=1).topk(k, dim=1).values
            floor = (least[:, -1].long() - slack).clamp(min=lowest + 1).int()  # above what pads the last chunk
            number, chunk = torch.nonzero(peaks >= floor[:, None], as_tuple=True)
            values = chunks[number, chunk]
            which, place = torch.nonzero(values >= floor[number][:, None], as_tuple=True)
            rows_ = chunk[which] * _CHUNK + place + start
            hot.append((number[which].numpy(), rows_.numpy(), values[which, place].numpy()))
        floor_ = (least[:, -1].long() - slack).numpy()
        numbers, rows, values_ = (np.concatenate(parts) for parts in zip(*hot, strict=True))
        keep = values_ >= floor_[numbers]
        numbers, rows = numbers[keep], rows[keep]
        return [rows[numbers == number] for number in range(len(queries))]

    def _mapped(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Both files as arrays of `count` rows. A map is made again when more rows count; nothing is read for it."""
        if self._maps is None or self._maps[0] < count:
            shape = (count, self.width)
            if count:
                floats = np.memmap(self.folder / FLOATS, "<f4", "r", shape=shape)
                # Copy on write, since torch takes no read-only array; nothing writes.
                codes = np.memmap(self.folder / CODES, np.int8, "c", shape=shape)
            else:
                floats, codes = np.zeros(shape, "<f4"), np.zeros(shape, np.int8)  # type: ignore[assignment]
            self._maps = count, floats, codes
        _, floats, codes = self._maps  # type: ignore[assignment]
        return floats[:count].view(np.ndarray), codes[:count].view(np.ndarray)


def quantize(vectors: np.ndarray, step: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, D) float32 to (n, D) int8 of that step, and the (n,) lengths of what is left over."""
    codes = np.clip(np.rint(vectors / step), -127, 127).astype(np.int8)
    return codes, np.linalg.norm(vectors - codes * np.asarray(step, np.float32), axis=1)


def _multiply(queries: Tensor, codes: Tensor) -> Tensor:
    """(Q, D) int8 times (D, n) int8 to (Q, n) int32."""
    import torch

    # The one int8 product of torch for the CPU; it reads transposed rows where they lie. It is not public, so a torch
    # without it, or a processor that it does not know, is processed in another way.
    product = getattr(torch, "_int_mm", None)
    if product is not None:
        try:
            return cast("Tensor", product(queries, codes))
        except (RuntimeError, NotImplementedError):
            pass
    return _multiply_in_float(queries, codes)


def _multiply_in_float(queries: Tensor, codes: Tensor) -> Tensor:
    """The same product, exact as well, since the type holds its sums; slower."""
    import torch

    fine = torch.float32 if 127 * 127 * len(codes) < 1 << 24 else torch.float64
    asked = queries.to(fine)
    out = torch.empty(len(queries), codes.shape[1], dtype=torch.int32)
    for start in range(0, codes.shape[1], _FLOAT_BLOCK):
        out[:, start : start + _FLOAT_BLOCK] = asked @ codes[:, start : start + _FLOAT_BLOCK].to(fine)
    return out


def _put(path: Path, offset: int, content: bytes) -> None:
    """Writes at a place of a file, whole and durably."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        view = memoryview(content)
        while len(view):
            written = os.pwrite(handle, view, offset)
            view, offset = view[written:], offset + written
        os.fsync(handle)
    finally:
        os.close(handle)
