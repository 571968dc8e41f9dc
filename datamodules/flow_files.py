"""Optical flow as it lies in files: `.flo`, KITTI's 16-bit png and `.pfm`."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from datamodules.float_files import read_pfm
from visionkit.errors import DataError
from visionkit.images import MAX_PIXELS
from visionkit.predictions.flow import FLO_MAGIC, FLO_UNKNOWN, KITTI_STEP, KITTI_ZERO, FlowField
from visionkit.text_files import read_bytes

FLOW_SUFFIXES = (".flo", ".png", ".pfm")
"""Endings of files that `read_flow` reads."""

_LIMIT = 8 * MAX_PIXELS + 4096  # bytes
_HEADER = 12
_PNG = b"\x89PNG\r\n\x1a\n"


def read_flow(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads one file of optical flow.

    Args:
        path: A `.flo` of Middlebury, a 16-bit png of KITTI, or a `.pfm` of three channels, as FlyingThings has.

    Returns:
        (2, h, w) float32 pixels to the right and downwards, 0 where it is not known, and (h, w) bool, where it is.

    Raises:
        DataError: Missing, damaged, of another type, or an image of flow in colors.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FLOW_SUFFIXES:
        raise DataError(f"{path}: flow is read from {', '.join(FLOW_SUFFIXES)}")
    if suffix == ".pfm":
        values = read_pfm(path, "flow file")
        if values.ndim != 3:
            raise DataError(f"{path}: a PFM of one channel; flow has three, of which the first two count")
        return _known(values[..., :2], np.isfinite(values[..., :2]).all(axis=2))
    data = read_bytes(path, _LIMIT, "flow file")
    return _read_flo(path, data) if suffix == ".flo" else _read_png(path, data)


def write_flow(path: str | Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Writes one file of optical flow, whole or not at all.

    Args:
        path: Ends in `.flo` (exact) or `.png` (16 bit, 1/64 px).
        flow: (2, h, w) pixels to the right and downwards.
        valid: (h, w) bool, where it is known; everywhere by default.

    Raises:
        DataError: Another ending.
    """
    from visionkit.atomic import write_whole

    path, field = Path(path), FlowField(flow, valid)
    if path.suffix.lower() not in (".flo", ".png"):
        raise DataError(f"{path}: flow is written as .flo or .png")
    write_whole(path, field.flo() if path.suffix.lower() == ".flo" else field.png())


def _known(values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flow = np.where(valid[..., None], values, 0).transpose(2, 0, 1)
    return np.ascontiguousarray(flow, dtype=np.float32), np.ascontiguousarray(valid)


def _read_flo(path: Path, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    if len(data) < _HEADER:
        raise DataError(f"{path}: truncated; a .flo file begins with {_HEADER} bytes of header")
    magic, width, height = struct.unpack_from("<fii", data)
    if magic != FLO_MAGIC:
        raise DataError(f"{path}: no .flo file: it begins with {magic:g} and not with {FLO_MAGIC}")
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise DataError(f"{path}: {width} x {height} pixels; allowed are 1 to {MAX_PIXELS}")
    size = 8 * width * height
    if len(data) != _HEADER + size:
        raise DataError(
            f"{path}: {len(data) - _HEADER:,} bytes of flow; {width} x {height} pixels have {size:,}: truncated or "
            "damaged"
        )
    values = np.frombuffer(data, "<f4", offset=_HEADER).reshape(height, width, 2)
    return _known(values, (np.abs(values) <= FLO_UNKNOWN).all(axis=2))  # NaN compares as not known


def _read_png(path: Path, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    if not data.startswith(_PNG) or len(data) < 33:
        raise DataError(f"{path}: no png file")
    width, height, bits, color = struct.unpack_from(">IIBB", data, 16)
    if (bits, color) != (16, 2):
        raise DataError(
            f"{path}: a png of {bits} bits{'' if color == 2 else ' that is not RGB'}; KITTI's flow has 16 bits and "
            "three channels, and an image that shows flow in colors does not hold its values"
        )
    if width * height > MAX_PIXELS:
        raise DataError(f"{path}: {width} x {height} pixels; allowed are 1 to {MAX_PIXELS}")
    import cv2  # Pillow reads such a file as 8 bit

    codes = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if codes is None or codes.dtype != np.uint16 or codes.ndim != 3:
        raise DataError(f"{path}: the flow file is truncated or damaged")
    values = (codes[..., :0:-1].astype(np.float32) - KITTI_ZERO) * np.float32(KITTI_STEP)  # OpenCV has blue first
    return _known(values, codes[..., 0] > 0)
