"""How a low resolution comes about: antialiased bicubic, and what cameras and files do to it besides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from datamodules.degradations.jpeg import through_jpeg
from visionkit.errors import UsageError
from visionkit.geometry import resize_image

BICUBIC_REACH = 2
"""Low-resolution pixels to each side that one of them depends on: a window with so many around it is exact."""


@dataclass(frozen=True)
class Degradation:
    """What is done beside shrinking; each strength is drawn evenly between two bounds, and (0, 0) is off.

    Attributes:
        blur: Standard deviation of a Gaussian in high-resolution pixels, before shrinking.
        noise: Standard deviation of Gaussian noise in gray levels, after shrinking.
        jpeg: Quality, 1 to 100, of a JPEG file that the low resolution goes through at the end.
    """

    blur: tuple[float, float] = (0.0, 0.0)
    noise: tuple[float, float] = (0.0, 0.0)
    jpeg: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        for name, bounds, most in (("blur", self.blur, 20), ("noise", self.noise, 128), ("jpeg", self.jpeg, 100)):
            if len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1] <= most:
                raise UsageError(
                    f"data.degradation.{name} {bounds}: give the smallest and the largest, from 0 to {most}"
                )
            object.__setattr__(self, name, tuple(bounds))
        if self.jpeg[1] and not self.jpeg[0]:
            raise UsageError(f"data.degradation.jpeg {self.jpeg}: quality begins at 1")

    @property
    def reach(self) -> int:
        """High-resolution pixels to each side that the blur processes."""
        return _radius(self.blur[1])

    @property
    def is_off(self) -> bool:
        """True where shrinking is all that is done."""
        return not (self.blur[1] or self.noise[1] or self.jpeg[1])

    def before(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Blurs (h, w, C) uint8."""
        if not self.blur[1]:
            return image
        return _blurred(image, float(rng.uniform(*self.blur)))

    def after(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Adds noise and compresses (h, w, C) uint8."""
        if self.noise[1]:
            level = float(rng.uniform(*self.noise))
            noisy = image + rng.normal(0.0, 1.0, image.shape).astype(np.float32) * level
            image = np.clip(noisy + 0.5, 0, 255).astype(np.uint8)
        if self.jpeg[1]:
            image = through_jpeg(image, int(rng.integers(self.jpeg[0], self.jpeg[1] + 1)))
        return image


def _radius(sigma: float) -> int:
    return int(np.ceil(3 * sigma))


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    radius = _radius(sigma)
    if radius == 0:
        return image
    line = torch.exp(-(torch.arange(-radius, radius + 1, dtype=torch.float32) ** 2) / (2 * sigma**2))
    line = line / line.sum()
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()[:, None]
    planes = F.conv2d(F.pad(planes, (radius,) * 4, mode="replicate"), line.view(1, 1, -1, 1))
    planes = F.conv2d(planes, line.view(1, 1, 1, -1))
    return np.ascontiguousarray((planes[:, 0] + 0.5).clamp(0, 255).byte().permute(1, 2, 0).numpy())


def modulo_crop(image: np.ndarray, scale: int) -> np.ndarray:
    """Cuts the right and bottom of (h, w, C) so that both sides are multiples of `scale`; a view."""
    return image[: image.shape[0] // scale * scale, : image.shape[1] // scale * scale]


def shrink(image: np.ndarray, scale: int, exact: bool = False) -> np.ndarray:
    """The papers' low resolution: antialiased bicubic of an image whose sides are multiples of `scale`.

    Args:
        image: (h, w, C) uint8.
        scale: Factor.
        exact: Keep what lies between two gray levels, as the early papers do: 16 bit in place of 8.

    Returns:
        (h / scale, w / scale, C) uint8, or uint16 where 257 times a gray level is that level.
    """
    size = (image.shape[0] // scale, image.shape[1] // scale)
    if not exact:
        return np.ascontiguousarray(resize_image(np.ascontiguousarray(image), size, "bicubic").permute(1, 2, 0).numpy())
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()[None]
    small = F.interpolate(planes, size=size, mode="bicubic", antialias=True)[0]
    levels = (small * 257.0).round().clamp(0, 65535)
    return np.ascontiguousarray(levels.permute(1, 2, 0).numpy().astype(np.uint16))
