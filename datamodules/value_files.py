"""Image files whose pixels are numbers and not brightness: label maps, instance maps and depth.

Decoders are made for viewing and change such numbers: Pillow scales gray PNGs of 2 and 4 bits and PGM files to 0..255
or 0..65535, and inverts TIFFs where 0 is white. Here the values come out as the file has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from visionkit.errors import DataError
from visionkit.images import FORMATS, MAX_PIXELS, exif_orientation, upright

_MODES = ("1", "L", "LA", "P", "I", "I;16", "I;16B", "I;16L", "F", "RGB", "RGBA")
_TINT = 24  # of gray pixels after lossy compression
_LOSSY = {"JPEG": "JPEG", "JPEG2000": "JPEG 2000", "AVIF": "AVIF"}


class Values(NamedTuple):
    """The pixels of one file.

    Attributes:
        array: (h, w) numbers, or (h, w, 3) uint8 colors; turned as the file's own EXIF orientation asks.
        lossy: Name of the compression where it changes values, else "".
    """

    array: np.ndarray
    lossy: str = ""


def read_values(path: str | Path, what: str = "label file") -> Values:
    """The numbers of a file, neither scaled nor mapped through a palette.

    Args:
        path: Any image file; a TIFF may hold 16-bit or 64-bit floats too.
        what: What the file is, for the messages.

    Raises:
        DataError: Missing, not an image, damaged, too large, or of a mode that holds no numbers.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_size(path, image.width, image.height)
            if image.mode not in _MODES:
                raise DataError(f"{path}: a {what} has numbers or colors, not mode {image.mode}")
            orientation, layout = exif_orientation(image), _layout(image)
            lossy = _LOSSY.get(image.format or "", "") or _lossy_webp(path, image)
            values = upright(_unscaled(np.asarray(image), layout), orientation)
    except FileNotFoundError:
        raise DataError(f"{path}: no such {what}") from None
    except UnidentifiedImageError:
        if Path(path).suffix.lower() in (".tif", ".tiff"):
            return Values(_read_tiff(path, what))
        raise DataError(f"{path}: not an image (readable are {', '.join(FORMATS)})") from None
    except DataError:
        raise
    except Exception as error:  # a damaged file makes Pillow's plug-ins raise nearly anything
        raise DataError(f"{path}: the {what} is truncated or damaged ({' '.join(str(error).split())[:120]})") from error
    if values.ndim == 3:
        values = values[..., 0] if values.shape[2] == 2 else values[..., :3]
    return Values(values.astype(np.uint8) if values.dtype == bool else values, lossy)


def gray(values: np.ndarray, lossy: str = "") -> np.ndarray:
    """Colors whose three channels are equal (in a lossy file: nearly) as (h, w) numbers; anything else as it is."""
    if values.ndim == 3 and np.ptp(values, axis=2).max() <= (_TINT if lossy else 0):
        return np.rint(values.mean(axis=2)).astype(np.uint8) if lossy else values[..., 0]
    return values


def _layout(image: Image.Image) -> tuple[str, int]:
    """Raw mode and greatest value of a file before it is decoded, ("", 0) where its pixels are not scaled."""
    tiles = getattr(image, "tile", ())
    arguments: Sequence[Any] = tiles[0].args if tiles and tiles[0].args else ("",)
    raw = arguments if isinstance(arguments, str) else arguments[0]
    if image.format == "PPM" and len(arguments) == 2 and image.mode in ("L", "I"):
        return "", int(arguments[1])
    bits = next((number for number in (2, 4) if str(raw).startswith(f"L;{number}")), 8)
    inverted = image.format == "TIFF" and str(raw).startswith("L;") and str(raw).endswith("I")
    return "I" if inverted else "", (1 << bits) - 1 if image.mode == "L" else 0


def _unscaled(values: np.ndarray, layout: tuple[str, int]) -> np.ndarray:
    """Takes back what the decoder did to values of a small range; the scale is at least 1, so none is lost."""
    raw, greatest = layout
    if not greatest:
        return values
    top = 255 if greatest <= 255 else 65535
    if greatest != top:
        values = np.rint(values * (greatest / top)).astype(np.uint8 if greatest <= 255 else np.uint16)
    return greatest - values if raw == "I" else values


def _lossy_webp(path: str | Path, image: Image.Image) -> str:
    if image.format != "WEBP":
        return ""
    with open(path, "rb") as file:  # noqa: PTH123  (may be a path as text)
        head = file.read(1 << 16)
    return "" if b"VP8L" in head[12:] else "lossy WebP"


def _read_tiff(path: str | Path, what: str) -> np.ndarray:
    """TIFFs that Pillow does not know: floats of 16 and 64 bits."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            _check_size(path, page.imagewidth, page.imagelength)  # type: ignore[union-attr]
            values: np.ndarray = page.asarray()
    except DataError:
        raise
    except Exception as error:  # no TIFF at all, or a damaged one
        raise DataError(f"{path}: the {what} cannot be read ({' '.join(str(error).split())[:120]})") from None
    if values.ndim != 2:
        raise DataError(f"{path}: a {what} has one channel, this one is {values.shape}")
    return values


def _check_size(path: str | Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(f"{path}: {width} x {height} pixels are over the limit of {MAX_PIXELS}")
