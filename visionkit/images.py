"""The one decoder: from a file, bytes, a PIL image or an array to (h, w, C) uint8.

PIL, OpenCV and torchvision disagree on EXIF rotation, 16 bit, float TIFF and palettes, so nothing else in the project
decodes. The header is checked against a limit before any memory is taken: a 20 kB png can hold 169 megapixels.
"""

from __future__ import annotations

import contextlib
import io
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from visionkit.errors import DataError
from visionkit.heic import open_heic
from visionkit.images_16bit import as_is, deep_pixels, is_deep, with_channels
from visionkit.jpeg import Header, check_scans, decode_jpeg, plain_header

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000")
"""Pillow's plug-ins that may open a file; the rest of them are attack surface."""

MAX_PIXELS = int(os.environ.get("VISIONKIT_MAX_PIXELS", 150_000_000))
"""An image with more pixels is refused from its header; the environment variable VISIONKIT_MAX_PIXELS moves it."""

_TRANSPOSED = {5, 6, 7, 8}  # EXIF orientations that swap width and height
_EXIF_ORIENTATION = 0x0112

Image.MAX_IMAGE_PIXELS = None  # our own check below is stricter and comes first


class ImageSource:
    """An image that is decoded when asked for.

    Args:
        source: Path, encoded bytes, PIL image or array. An array is (h, w) or (h, w, 1) gray, (h, w, 2) gray and alpha,
            (h, w, 3) RGB or (h, w, 4) RGBA of uint8, bool, integers of 16 or 32 bits, or floats.
        name: Names the image in messages; the path by default.
        white: The value that is white where pixels are not of 8 bits, such as 4095 for 12-bit sensors. By default 65535
            for integers, and for floats 1, 255 or 65535, whichever the largest value does not exceed (up to twice, for
            reflectance above 1).

    Example:
        >>> source = ImageSource("photo.jpg")
        >>> source.size            # (height, width) as a viewer shows it, from the header alone
        >>> source.read().shape    # (height, width, 3)
    """

    name: str
    white: float | None

    def __init__(self, source: ImageLike, name: str = "", white: float | None = None) -> None:
        if isinstance(source, ImageSource):
            name, white = name or source.name, white or source.white
            source = source._source
        if isinstance(source, (str, os.PathLike)):
            source = Path(source)
            name = name or str(source)
        elif not isinstance(source, (bytes, Image.Image, np.ndarray)):
            raise TypeError(f"an image is a path, bytes, a PIL image or an array, not {type(source).__name__}")
        self._source: Any = source
        self._known: Header | None = None
        self.name, self.white = name or "image", white

    def __repr__(self) -> str:
        return f"ImageSource({self.name!r})"

    def __getstate__(self) -> tuple[Any, str, float | None]:
        return self._source, self.name, self.white

    def __setstate__(self, state: tuple[Any, str, float | None]) -> None:
        self._source, self.name, self.white = state
        self._known = None

    @property
    def is_decoded(self) -> bool:
        """True for an array, whose pixels cost nothing to read."""
        return isinstance(self._source, np.ndarray)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width) in file pixels with EXIF rotation applied; reads the header only.

        Raises:
            DataError: Not an image, or larger than `MAX_PIXELS`.
        """
        if isinstance(self._source, np.ndarray):
            return _array_size(self._source, self.name)
        header = self._header(self._source)
        return (header.width, header.height) if header.orientation in _TRANSPOSED else (header.height, header.width)

    @property
    def orientation(self) -> int:
        """EXIF orientation, 1 (upright) to 8; reads the header only. An array is upright."""
        return 1 if self.is_decoded else self._header(self._source).orientation

    def read(self, channels: int = 3, min_scale: float | None = None, bits: int = 8) -> np.ndarray:
        """Decodes the image.

        Args:
            channels: 3 for RGB, 1 for gray, 4 for RGBA.
            min_scale: For training: a JPEG may be decoded faster and a little different in its pixels, at 1/2, 1/4 or
                1/8 of its size as long as the result is at least this fraction of it. None decodes exactly.
            bits: 16 keeps the depth of an image that has it; 32 keeps floats as well.

        Returns:
            (h, w, channels) uint8, or uint16 of a deep image where `bits` is above 8, or float32 of an image of floats
            where it is 32, see `read_floats`; EXIF rotation applied, transparency over white where `channels` is not 4.

        Raises:
            DataError: Not an image, truncated, or larger than `MAX_PIXELS`.
        """
        if bits == 32 and (floats := self.read_floats()) is not None:
            return with_channels(floats, channels)
        if (bits > 8 or self.white is not None) and self.is_deep:
            pixels = with_channels(self.read_as_is(), channels)
            return pixels if bits > 8 else _scaled(pixels, 65535)
        if isinstance(self._source, np.ndarray):
            return _from_array(self._source, channels, self.name, self.white)
        source = self._bytes() if isinstance(self._source, Path) else self._source
        header = self._header(source)
        if header.format == "JPEG" and isinstance(source, bytes):
            check_scans(source, self.name)
        plain = header.format == "JPEG" and header.mode in ("RGB", "L") and channels in (1, 3)
        if plain and isinstance(source, bytes):
            try:
                return upright(decode_jpeg(source, header, channels, min_scale), header.orientation)
            except ValueError as error:
                raise DataError(f"{self.name}: the image is truncated or damaged ({_reason(error)})") from error
        with self._open(source) as image:
            return self._decode(image, channels)

    @cached_property
    def is_deep(self) -> bool:
        """True where there are more than 8 bits a channel, whole numbers; reads the header only."""
        if isinstance(self._source, np.ndarray):
            return self._source.dtype.kind in "iu" and self._source.dtype.itemsize in (2, 4)
        if plain_header(self._source) is not None:
            return False
        with self._open(self._source) as image:
            return is_deep(image)

    @cached_property
    def is_gray(self) -> bool:
        """True where the file has one channel of brightness, with or without transparency; reads the header only."""
        if isinstance(self._source, np.ndarray):
            return self._source.ndim == 2 or self._source.shape[2] in (1, 2)
        mode = self._header(self._source).mode or ""
        return mode in ("1", "L", "LA", "La", "F") or mode.startswith("I")

    def read_as_is(self) -> np.ndarray:
        """Decodes the image with the channels and the depth that the file has.

        Returns:
            (h, w, C) uint8 or uint16, EXIF rotation applied: 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA. Palettes and
            other color spaces become RGB or RGBA, floats 8 bit.

        Raises:
            DataError: As `read`.
        """
        if isinstance(self._source, np.ndarray):
            array = self._source if self._source.ndim == 3 else self._source[:, :, None]
            _array_size(array, self.name)
            if self.is_deep:
                return self._whitened(np.clip(array, 0, 65535).astype(np.uint16))
            return _from_array(array, array.shape[2], self.name, self.white)
        source = self._bytes() if isinstance(self._source, Path) else self._source
        header = self._header(source)
        if header.format == "JPEG" and isinstance(source, bytes):
            check_scans(source, self.name)
        if header.format == "JPEG" and header.mode in ("RGB", "L"):
            return ImageSource(source, self.name).read(3 if header.mode == "RGB" else 1)
        with self._open(source) as image:
            try:
                orientation = exif_orientation(image)
                if is_deep(image):
                    pixels, orientation = deep_pixels(image, source, orientation)
                    return upright(self._whitened(pixels), orientation)
                image.load()
                if image.mode == "F":
                    return upright(_from_array(np.asarray(image), 1, self.name, self.white), orientation)
                return upright(as_is(image), orientation)
            except Exception as error:  # as in `_decode`
                raise DataError(f"{self.name}: the image is truncated or damaged ({_reason(error)})") from error

    def read_floats(self) -> np.ndarray | None:
        """The pixels of an image of floats as they are, below black and above white too.

        Returns:
            (h, w, C) float32 with `white` at 255, what is not finite at 0; None for an image of whole numbers.

        Raises:
            DataError: As `read`.
        """
        values = self.undecoded_values()
        if values is None or values.dtype.kind != "f":
            return None
        _array_size(values, self.name)
        values = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        white = self.white or usual_white(float(values.max()))
        return (values if values.ndim == 3 else values[:, :, None]) * np.float32(255 / white)

    def _whitened(self, pixels: np.ndarray) -> np.ndarray:
        """(h, w, C) uint16 with `white` at 65535."""
        if self.white is None:
            return np.ascontiguousarray(pixels)
        scaled = pixels.astype(np.float32) * np.float32(65535 / self.white) + np.float32(0.5)
        return np.asarray(np.clip(scaled, 0, 65535).astype(np.uint16))

    def undecoded_values(self) -> np.ndarray | None:
        """The pixels as the file has them where they are not of 8 bits, (h, w) or (h, w, C), else None.

        Raises:
            DataError: As `read`.
        """
        if isinstance(self._source, np.ndarray):
            return None if self._source.dtype in (np.uint8, bool) else self._source
        if plain_header(self._source) is not None:
            return None
        plain = ImageSource(self._source, self.name)
        with self._open(self._source) as image:
            is_float = image.mode == "F"
            plain._header(self._source)
            if is_float:
                try:
                    return np.asarray(image)
                except Exception as error:  # as in `_decode`
                    raise DataError(f"{self.name}: the image is truncated or damaged ({_reason(error)})") from error
        return plain.read_as_is() if plain.is_deep else None

    def encoded(self) -> tuple[bytes, str]:
        """The image as a file, and the ending of its name without the dot.

        A file stays as it is; an array of 8 bits becomes png and any other npy, without loss. Errors: see `read`.
        """
        if isinstance(self._source, Path):
            return self._bytes(), self._source.suffix.lower().lstrip(".") or "image"
        if isinstance(self._source, bytes):
            return self._source, str(self._header(self._source).format).lower()
        file, pixels = io.BytesIO(), self._source
        if isinstance(pixels, np.ndarray) and (pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (3,), (4,))):
            np.save(file, pixels)
            return file.getvalue(), "npy"
        image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
        image.save(file, "PNG")
        return file.getvalue(), "png"

    def _header(self, source: Any) -> Header:
        """What the header states; read once, since that takes a sixth of the time in which a small JPEG is decoded."""
        if self._known is None:
            self._known = plain_header(source)
        if self._known is None:
            with self._open(source) as image:
                self._known = Header(image.format, image.mode, *image.size, exif_orientation(image))
        width, height = self._known.width, self._known.height
        if width * height > MAX_PIXELS:
            raise DataError(
                f"{self.name}: {width} x {height} is {width * height / 1e6:.0f} megapixels, over the limit of "
                f"{MAX_PIXELS / 1e6:.0f}; set VISIONKIT_MAX_PIXELS to raise it"
            )
        return self._known

    def _bytes(self) -> bytes:
        try:
            return Path(self._source).read_bytes()
        except FileNotFoundError:
            raise DataError(f"{self.name}: no such file") from None
        except OSError as error:
            raise DataError(f"{self.name}: cannot be read ({error.strerror})") from error

    def _open(self, source: Any) -> contextlib.AbstractContextManager[Image.Image]:
        """The image with its header read; leaving the block closes what was opened here, not a caller's image."""
        if isinstance(source, Image.Image):
            return contextlib.nullcontext(source)
        if len(source) == 0 if isinstance(source, bytes) else _is_empty(source):
            raise DataError(f"{self.name}: empty (0 bytes), so it holds no image")
        try:
            return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
        except FileNotFoundError:
            raise DataError(f"{self.name}: no such file") from None
        except UnidentifiedImageError:
            heic = open_heic(source, self.name)
            if heic is not None:
                return heic
            raise DataError(f"{self.name}: not an image (readable are {', '.join(FORMATS)})") from None
        except Exception as error:  # a damaged header makes Pillow's plug-ins raise nearly anything
            raise DataError(f"{self.name}: cannot be opened as an image ({_reason(error)})") from error

    def _decode(self, image: Image.Image, channels: int) -> np.ndarray:
        orientation = exif_orientation(image)  # before loading: some plug-ins find more then, and `size` could not know
        try:
            image.load()
            array = _to_array(image, channels, self.white)
        except Exception as error:  # as above: struct, zlib, index and key errors all mean a damaged file
            raise DataError(f"{self.name}: the image is truncated or damaged ({_reason(error)})") from error
        return upright(array, orientation)


