"""Restoration without training, on arrays: the floor that a network is measured against.

Images are (h, w) gray or (h, w, 3) RGB. Kernels of blur are (k, l) with odd sides and a sum of 1; an image is blurred
by their convolution.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from visionkit.errors import UsageError, suggest

Levels = NDArray[np.uint8]
Floats = NDArray[np.float64]
InpaintMethod = Literal["telea", "navier_stokes"]
_INPAINT: dict[str, str] = {"telea": "INPAINT_TELEA", "navier_stokes": "INPAINT_NS"}
_TINY = 1e-12


def non_local_means(
    image: NDArray[np.uint8], strength: float, template: int = 7, search: int = 21
) -> NDArray[np.uint8]:
    """Non-local means of OpenCV (Buades et al., 2005): similar patches are averaged.

    Args:
        image: (h, w) or (h, w, 3) uint8. RGB is denoised in CIELAB.
        strength: Filter strength in gray levels, about the standard deviation of the noise.
        template: Side of the patches that are compared, in pixels, odd.
        search: Side of the region that is searched for them, in pixels, odd.
    """
    import cv2

    if image.ndim == 2:
        return np.asarray(cv2.fastNlMeansDenoising(image, None, strength, template, search), np.uint8)
    swapped = np.ascontiguousarray(image[:, :, ::-1])
    done = cv2.fastNlMeansDenoisingColored(swapped, None, strength, strength, template, search)
    return np.ascontiguousarray(np.asarray(done, np.uint8)[:, :, ::-1])


def inpaint(image: Levels, mask: NDArray[np.bool_], method: InpaintMethod = "telea", radius: float = 3.0) -> Levels:
    """Fills missing pixels from what lies around them, by OpenCV.

    Args:
        image: (h, w) or (h, w, 3) uint8.
        mask: (h, w) bool, True where pixels are missing.
        method: `telea`, fast marching (Telea, 2004), or `navier_stokes` (Bertalmio et al., 2001).
        radius: Radius of the known pixels that are taken, in pixels.

    Raises:
        UsageError: An unknown method.
    """
    import cv2

    if method not in _INPAINT:
        raise UsageError(f"inpainting by {method!r}: allowed are {', '.join(_INPAINT)}{suggest(method, _INPAINT)}")
    holes = mask.astype(np.uint8)
    return np.asarray(cv2.inpaint(image, holes, radius, getattr(cv2, _INPAINT[method])), np.uint8)


def transfer(kernel: Floats, size: tuple[int, int]) -> NDArray[np.complex128]:
    """The transfer function of a kernel: what circular blur multiplies the Fourier transform of an image by.

    Args:
        kernel: (k, l), its center in the middle.
        size: Height and width of the image, at least those of the kernel.
    """
    padded = np.zeros(size)
    padded[: kernel.shape[0], : kernel.shape[1]] = kernel
    return np.fft.fft2(np.roll(padded, (-(kernel.shape[0] // 2), -(kernel.shape[1] // 2)), (0, 1)))


def blurred(image: Floats, kernel: Floats) -> Floats:
    """An image blurred as if it went on at the opposite border.

    Args:
        image: (h, w) or (h, w, 3).
        kernel: Kernel of the blur.
    """
    return _filtered(image, transfer(kernel, _size(image)))


def wiener(image: Floats, kernel: Floats, noise: float, circular: bool = True) -> Floats:
    """The Wiener filter: divides by the transfer function where it is above the noise.

    Args:
        image: (h, w) or (h, w, 3), blurred.
        kernel: Kernel of the blur.
        noise: Power of the noise over that of the image, above 0; the same for all frequencies.
        circular: The image was blurred as if it went on at the opposite border. Otherwise it is first made to do so,
            see `taper_edges`.

    Returns:
        The same shape, not clipped.
    """
    h = transfer(kernel, _size(image))
    given = image if circular else taper_edges(image, kernel)
    return _filtered(given, np.conj(h) / (np.abs(h) ** 2 + noise))


def richardson_lucy(image: Floats, kernel: Floats, iterations: int = 30, circular: bool = True) -> Floats:
    """Richardson-Lucy deconvolution (Richardson, 1972; Lucy, 1974), the likeliest image under Poisson noise.

    Args:
        image: (h, w) or (h, w, 3), blurred; what is below 0 counts as 0.
        kernel: Kernel of the blur.
        iterations: Number of steps; noise grows with them.
        circular: See `wiener`.

    Returns:
        The same shape, at least 0.
    """
    h = transfer(kernel, _size(image))
    given = np.maximum(image if circular else taper_edges(image, kernel), 0.0)
    found = given.copy()
    for _ in range(iterations):
        ratio = given / np.maximum(_filtered(found, h), _TINY)
        found = np.maximum(found * _filtered(ratio, np.conj(h)), 0.0)
    return found


def taper_edges(image: Floats, kernel: Floats) -> Floats:
    """Blends an image towards its border into its circular blur, so that opposite borders meet without a jump.

    The weight of the image is 1 minus the autocorrelation of the kernel's sums along each side, as in MATLAB's
    `edgetaper`.

    Args:
        image: (h, w) or (h, w, 3).
        kernel: Kernel of the blur.
    """
    sides = []
    for axis, length in enumerate(_size(image)):
        line = kernel.sum(axis=1 - axis)
        # One shorter, and its first value again at the end: the weight is symmetric.
        power = np.abs(np.fft.fft(line, length - 1)) ** 2
        correlation = np.fft.ifft(power).real
        correlation = np.append(correlation, correlation[0]) / correlation[0]
        sides.append(1.0 - correlation)
    weight = np.outer(sides[0], sides[1])
    weight = weight if image.ndim == 2 else weight[:, :, None]
    return weight * image + (1 - weight) * blurred(image, kernel)


def _size(image: Floats) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _filtered(image: Floats, factor: NDArray[np.complex128] | Floats) -> Floats:
    """An image whose Fourier transform is multiplied, each channel by itself."""
    factor = factor if image.ndim == 2 else factor[:, :, None]
    return np.asarray(np.fft.ifft2(np.fft.fft2(image, axes=(0, 1)) * factor, axes=(0, 1)).real)
