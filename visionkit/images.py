"""The one decoder: from a file, bytes, a PIL picture or an array to (h, w, C) uint8.

PIL, OpenCV and torchvision disagree on EXIF rotation, 16 bit, float TIFF and palettes, so nothing else in the project
decodes. The header is checked against a limit before any memory is taken: a 20 kB png can hold 169 megapixels.
"""

from __future__ import annotations

import io
import os
from math import ceil
from functools import cached_property
from pathlib import Path
from typing import Any, Union

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from visionkit.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000")
"""Pillow's plug-ins that may open a file; the rest of them are attack surface."""

SUFFIXES = frozenset(
    ".jpg .jpeg .png .webp .bmp .tif .tiff .gif .ppm .pgm .pbm .pnm .avif .jp2".split()
)
"""File name endings that count as pictures when a folder is searched."""

MAX_PIXELS = int(os.environ.get("VISIONKIT_MAX_PIXELS", 150_000_000))
"""A picture with more pixels is refused from its header; the environment variable VISIONKIT_MAX_PIXELS moves it."""

ImageLike = Union[str, "os.PathLike[str]", bytes, Image.Image, np.ndarray, "ImageSource"]

_TRANSPOSED = {5, 6, 7, 8}  # EXIF orientations that swap width and height
_EXIF_ORIENTATION = 0x0112

Image.MAX_IMAGE_PIXELS = None  # our own check below is stricter and comes first


