"""Files of numbers that are no images: `.npy`, `.npz`, `.pfm` and OpenEXR."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from visionkit.errors import DataError
from visionkit.images import MAX_PIXELS
from visionkit.text_files import read_bytes

FLOAT_SUFFIXES = (".npy", ".npz", ".pfm", ".exr")
"""Endings of files that `read_floats` reads."""

_LIMIT = 8 * MAX_PIXELS  # bytes
_DEPTH_KEYS = ("depth", "depths", "arr_0")
_DEPTH_CHANNELS = ("z", "depth", "y", "v", "r")


def read_floats(path: Path) -> np.ndarray:
    """The array of a `.npy`, `.npz`, `.pfm` or `.exr` file, of whatever shape it has.

    Raises:
        DataError: Missing, damaged, too large, or several arrays or channels and none of them called depth.
    """
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        return _read_numpy(path)
    if suffix == ".pfm":
        values = read_pfm(path, "depth file")
        if values.ndim != 2:
            raise DataError(f"{path}: a PFM of three channels; depth has one")
        return values
    data = read_bytes(path, _LIMIT, "depth file")
    try:
        return _read_exr(path, data)
    except (struct.error, ValueError, IndexError, OverflowError, zlib.error) as error:
        raise DataError(f"{path}: truncated or damaged ({' '.join(str(error).split())[:120]})") from None


def _read_numpy(path: Path) -> np.ndarray:
    try:
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                if any(member.file_size > _LIMIT for member in archive.infolist()):
                    raise DataError(f"{path}: an array in it is over the limit of {_LIMIT / 1e6:,.0f} MB")
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            names = list(loaded)
            name = names[0] if len(names) == 1 else next((key for key in _DEPTH_KEYS if key in names), None)
            if name is None:
                raise DataError(f"{path}: holds {', '.join(names[:6]) or 'no array'}; depth is called 'depth' there")
            values: np.ndarray = loaded[name]
            return values
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except DataError:
        raise
    except Exception as error:  # a damaged header makes numpy's and zip's parsers raise nearly anything
        kind = path.suffix.lower()
        raise DataError(f"{path}: cannot be read as {kind} ({' '.join(str(error).split())[:120]})") from None


def read_pfm(path: Path, what: str) -> np.ndarray:
    """The array of a `.pfm` file, (h, w) or (h, w, 3) float32, from the top down.

    Args:
        path: The file.
        what: What the file is, for the messages: "depth file".

    Raises:
        DataError: Missing, damaged, or no PFM file.
    """
    data = read_bytes(path, _LIMIT, what)
    head = re.match(rb"(PF|Pf)\s+(\d+)\s+(\d+)\s+(\S+)\s", data)
    if head is None:
        raise DataError(f"{path}: no PFM file")
    width, height, shape = int(head[2]), int(head[3]), (3,) if head[1] == b"PF" else ()
    _check_size(path, width, height)
    try:
        kind = "<f4" if float(head[4]) < 0 else ">f4"
        values = np.frombuffer(data, kind, width * height * (3 if shape else 1), head.end())
    except ValueError as error:
        raise DataError(f"{path}: truncated or damaged ({' '.join(str(error).split())[:120]})") from None
    return values.reshape(height, width, *shape)[::-1]  # stored from the bottom up


# ---------------------------------------------------------------------- OpenEXR


class _Exr(NamedTuple):
    """The header of an OpenEXR file of scan lines."""

    channels: list[tuple[str, np.dtype[np.generic]]]
    compression: int
    data: tuple[int, int, int, int]  # left, top, right, bottom, the last ones included
    display: tuple[int, int, int, int]
    end: int


def _read_exr(path: Path, data: bytes) -> np.ndarray:
    """Scan lines without compression, or with RLE, ZIPS or ZIP, which is what programs write by default."""
    head = _exr_header(path, data)
    left, top, right, bottom = head.data
    width, height = right - left + 1, bottom - top + 1
    names = [name for name, _ in head.channels]
    plain = [name.rpartition(".")[2].lower() for name in names]
    known = (plain.index(each) for each in _DEPTH_CHANNELS if each in plain)
    wanted = 0 if len(names) == 1 else next(known, None)
    if wanted is None:
        raise DataError(f"{path}: has the channels {', '.join(names[:6])}; depth is called Z or depth there")
    start = sum(kind.itemsize for _, kind in head.channels[:wanted]) * width
    kind, line = head.channels[wanted][1], sum(kind.itemsize for _, kind in head.channels) * width
    rows = 16 if head.compression == 3 else 1
    out = np.zeros((height, width), dtype=np.float32)
    blocks = -(-height // rows)
    for place in struct.unpack_from(f"<{blocks}Q", data, head.end):
        y, size = struct.unpack_from("<ii", data, place)
        row, count = y - top, min(rows, bottom + 1 - y)
        if not 0 <= row < height or size < 0 or place + 8 + size > len(data):
            raise ValueError("a block of lines lies outside")
        raw = _exr_block(data[place + 8 : place + 8 + size], line * count, head.compression)
        lines = np.frombuffer(raw, np.uint8, line * count).reshape(count, line)
        part = np.ascontiguousarray(lines[:, start : start + kind.itemsize * width])
        out[row : row + count] = part.view(kind)
    return _in_display(path, out, head)


def _exr_header(path: Path, data: bytes) -> _Exr:
    magic, version = struct.unpack_from("<II", data)
    if magic != 20000630:
        raise DataError(f"{path}: no OpenEXR file")
    if version & 0x1A00:
        raise DataError(f"{path}: an OpenEXR file of tiles, several parts or deep pixels; save it as scan lines")
    place, found = 8, dict[str, bytes]()
    while data[place]:
        name, kind, _ = data[place : place + 600].split(b"\0", 2)  # names have 255 bytes at most
        place += len(name) + len(kind) + 2
        (size,) = struct.unpack_from("<I", data, place)
        found[name.decode("latin1")] = data[place + 4 : place + 4 + size]
        place += 4 + size
    compression = found.get("compression", b"\xff")[0]
    if compression > 3:
        raise DataError(f"{path}: an OpenEXR file compressed in a way that is not read; save it with ZIP")
    window = struct.unpack("<4i", found.get("dataWindow", b""))
    display = struct.unpack("<4i", found.get("displayWindow", found.get("dataWindow", b"")))
    for x1, y1, x2, y2 in (window, display):
        _check_size(path, x2 - x1 + 1, y2 - y1 + 1)
    return _Exr(_exr_channels(path, found.get("channels", b"")), compression, window, display, place + 1)


def _exr_channels(path: Path, listed: bytes) -> list[tuple[str, np.dtype[np.generic]]]:
    kinds = [np.dtype("<u4"), np.dtype("<f2"), np.dtype("<f4")]
    channels = []
    while listed and listed[0]:
        name, _, listed = listed.partition(b"\0")
        kind, _, across, down = struct.unpack_from("<iIii", listed)
        if (across, down) != (1, 1):
            raise DataError(f"{path}: an OpenEXR file with a channel of fewer samples than pixels")
        channels.append((name.decode("latin1"), kinds[kind]))
        listed = listed[16:]
    if not channels:
        raise ValueError("no channels")
    return channels


def _exr_block(block: bytes, size: int, compression: int) -> bytes:
    if compression == 0 or len(block) == size:
        return block
    packed = _run_lengths(block, size) if compression == 1 else zlib.decompressobj().decompress(block, size)
    if len(packed) != size:
        raise ValueError("a block of lines is too short")
    # Stored are differences to the byte before, of all even bytes and then of all odd ones.
    steps = np.frombuffer(packed, np.uint8).copy()
    steps[1:] -= 128
    values = np.cumsum(steps, dtype=np.uint8)
    out = np.empty(size, np.uint8)
    half = (size + 1) // 2
    out[::2], out[1::2] = values[:half], values[half:]
    return out.tobytes()


def _run_lengths(block: bytes, size: int) -> bytes:
    out, place = bytearray(), 0
    while place < len(block) and len(out) < size:
        count = block[place] - 256 if block[place] > 127 else block[place]
        if count < 0:
            out += block[place + 1 : place + 1 - count]
            place += 1 - count
        else:
            out += block[place + 1 : place + 2] * (count + 1)
            place += 2
    return bytes(out)


def _in_display(path: Path, values: np.ndarray, head: _Exr) -> np.ndarray:
    """The pixels at their place in the whole image, which may be larger than what is stored; 0 elsewhere."""
    left, top, right, bottom = (a - b for a, b in zip(head.data, head.display[:2] * 2, strict=True))
    height, width = head.display[3] - head.display[1] + 1, head.display[2] - head.display[0] + 1
    if (left, top, right + 1, bottom + 1) == (0, 0, width, height):
        return values
    if left < 0 or top < 0 or right >= width or bottom >= height:
        raise DataError(f"{path}: stores pixels outside of its own image")
    out = np.zeros((height, width), dtype=values.dtype)
    out[top : bottom + 1, left : right + 1] = values
    return out


def _check_size(path: Path, width: int, height: int) -> None:
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise DataError(f"{path}: {width} x {height} pixels; allowed are 1 to {MAX_PIXELS}")