ImageLike = str | os.PathLike[str] | bytes | Image.Image | np.ndarray | ImageSource
"""What can be read as an image: a path, encoded bytes, a PIL image, an array or an `ImageSource`."""


def read_image(source: ImageLike, channels: int = 3) -> np.ndarray:
    """Decodes one image to (h, w, channels) uint8 RGB, EXIF rotation applied. See `ImageSource.read`."""
    return ImageSource(source).read(channels)


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:
        return False  # opening it states what is wrong


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def exif_orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8, as the header before the pixels states it; 1 where it states none or nonsense."""
    # Of a TIFF, Pillow gives size and pixels turned already. And it would decode a whole PNG to look for a block behind
    # the pixels, so only what came before them counts.
    if image.format == "TIFF" or not {"exif", "Raw profile type exif"} & image.info.keys():
        return 1
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # a broken block is no reason to refuse a whole image
        return 1
    return orientation if orientation in range(1, 9) else 1


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turns and flips (h, w, C) as the EXIF orientation asks."""
    if orientation == 1:
        return array
    if orientation in _TRANSPOSED:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)


def _to_array(image: Image.Image, channels: int, white: float | None = None) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_array(np.asarray(image), channels, "image", white)
    if channels == 4:
        return np.array(image.convert("RGBA"))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba)
    array = np.array(image.convert("RGB" if channels == 3 else "L"))
    return array if channels == 3 else array[:, :, None]