class ImageSource:
    """A picture that is decoded when asked for.

    Args:
        source: Path, encoded bytes, PIL picture or array. An array is (h, w), (h, w, 1), (h, w, 3) RGB or (h, w, 4)
            RGBA of uint8; uint16 is scaled to 8 bit, bool to 0 and 255.
        name: Names the picture in messages; the path where left out.

    Example:
        >>> source = ImageSource("photo.jpg")
        >>> source.size            # (height, width) as a viewer shows it, from the header alone
        >>> source.read().shape    # (height, width, 3)
    """

    __slots__ = ("__dict__", "_source", "name")

    def __init__(self, source: ImageLike, name: str = "") -> None:
        if isinstance(source, ImageSource):
            name = name or source.name
            source = source._source
        if isinstance(source, (str, os.PathLike)):
            source = Path(source)
            name = name or str(source)
        elif not isinstance(source, (bytes, Image.Image, np.ndarray)):
            raise TypeError(f"a picture is a path, bytes, a PIL picture or an array, not {type(source).__name__}")
        self._source: Any = source
        self.name = name or "picture"

    def __repr__(self) -> str:
        return f"ImageSource({self.name!r})"

    def __getstate__(self) -> tuple[Any, str]:
        return self._source, self.name

    def __setstate__(self, state: tuple[Any, str]) -> None:
        self._source, self.name = state

    @property
    def is_decoded(self) -> bool:
        """True for an array, whose pixels cost nothing to read."""
        return isinstance(self._source, np.ndarray)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width) in file pixels with EXIF rotation applied; reads the header only."""
        if isinstance(self._source, np.ndarray):
            return _array_size(self._source, self.name)
        with self._open() as image:
            return self._upright_size(image)

    def read(self, channels: int = 3, min_scale: float = 1.0) -> np.ndarray:
        """Decodes the picture.

        Args:
            channels: 3 for RGB, 1 for grey, 4 for RGBA.
            min_scale: Below 1 a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as the result is at least
                this fraction of it: faster, and a little different in its pixels, so for training only.

        Returns:
            (h, w, channels) uint8, EXIF rotation applied, transparency over white where `channels` is not 4.

        Raises:
            DataError: Not a picture, truncated, or larger than `MAX_PIXELS`.
        """
        if isinstance(self._source, np.ndarray):
            return _from_array(self._source, channels, self.name)
        if isinstance(self._source, Image.Image):
            return self._decode(self._source, channels)
        data = self._bytes()
        with self._open(data) as image:
            self._upright_size(image)
            if image.format == "JPEG" and image.mode in ("RGB", "L") and channels in (1, 3):
                return self._decode_jpeg(data, image, channels, min_scale)
            return self._decode(image, channels)

    def _bytes(self) -> bytes:
        if isinstance(self._source, bytes):
            return self._source
        try:
            data = Path(self._source).read_bytes()
        except FileNotFoundError:
            raise DataError(f"{self.name}: no such file") from None
        except OSError as error:
            raise DataError(f"{self.name}: cannot be read ({error.strerror})") from error
        if not data:
            raise DataError(f"{self.name}: the file is empty (0 bytes), so it holds no picture")
        return data

    def _open(self, data: bytes | None = None) -> Image.Image:
        if isinstance(self._source, Image.Image):
            return self._source.copy() if data is None else self._source
        try:
            if data is not None or isinstance(self._source, bytes):
                if not (data or self._source):
                    raise DataError(f"{self.name}: empty (0 bytes), so it holds no picture")
                return Image.open(io.BytesIO(data or self._source), formats=FORMATS)
            return Image.open(self._source, formats=FORMATS)
        except FileNotFoundError:
            raise DataError(f"{self.name}: no such file") from None
        except UnidentifiedImageError:
            if isinstance(self._source, Path) and self._source.stat().st_size == 0:
                raise DataError(f"{self.name}: the file is empty (0 bytes), so it holds no picture") from None
            raise DataError(f"{self.name}: not a picture (readable are {', '.join(FORMATS)})") from None
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{self.name}: cannot be opened as a picture ({error})") from error

    def _upright_size(self, image: Image.Image) -> tuple[int, int]:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise DataError(
                f"{self.name}: {width} x {height} is {width * height / 1e6:.0f} megapixels, over the limit of "
                f"{MAX_PIXELS / 1e6:.0f}; set VISIONKIT_MAX_PIXELS to raise it"
            )
        return (width, height) if _orientation(image) in _TRANSPOSED else (height, width)

    def _decode(self, image: Image.Image, channels: int) -> np.ndarray:
        try:
            image.load()
            image = ImageOps.exif_transpose(image)
            return _to_array(image, channels)
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise DataError(f"{self.name}: the picture is truncated or damaged ({error})") from error

    def _decode_jpeg(self, data: bytes, image: Image.Image, channels: int, min_scale: float) -> np.ndarray:
        import simplejpeg

        width, height = image.size
        colorspace = "RGB" if channels == 3 else "GRAY"
        wanted = {} if min_scale >= 1 else {"min_height": ceil(height * min_scale), "min_width": ceil(width * min_scale)}
        try:
            # libjpeg fills what is missing with grey and only warns: `strict` makes a truncated file an error.
            array = simplejpeg.decode_jpeg(data, colorspace, strict=True, **wanted)
        except ValueError as error:
            # Warnings about harmless trailing bytes also land here; Pillow decides which files are really damaged.
            if min_scale < 1 or "remature" in str(error):
                raise DataError(f"{self.name}: the picture is truncated or damaged ({error})") from error
            return self._decode(image, channels)
        orientation = _orientation(image)
        return array if orientation in (None, 1) else np.ascontiguousarray(_upright(array, orientation))


def read_image(source: ImageLike, channels: int = 3) -> np.ndarray:
    """Decodes one picture to (h, w, channels) uint8 RGB, EXIF rotation applied. See `ImageSource.read`."""
    return ImageSource(source).read(channels)


def find_images(source: str | os.PathLike[str]) -> list[Path]:
    """Lists the pictures that a file, a folder (searched deeply) or a glob names, sorted.

    Raises:
        DataError: Nothing there, or a folder without a picture.
    """
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise DataError(f"{path}: no pictures in this folder (looked for {' '.join(sorted(SUFFIXES))})")
        return found
    import glob

    found = sorted(Path(p) for p in glob.glob(str(source), recursive=True) if Path(p).is_file())
    if not found:
        raise DataError(f"{source}: no such file, folder or pattern")
    return found


def _orientation(image: Image.Image) -> int | None:
    if "exif" not in image.info and image.format not in ("TIFF", "MPO", "PNG", "WEBP", "AVIF"):
        return None  # most files: parsing an empty Exif block costs more than the header did
    return image.getexif().get(_EXIF_ORIENTATION)


def _upright(array: np.ndarray, orientation: int | None) -> np.ndarray:
    if orientation in _TRANSPOSED:
        array = array.swapaxes(0, 1)
    if orientation in (2, 6, 7, 3):
        array = array[:, ::-1]
    if orientation in (4, 8, 7, 3):
        array = array[::-1]
    return array


def _to_array(image: Image.Image, channels: int) -> np.ndarray:
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return _from_array(np.asarray(image), channels, "picture")
    if channels == 4:
        return np.array(image.convert("RGBA"))
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or (mode == "P" and "transparency" in image.info):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba)
    array = np.array(image.convert("RGB" if channels == 3 else "L"))
    return array if channels == 3 else array[:, :, None]


def _array_size(array: np.ndarray, name: str) -> tuple[int, int]:
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise DataError(f"{name}: an array picture is (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), not {array.shape}")
    return int(array.shape[0]), int(array.shape[1])


def _from_array(array: np.ndarray, channels: int, name: str) -> np.ndarray:
    _array_size(array, name)
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16 or array.dtype in (np.int32, np.uint32):
        # 16-bit files arrive as int32 in some modes of Pillow; the high byte is what an 8-bit viewer shows.
        array = (np.clip(array, 0, 65535) >> 8).astype(np.uint8)
    elif array.dtype.kind == "f":
        peak = float(np.nanmax(array))
        scale = 255.0 if peak <= 1.0 else 1.0 if peak <= 255.0 else 255.0 / 65535.0
        array = np.clip(np.nan_to_num(array) * scale + 0.5, 0, 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise DataError(f"{name}: pixels of type {array.dtype}; allowed are uint8, uint16, bool and float")
    if array.ndim == 2:
        array = array[:, :, None]
    have = array.shape[2]
    if have == channels:
        return array
    if have == 1:
        grey = np.repeat(array, 3, axis=2)
        return grey if channels == 3 else np.concatenate([grey, np.full_like(array, 255)], axis=2)
    return _to_array(Image.fromarray(array), channels)
