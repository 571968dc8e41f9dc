"""An image made from an image."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from visionkit.predictions.base import Prediction
from visionkit.predictions.labels import LabelFacts

if TYPE_CHECKING:
    from visionkit.images import ImageLike

_SHAPES = "(h, w) or (h, w, 1) gray, (h, w, 2) gray with alpha, (h, w, 3) RGB, (h, w, 4) RGBA"


@dataclass(frozen=True, eq=False)
class ImagePrediction(Prediction):
    """An image `scale` times as large as the file; restored images are as large as it.

    Attributes:
        pixels: (H, W, C) uint8 or uint16 with 1 gray, 2 gray and alpha, 3 RGB or 4 RGBA channels.
        scale: Its pixels for each pixel of the file, along each side.
    """

    kind: ClassVar[str] = "image"
    label_keys: ClassVar[tuple[str, ...]] = ("high_res", "clean")
    label_rank: ClassVar[int] = 1

    pixels: np.ndarray
    scale: int = 1

    def __post_init__(self) -> None:
        pixels = np.asarray(self.pixels)
        pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4) or pixels.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"an image is {_SHAPES} of uint8 or uint16, not {pixels.shape} of {pixels.dtype}")
        pixels.setflags(write=False)
        object.__setattr__(self, "pixels", pixels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in its own pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8 to inspect; transparency over white."""
        pixels = self.pixels if self.pixels.dtype == np.uint8 else (self.pixels >> 8).astype(np.uint8)
        channels = pixels.shape[2]
        if channels == 3:
            return pixels
        colors = pixels[:, :, :1].repeat(3, axis=2) if channels < 3 else pixels[:, :, :3]
        if channels in (1, 3):
            return colors
        alpha = pixels[:, :, -1:].astype(np.float32) / 255
        return (colors * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)

    def png(self) -> bytes:
        """The image as a png file, its depth, colors and alpha kept."""
        return encode_png(self.pixels)

    def text(self, top: int = 3) -> str:
        height, width = self.size
        return f"{width} x {height} pixels" + (f", {self.scale} times the file" if self.scale > 1 else "")

    def draw(self, image: ImageLike) -> np.ndarray:
        from visionkit.drawing.image import draw

        return draw(self, image)

    def files(self, stem: Path) -> Iterator[tuple[Path, bytes]]:
        """`.png`: the image, its depth, gray and transparency kept."""
        yield stem.with_name(stem.name + ".png"), self.png()

    @classmethod
    def from_labels(cls, target: Mapping[str, Any], facts: LabelFacts) -> ImagePrediction | None:
        """The image that the file was made of, as large as the target has it."""
        known = np.asarray(target["high_res"] if "high_res" in target else target["clean"])
        scale = max(1, round(known.shape[1] / facts.size[0]))
        return cls(np.zeros((1, 1, 3), np.uint8), scale).truth(target)

    def truth(self, target: Mapping[str, Any]) -> ImagePrediction | None:
        known = next((target[name] for name in ("high_res", "clean") if name in target), None)
        if known is None:
            return None
        pixels = np.asarray(known).transpose(1, 2, 0)
        pixels = pixels if pixels.dtype == np.uint8 else (pixels + 0.5).clip(0, 255).astype(np.uint8)
        return ImagePrediction(np.ascontiguousarray(pixels), self.scale)

    def row(self, truth: Prediction | None = None) -> dict[str, str | float | bool]:
        height, width = self.size
        row: dict[str, str | float | bool] = {"size": f"{width} x {height}", "scale": float(self.scale)}
        if isinstance(truth, ImagePrediction) and truth.size == self.size:
            error = np.square(self.rgb.astype(np.float32) - truth.rgb).mean()
            row["psnr_rgb"] = float(10 * np.log10(255.0**2 / max(float(error), 1e-10)))
        return row

    def summary(self) -> dict[str, Any]:
        height, width = self.size
        return {
            "kind": self.kind,
            "width": width,
            "height": height,
            "channels": self.pixels.shape[2],
            "bits": 8 * self.pixels.dtype.itemsize,
            "scale": self.scale,
        }

    def to_json(self) -> dict[str, Any]:
        return {**self.summary(), "png": base64.b64encode(self.png()).decode("ascii")}

    @classmethod
    def _from_json(cls, record: Mapping[str, Any]) -> ImagePrediction:
        return cls(decode_png(base64.b64decode(record["png"])), int(record["scale"]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ImagePrediction):
            return NotImplemented
        same = self.scale == other.scale and self.pixels.dtype == other.pixels.dtype
        return same and bool(np.array_equal(self.pixels, other.pixels))

    __hash__ = None  # type: ignore[assignment]


def encode_png(pixels: np.ndarray) -> bytes:
    """(h, w, C) uint8 or uint16 with 1 to 4 channels as a png file."""
    if pixels.dtype == np.uint8:
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG", compress_level=1)
        return file.getvalue()
    import cv2  # Pillow writes 16 bit in gray alone

    channels = pixels.shape[2]
    order = {1: [0], 2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    good, data = cv2.imencode(".png", np.ascontiguousarray(pixels[:, :, order]), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert good
    return data.tobytes()


def decode_png(data: bytes) -> np.ndarray:
    """The inverse of `encode_png`: (h, w, C) uint8 or uint16; 16-bit gray with alpha comes back as RGBA."""
    if data[24] == 8:  # bits of a sample, in the header
        from PIL import Image

        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            pixels = np.array(image)
        return pixels[:, :, None] if pixels.ndim == 2 else pixels
    import cv2

    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise ValueError("the image of this record is damaged")
    pixels = np.asarray(decoded)
    if pixels.ndim == 2:
        return pixels[:, :, None]
    return np.ascontiguousarray(pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]])
