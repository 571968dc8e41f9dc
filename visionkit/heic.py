"""HEIC, the format of most phones' photos, which needs a decoder that is not part of Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from visionkit.errors import DataError

_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def refuse_heic(source: Any, name: str) -> None:
    """Says what to do where a file that cannot be read is a HEIC image.

    Args:
        source: Path or content of the file.
        name: For the message.

    Raises:
        DataError: It begins as HEIC and HEIF do.
    """
    if isinstance(source, bytes):
        head = source[:12]
    else:
        with Path(source).open("rb") as file:
            head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in _BRANDS:
        raise DataError(
            f"{name}: a HEIC image, as phones write them, which cannot be read here; convert it to JPEG (phones offer "
            "it as their most compatible format)"
        ) from None