def usual_white(peak: float) -> float:
    """The white of float pixels whose largest value is `peak`, by default; see `ImageSource`."""
    return next((white for white in (1.0, 255.0) if peak <= 2 * white), 65535.0)


def _scaled(array: np.ndarray, white: float) -> np.ndarray:
    scaled = array.astype(np.float32) * np.float32(255 / white) + np.float32(0.5)
    return np.asarray(np.clip(scaled, 0, 255).astype(np.uint8))


def _array_size(array: np.ndarray, name: str) -> tuple[int, int]:
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise DataError(f"{name}: an array image is (h, w) or (h, w, 1 to 4), not {array.shape}")
    return int(array.shape[0]), int(array.shape[1])


def _from_array(array: np.ndarray, channels: int, name: str, white: float | None = None) -> np.ndarray:
    _array_size(array, name)
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind in "iu" and array.dtype.itemsize in (2, 4):
        # 16-bit files arrive as int32 in some modes of Pillow; the high byte is what an 8-bit viewer shows.
        array = (np.clip(array, 0, 65535) >> 8).astype(np.uint8) if white is None else _scaled(array, white)
    elif array.dtype.kind == "f":
        array = np.nan_to_num(array.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        array = _scaled(array, white or usual_white(float(array.max())))
    elif array.dtype != np.uint8:
        raise DataError(f"{name}: pixels of type {array.dtype}; allowed are uint8, uint16, bool and float")
    if array.ndim == 2:
        array = array[:, :, None]
    have = array.shape[2]
    if have == channels:
        return array
    if have == 1:
        gray = np.repeat(array, 3, axis=2)
        return gray if channels == 3 else np.concatenate([gray, np.full_like(array, 255)], axis=2)
    return _to_array(Image.fromarray(array), channels)
