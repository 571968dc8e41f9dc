"""Deconvolution of a known blur: an inverse kernel as separable convolutions, then a denoiser (Xu et al., 2014)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tasks.restoration.body import Body
from visionkit.families.restoration.blur_kernels import read_kernels
from visionkit.families.restoration.classical import transfer

_NEAR, _BACK = 16, 8  # sides of the denoiser's first and last kernels
_LINEAR = 0.3  # as large as inputs of tanh are at first, so that it hardly bends them
_IMAGE = 0.5  # how far pixels are from middle gray


class DeconvolutionCNN(Body):
    """The deconvolution network of one kernel of blur.

    Xu et al., Deep Convolutional Neural Network for Image Deconvolution, 2014. The inverse of a blur is larger than its
    kernel, and is nearly a sum of few separable kernels. So the first layer has vertical kernels, the second a
    horizontal one for each of its maps, and both begin as the singular vectors of the blur's pseudo-inverse; what they
    are combined to goes through a denoiser of three convolutions of 16x16, 1x1 and 8x8 (Eigen et al., 2013). The
    network is trained for that blur alone, and for the noise that it is trained with. Channels are processed each by
    itself.

    The denoiser begins as the identity, where the paper's is trained by itself before.

    Args:
        channels: Channels of the image; 1 or 3.
        kernel: File with the kernel of the blur, see `read_kernels`. Empty begins with random weights, for those of a
            checkpoint.
        number: Which of several kernels of the file it is, from 1.
        noise: Power of the noise over that of the image, in the pseudo-inverse.
        maps: Separable kernels.
        side: Length of each, odd.
        width: Channels of the denoiser; 512 of the paper.
        between: Images between the two parts; 0 merges the last layer of the first part and the first of the second,
            which the paper ends with and which makes kernels of 16x16 from all `maps`.
        circular: The image goes on at its opposite border, as for images that were blurred so; it is then processed
            whole. By default the pixel at the border is repeated.
    """

    def __init__(
        self,
        channels: int = 1,
        kernel: str = "",
        number: int = 1,
        noise: float = 0.01,
        maps: int = 38,
        side: int = 121,
        width: int = 512,
        between: int = 0,
        circular: bool = False,
    ) -> None:
        super().__init__()
        if side % 2 == 0:
            raise ValueError(f"side {side}: give an odd number")
        self.circular = circular
        self.down = nn.Conv2d(1, maps, (side, 1))
        self.across = nn.Conv2d(maps, maps, (1, side), groups=maps)
        self.mix = nn.Conv2d(maps, between, 1, bias=False) if between else nn.Identity()
        self.first = nn.Conv2d(between or maps, width, _NEAR)
        self.second = nn.Conv2d(width, width, 1)
        self.last = nn.ConvTranspose2d(width, 1, _BACK, padding=_BACK - 1)  # where all of its kernel is inside
        self.margin = side // 2 + (_NEAR + _BACK - 2) // 2
        if kernel:
            kernels = read_kernels(kernel)
            if not 1 <= number <= len(kernels):
                raise ValueError(f"number {number}: {kernel} has kernels 1 to {len(kernels)}")
            self._begin(kernels[number - 1].astype(np.float64), noise)

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        batch, channels, height, width = image.shape
        x = self._extended(image.reshape(batch * channels, 1, height, width) - _IMAGE)
        x = self.mix(torch.tanh(self.across(torch.tanh(self.down(x)))))
        out: Tensor = self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))
        return out.reshape(image.shape) + _IMAGE

    def _extended(self, x: Tensor) -> Tensor:
        m = self.margin
        if not self.circular:
            return F.pad(x, (m, m, m, m), mode="replicate")
        for dim in (2, 3):
            x = x.index_select(dim, torch.arange(-m, x.shape[dim] + m, device=x.device) % x.shape[dim])
        return x

    @torch.no_grad()
    def _begin(self, kernel: NDArray[np.float64], noise: float) -> None:
        """Weights that make the first part the pseudo-inverse of a blur, and the second the identity."""
        maps, side = self.down.out_channels, self.down.kernel_size[0]
        columns, strengths, rows = np.linalg.svd(pseudo_inverse(kernel, noise, side))
        weights = torch.zeros(maps)
        for k in range(min(maps, len(strengths))):
            # Kernels of torch are not turned upside down.
            column, row = columns[::-1, k], rows[k, ::-1]
            tall, wide = _LINEAR / _IMAGE / np.abs(column).sum(), 1 / np.abs(row).sum()
            self.down.weight[k, 0, :, 0] = torch.from_numpy(column * tall)
            self.across.weight[k, 0, 0] = torch.from_numpy(row * wide)
            weights[k] = strengths[k] / (tall * wide)
        for layer in (self.down, self.across, self.first, self.second, self.last):
            assert layer.bias is not None
            layer.bias.zero_()
        if isinstance(self.mix, nn.Conv2d):
            self.mix.weight[0, :, 0, 0] = weights
            weights = torch.ones(1)
        # One channel carries the image; the others begin with nothing to say.
        scale, middle = _LINEAR / _IMAGE / 2, (_NEAR - 1) // 2
        self.first.weight[0] = 0
        self.first.weight[0, : len(weights), middle, middle] = weights * scale
        self.second.weight[0] = 0
        self.second.weight[0, 0] = 1
        self.last.weight.mul_(0.01)
        self.last.weight[0] = 0
        self.last.weight[0, 0, (_BACK - 1) // 2, (_BACK - 1) // 2] = 1 / scale


def pseudo_inverse(kernel: NDArray[np.float64], noise: float, side: int) -> NDArray[np.float64]:
    """The kernel of the Wiener filter.

    Args:
        kernel: (k, l) kernel of the blur.
        noise: Power of the noise over that of the image, above 0.
        side: Side of the result, odd; what lies outside is cut off.

    Returns:
        (side, side), the middle of which belongs to the pixel itself.
    """
    length = 4 * side  # what wraps around is cut off
    h = transfer(kernel, (length, length))
    whole = np.fft.fftshift(np.fft.ifft2(np.conj(h) / (np.abs(h) ** 2 + noise)).real)
    begin = length // 2 - side // 2
    return np.ascontiguousarray(whole[begin : begin + side, begin : begin + side])
