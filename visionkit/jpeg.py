"""JPEG, the format of nearly every photo: its header and its pixels by libjpeg-turbo, faster than by Pillow."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from visionkit.errors import DataError

_END_OF_JPEG = b"\xff\xd9"
_SCAN, _MAX_SCANS = b"\xff\xda", 200  # each costs a pass over the whole image; encoders write about ten
_HEAD = 1 << 16  # bytes in which nearly every JPEG begins its pixels


class Header(NamedTuple):
    """What a file states about itself before its pixels."""

    format: str | None
    mode: str
    width: int
    height: int
    orientation: int


def plain_header(source: Any) -> Header | None:
    """The header of a JPEG without Exif, in a tenth of Pillow's time; None where Pillow has to read it."""
    import simplejpeg

    try:
        if isinstance(source, bytes):
            head = source[:_HEAD]
        elif isinstance(source, Path):
            with source.open("rb") as file:
                head = file.read(_HEAD)
        else:
            return None
        if not head.startswith(b"\xff\xd8\xff") or b"Exif" in head or b"MPF" in head:
            return None
        height, width, colors, _ = simplejpeg.decode_jpeg_header(head)
    except (OSError, ValueError):
        return None
    mode = {"YCbCr": "RGB", "Gray": "L"}.get(colors)
    return Header("JPEG", mode, width, height, 1) if mode else None


def check_scans(data: bytes, name: str) -> None:
    """Refuses a JPEG of so many scans that its decoding would take minutes.

    Raises:
        DataError: Too many.
    """
    if not _has_one_scan(data) and (scans := data.count(_SCAN)) > _MAX_SCANS:
        raise DataError(f"{name}: a JPEG of {scans} scans, over the limit of {_MAX_SCANS}; save it again")


def _has_one_scan(data: bytes) -> bool:
    """Whether a JPEG has one scan, as the header of nearly every photo states.

    To count scans takes a tenth of the time to decode.
    """
    place, components = 2, 0  # of a progressive image, or another process of coding, they stay 0
    while data[place : place + 1] == b"\xff" and place + 9 < len(data):
        marker = data[place + 1]
        if marker == 0xDA:
            return data[place + 4] == components
        if marker in (0xC0, 0xC1):
            components = data[place + 9]
        place += 2 + data[place + 2] * 256 + data[place + 3]
    return False


def decode_jpeg(data: bytes, header: Header, channels: int, min_scale: float | None) -> np.ndarray:
    """Decodes a JPEG of brightness or YCbCr, as it lies in the file: not turned by its orientation.

    Args:
        data: The file.
        header: Its header.
        channels: 3 for RGB, 1 for gray.
        min_scale: Least size, as a fraction of the whole, that the result may have; None decodes exactly.

    Returns:
        (h, w, channels) uint8.

    Raises:
        ValueError: Truncated or damaged; the first fault that the decoder found.
    """
    import simplejpeg

    height, width = header.height, header.width
    colorspace = "RGB" if channels == 3 else "GRAY"
    wanted: dict[str, Any] = {}
    if min_scale is not None:
        # Colors are spread over their neighbors by copying: on average a tenth of a gray level after the resize.
        wanted["fastupsample"] = True
        # 7/8, 3/4 and 5/8, which the decoder also knows, take longer than the whole image.
        scale = next((part for part in (0.125, 0.25, 0.5) if part >= min_scale), 1.0)
        if scale < 1:
            wanted |= {"min_height": ceil(height * scale), "min_width": ceil(width * scale)}

    def decode(data: bytes, strict: bool = True) -> np.ndarray:
        # libjpeg fills what is missing with gray and only warns: `strict` makes a truncated file an error.
        array: np.ndarray = simplejpeg.decode_jpeg(data, colorspace, strict=strict, **wanted)
        return array

    try:
        return decode(data)
    except ValueError as error:
        try:
            # All may be there but the end mark; where pixels are missing too, the decoder warns again. Other
            # warnings are of stray bytes between segments, which cameras leave and nobody sees.
            return decode(data + _END_OF_JPEG) if "remature" in str(error) else decode(data, strict=False)
        except ValueError:
            raise error from None
