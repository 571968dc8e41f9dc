"""PSNR and SSIM by the papers' protocol, of images as they are served: rounded to whole gray levels.

The same network scores up to two decibels more or less by channel, border and color conversion, so all of that is
fixed here. Y is BT.601 luma in studio range, rounded; a file of one channel is Y as it is, as in the published tables;
a border may be left out (in super-resolution as many pixels as the factor); the value of a set is the mean over images.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from visionkit.errors import DataError
from visionkit.families.restoration.color import luma

IDENTICAL = 100.0
"""Decibels that stand for two equal images, whose PSNR is infinite."""

SSIM_SIDE = 11
"""Pixels a side that an image needs at least for its SSIM."""

_WINDOW, _SIGMA = SSIM_SIDE, 1.5
_K1, _K2 = 0.01, 0.03
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

MS_SSIM_SIDE = SSIM_SIDE * 2 ** (len(_SCALES) - 1)
"""Pixels a side that an image needs at least for its MS-SSIM."""


def to_levels(image: Tensor) -> Tensor:
    """Float pixels on a scale of 255 to whole gray levels, as they are served; the type stays."""
    return image.round().clamp(0, 255)


PROTOCOL = (
    "mean over images; Y is BT.601 luma in studio range, rounded, and a file of one channel is Y as it is; a border of "
    "{border} pixels is left out; SSIM by an 11x11 Gaussian of 1.5, valid region"
)
"""How images are compared; with the border's width to be filled in."""

_GRAY = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)


def psnr(ours: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of (C, H, W) images on a scale of 255."""
    return psnr_of((ours.double() - truth.double()).square().mean())


def psnr_of(error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of a mean squared error on a scale of 255; `IDENTICAL` of none."""
    ratio = 10 * torch.log10(255.0**2 / error.clamp(min=1e-12))
    return torch.where(error == 0, torch.full_like(ratio, IDENTICAL), ratio)


def ssim(ours: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang et al., 2004): 11x11 Gaussian of 1.5, valid region, mean over channels.

    Args:
        ours: (C, H, W) on a scale of 255, at least 11 pixels a side.
        truth: The same shape.
    """
    return similarity(ours.double()[None], truth.double()[None])[0][0]


def similarity(ours: Tensor, truth: Tensor, top: float = 255.0) -> tuple[Tensor, Tensor]:
    """Structural similarity of a batch, and its part without luminance; both can be differentiated.

    Args:
        ours: (B, C, H, W) float in [0, top], at least 11 pixels a side.
        truth: The same shape.
        top: White: 1 or 255.

    Returns:
        (B,) SSIM and (B,) contrast times structure, each the mean over channels and the valid region.
    """
    place = torch.arange(_WINDOW, dtype=ours.dtype, device=ours.device) - _WINDOW // 2
    line = torch.exp(-(place**2) / (2 * _SIGMA**2))
    line = line / line.sum()
    a, b = (each.flatten(0, 1)[:, None] for each in (ours, truth))
    stack = torch.cat([a, b, a * a, b * b, a * b])
    stack = F.conv2d(F.conv2d(stack, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))
    mean_a, mean_b, square_a, square_b, product = stack.chunk(5)
    variance_a, variance_b = square_a - mean_a**2, square_b - mean_b**2
    covariance = product - mean_a * mean_b
    c1, c2 = (_K1 * top) ** 2, (_K2 * top) ** 2
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    whole = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * structure
    batch = ours.shape[0]
    return whole.reshape(batch, -1).mean(dim=1), structure.reshape(batch, -1).mean(dim=1)


def ms_ssim(ours: Tensor, truth: Tensor, top: float = 255.0) -> Tensor:
    """Structural similarity at five scales, each half as large as the one before (Wang et al., 2003).

    Contrast and structure are compared at every scale, luminance at the coarsest. A scale whose value is below 0 counts
    as 0. It can be differentiated.

    Args:
        ours: (B, C, H, W) float in [0, top], at least `MS_SSIM_SIDE` pixels a side.
        truth: The same shape.
        top: White: 1 or 255.

    Returns:
        (B,) values of at most 1.
    """
    product = torch.ones(ours.shape[0], dtype=ours.dtype, device=ours.device)
    for number, weight in enumerate(_SCALES):
        whole, structure = similarity(ours, truth, top)
        value = whole if number == len(_SCALES) - 1 else structure
        # A power below 1 has no slope at 0.
        product = product * torch.where(value > 0, value.clamp(min=1e-12) ** weight, torch.zeros_like(value))
        ours, truth = F.avg_pool2d(ours, 2), F.avg_pool2d(truth, 2)
    return product


def to_y(image: Tensor, gray: bool = False) -> Tensor:
    """(3, H, W) RGB on a scale of 255 to its rounded (1, H, W) Y.

    Args:
        image: Whole gray levels; (1, H, W) gray is Y as it is.
        gray: The image is of a file with one channel, which is Y as it is; Set14 has one, and mapping it to studio
            range would raise the mean of the set by .09 dB. What a network colors by a trace becomes gray as it is
            served.
    """
    if len(image) == 1:
        return image.double().round()
    return to_gray(image).round() if gray else luma(image, 255).round()


def to_gray(image: Tensor) -> Tensor:
    """(3, H, W) RGB to (1, H, W) float64, as the prediction on a file with one channel is served."""
    return (image.double() * _GRAY.to(image.device).view(3, 1, 1)).sum(dim=0, keepdim=True)


def quality(ours: Tensor, truth: Tensor, border: int, gray: bool = False, name: str = "an image") -> Tensor:
    """PSNR and SSIM of one image.

    Args:
        ours: (3, H, W) RGB on a scale of 255, float or uint8; rounded to whole gray levels.
        truth: The same shape.
        border: Pixels that are left out on every side.
        gray: See `to_y`.
        name: Names the image in messages.

    Returns:
        (4,) float64: PSNR and SSIM of Y, PSNR and SSIM of RGB.

    Raises:
        DataError: The image is too small to be measured.
    """
    least = _WINDOW + 2 * border
    if min(truth.shape[-2:]) < least:
        raise DataError(
            f"{name} of {truth.shape[-2]}x{truth.shape[-1]} is too small to be measured: without its border of "
            f"{border} pixels SSIM needs {_WINDOW} a side, so give at least {least}"
        )
    inner = slice(border, -border or None)
    rgb = [to_levels(each.double())[..., inner, inner] for each in (ours, truth)]
    y = [to_y(each, gray) for each in rgb]
    return torch.stack([psnr(*y), ssim(*y), psnr(*rgb), ssim(*rgb)])
