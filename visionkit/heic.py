"""HEIC, the format of most phones' photos, which needs a decoder that is not part of Pillow: the extra `heic`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionkit.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def is_heic(head: bytes) -> bool:
    """Whether a file begins as HEIC and HEIF do.

    Args:
        head: Its first twelve bytes, or more.
    """
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS


def open_heic(source: Any, name: str) -> Image.Image | None:
    """Opens a HEIC image by the package pillow-heif, which is imported for the first one; None for other files.

    Args:
        source: Path or content of a file that Pillow itself does not know.
        name: For messages.

    Raises:
        DataError: A HEIC image, and the package is not installed or cannot read it.
    """
    if isinstance(source, bytes):
        head = source[:12]
    else:
        with Path(source).open("rb") as file:
            head = file.read(12)
    if not is_heic(head):
        return None
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise DataError(
            f"{name}: a HEIC image, as phones write them; install pillow-heif to read it (pip install "
            "'visionkit[heic]'), or convert it to JPEG (phones offer it as their most compatible format)"
        ) from None
    from PIL import Image

    register_heif_opener(thumbnails=False)
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=["HEIF"])
    except Exception as error:  # as in `visionkit.images`: a damaged header makes a plug-in raise nearly anything
        raise DataError(f"{name}: a HEIC image that is truncated or damaged ({type(error).__name__})") from error
