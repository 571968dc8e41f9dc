"""Blur that is the same everywhere in the image: convolution with a kernel."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from datamodules.degradations.kernels import gaussian_kernel, line_kernel, shake_kernel
from datamodules.degradations.parts import DegradationPart, Degraded, Range, bounds_of, drawn
from visionkit.errors import UsageError, suggest
from visionkit.families.restoration.blur_kernels import normalized, read_kernels

Boundary = Literal["reflect", "circular", "valid"]
"""What lies beyond the image's border: itself `reflect`ed, its border pixels first; its other side (`circular`); or
nothing, so only what the kernel covers wholly is `valid` and stays."""


class BlurPart(DegradationPart):
    """Convolves an image with a kernel, which differs from a correlation by turning the kernel upside down.

    The kernel sums to 1; the middle of n pixels is number n // 2 from 0. What comes out is not rounded. Noise of
    before is blurred with the image, and its map stays as it is.

    Attributes:
        boundary: See `Boundary`.
    """

    boundary: Boundary

    def __post_init__(self) -> None:
        if self.boundary not in get_args(Boundary):
            allowed = get_args(Boundary)
            raise UsageError(
                f"{type(self).__name__}.boundary {self.boundary!r}: allowed are {', '.join(allowed)}"
                f"{suggest(self.boundary, allowed)}"
            )

    @abstractmethod
    def kernel_of(self, rng: np.random.Generator) -> np.ndarray:
        """The kernel of one image, (h, w) float32 of sum 1."""

    @property
    @abstractmethod
    def radius(self) -> int:
        """Pixels that the largest kernel reaches from its middle."""

    @property
    def reach(self) -> int:
        return self.radius

    @property
    def margin(self) -> int:
        return self.radius if self.boundary == "valid" else 0

    @property
    def wraps(self) -> bool:
        return self.boundary == "circular"

    def leaves_levels(self, whole: bool) -> bool:
        return False

    def __call__(self, degraded: Degraded, rng: np.random.Generator) -> Degraded:
        return degraded._replace(image=convolved(degraded.image, self.kernel_of(rng), self.boundary))


@dataclass(frozen=True)
class Blur(BlurPart):
    """Blurs by a kernel that is given, or by one of several, drawn per image.

    Args:
        kernel: A file or folder of kernels, see `read_kernels`, or rows of numbers.
        number: Which of several kernels it is, from 1; drawn by default.
        boundary: See `Boundary`.
    """

    kernel: str | list[list[float]]
    number: int | None = None
    boundary: Boundary = "reflect"

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        if isinstance(self.kernel, str):
            kernels = read_kernels(self.kernel)
        else:
            kernels = [normalized(self.kernel, f"{name}.kernel")]
        if self.number is not None and not 1 <= self.number <= len(kernels):
            raise UsageError(f"{name}.number {self.number}: there are kernels 1 to {len(kernels)}")
        chosen = kernels if self.number is None else [kernels[self.number - 1]]
        object.__setattr__(self, "_kernels", chosen)

    @property
    def kernels(self) -> Sequence[np.ndarray]:
        """The kernels, one of which is drawn."""
        kept: Sequence[np.ndarray] = self.__dict__["_kernels"]
        return kept

    @property
    def radius(self) -> int:
        return max(int(side) // 2 for kernel in self.kernels for side in kernel.shape)

    def kernel_of(self, rng: np.random.Generator) -> np.ndarray:
        return self.kernels[0 if len(self.kernels) == 1 else int(rng.integers(len(self.kernels)))]


@dataclass(frozen=True)
class LevinKernels(Blur):
    """Blurs by one of the eight measured camera shakes of Levin et al. (2009), circularly as most papers do.

    Args:
        kernel: The file with the kernels.
        number: Which of them it is, 1 to 8; drawn by default.
        boundary: See `Boundary`.
    """

    kernel: str
    boundary: Boundary = "circular"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.number is None and len(self.kernels) != 8:
            raise UsageError(f"LevinKernels.kernel {self.kernel}: {len(self.kernels)} kernels, and Levin's are 8")


@dataclass(frozen=True)
class GaussianBlur(BlurPart):
    """Blurs by a Gaussian, which is cut off at three standard deviations.

    Args:
        sigma: Standard deviation in pixels, or the smallest and the largest.
        boundary: See `Boundary`.
    """

    sigma: Range = 1.6
    boundary: Boundary = "reflect"

    def __post_init__(self) -> None:
        super().__post_init__()
        bounds_of(self.sigma, 0, 100, "GaussianBlur.sigma")

    @property
    def radius(self) -> int:
        return math.ceil(3 * bounds_of(self.sigma, 0, 100, "GaussianBlur.sigma")[1])

    def kernel_of(self, rng: np.random.Generator) -> np.ndarray:
        sigma = drawn(bounds_of(self.sigma, 0, 100, "GaussianBlur.sigma"), rng)
        return gaussian_kernel(sigma, math.ceil(3 * sigma))


@dataclass(frozen=True)
class LinearMotionBlur(BlurPart):
    """Blurs by a motion along a line, of constant speed.

    Args:
        length: Length of the way in pixels, or the shortest and the longest; 1 is no motion.
        angle: Degrees, counter-clockwise as seen, from the horizontal, or the smallest and the largest.
        boundary: See `Boundary`.
    """

    length: Range = (5.0, 15.0)
    angle: Range = (0.0, 180.0)
    boundary: Boundary = "reflect"

    def __post_init__(self) -> None:
        super().__post_init__()
        bounds_of(self.length, 1, 255, "LinearMotionBlur.length")
        bounds_of(self.angle, -360, 360, "LinearMotionBlur.angle")

    @property
    def radius(self) -> int:
        return math.ceil((bounds_of(self.length, 1, 255, "LinearMotionBlur.length")[1] - 1) / 2)

    def kernel_of(self, rng: np.random.Generator) -> np.ndarray:
        length = drawn(bounds_of(self.length, 1, 255, "LinearMotionBlur.length"), rng)
        return line_kernel(length, drawn(bounds_of(self.angle, -360, 360, "LinearMotionBlur.angle"), rng))


@dataclass(frozen=True)
class CameraShake(BlurPart):
    """Blurs by the random way of a camera that is held by hand, see `shake_kernel`.

    Args:
        length: Length of the way in pixels, or the shortest and the longest.
        size: Side of the kernel in pixels, odd.
        boundary: See `Boundary`.
    """

    length: Range = (10.0, 60.0)
    size: int = 31
    boundary: Boundary = "reflect"

    def __post_init__(self) -> None:
        super().__post_init__()
        bounds_of(self.length, 1, 1000, "CameraShake.length")
        if not 3 <= self.size <= 255 or self.size % 2 == 0:
            raise UsageError(f"CameraShake.size {self.size}: allowed is an odd number from 3 to 255")

    @property
    def radius(self) -> int:
        return self.size // 2

    def kernel_of(self, rng: np.random.Generator) -> np.ndarray:
        return shake_kernel(drawn(bounds_of(self.length, 1, 1000, "CameraShake.length"), rng), self.size, rng)


def convolved(image: np.ndarray, kernel: np.ndarray, boundary: Boundary) -> np.ndarray:
    """The convolution of an image with a kernel, as large as the image.

    Args:
        image: (h, w, C) float32.
        kernel: (h, w) float32.
        boundary: See `Boundary`; of a `valid` one the border that is to be left out is reflected.

    Returns:
        (h, w, C) float32.
    """
    import cv2

    if kernel.size == 1:
        return np.asarray(image * kernel[0, 0], dtype=np.float32)
    rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
    mode: Literal["wrap", "symmetric"] = "wrap" if boundary == "circular" else "symmetric"
    padded = np.pad(image, ((rows, rows), (columns, columns), (0, 0)), mode=mode)
    # OpenCV correlates, so the kernel is turned; that moves the middle of an even one.
    anchor = (kernel.shape[1] - 1 - columns, kernel.shape[0] - 1 - rows)
    turned = np.ascontiguousarray(kernel[::-1, ::-1])
    blurred = cv2.filter2D(padded, -1, turned, anchor=anchor, borderType=cv2.BORDER_CONSTANT)
    blurred = blurred.reshape(padded.shape)[rows : rows + image.shape[0], columns : columns + image.shape[1]]
    inner: np.ndarray = np.array(blurred, order="C")
    return inner
