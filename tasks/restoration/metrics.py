"""PSNR and SSIM of restored images as they are served, and beside them those of the images that were given."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tasks.restoration.lpips import Lpips, check_network
from visionkit.errors import DataError, EnvironmentFault, UsageError
from visionkit.families.restoration.quality import SSIM_SIDE, psnr, psnr_of, ssim, to_gray, to_levels, to_y
from visionkit.uncertainty.by_image import SummedMetric

log = logging.getLogger(__name__)

BLOCK = 8
"""Side of the blocks of JPEG, in pixels."""


def psnr_b(ours: Tensor, truth: Tensor, border: int = 0) -> Tensor:
    """PSNR that counts what differs more across the borders of blocks than within them (Yim and Bovik, 2011), in dB.

    Args:
        ours: (1, H, W) on a scale of 255.
        truth: The same shape.
        border: Pixels that were left out at the top and left: there blocks begin earlier.
    """
    image = ours.double()
    height, width = image.shape[-2:]
    sums = {True: image.new_zeros(()), False: image.new_zeros(())}
    for dim, side in ((1, height), (2, width)):
        steps = image.diff(dim=dim).square().sum(dim=(0, 3 - dim))
        last = (torch.arange(side - 1, device=image.device) + border) % BLOCK == BLOCK - 1
        sums[True] = sums[True] + (steps * last).sum()
        sums[False] = sums[False] + (steps * ~last).sum()
    # The numbers of pairs are those of the paper.
    rows, columns = width * (height / BLOCK) - 1, height * (width / BLOCK) - 1
    across = sums[True] / (rows + columns)
    within = sums[False] / (width * (height - 1) + height * (width - 1) - rows - columns)
    effect = math.log2(BLOCK) / math.log2(min(height, width)) * (across - within).clamp(min=0)
    return psnr_of((image - truth.double()).square().mean() + effect)


class RestorationQuality(SummedMetric):
    """Means over images; sums that add up over batches and processes.

    `psnr` and `ssim` are of the image as it is served, rounded to whole gray levels of 8 bit: of the one channel of a
    gray network or of a file with one channel, and of all three of RGB. `psnr_input` and `ssim_input` are those of the
    image that the network was given, as it is: noise in floating point is neither clipped nor rounded.

    Args:
        border: Pixels that are left out on every side.
        luma: Also `psnr_y`, `ssim_y`, `psnr_y_input` and `psnr_b` (see `psnr_b`), of the luma of BT.601 in studio
            range, rounded; a file of one channel is its own luma. Papers of deblocking measure it.
        holes: Also `psnr_hole` and `psnr_valid`, of missing and of known pixels alone. Images without the one or the
            other are left out of its mean.
        lpips: Also `lpips` by this network, see `Lpips`, which is built for the first image. Where its weights are
            absent, one line states it and the value is left out.

    Attributes:
        values: Names of what is measured.
    """

    full_state_update = False
    higher_is_better = True

    sums: Tensor
    counts: Tensor

    def __init__(self, border: int = 0, luma: bool = False, holes: bool = False, lpips: str | None = None) -> None:
        super().__init__()
        if border < 0:
            raise UsageError(f"border {border}: pixels are 0 or more")
        self.border, self.luma, self.holes = border, luma, holes
        if lpips is not None:
            check_network(lpips)
        self._lpips_network, self._built = lpips, lpips is None
        self._lpips: Lpips | None = None
        names = ["psnr", "ssim", "psnr_input", "ssim_input"]
        names += ["psnr_y", "ssim_y", "psnr_y_input", "psnr_b"] if luma else []
        names += ["psnr_hole", "psnr_valid"] if holes else []
        names += ["lpips"] if lpips is not None else []
        self.values = tuple(names)
        self.add_state("sums", torch.zeros(len(names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(len(names), dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self,
        restored: Sequence[Tensor],
        clean: Sequence[Tensor],
        degraded: Sequence[Tensor],
        mask: Sequence[Tensor] | None = None,
        gray: Sequence[Any] = (),
    ) -> None:
        """Adds images.

        Args:
            restored: (C, h, w) float each, gray or RGB on a scale of 255.
            clean: (C, h, w) uint8 or float on a scale of 255.
            degraded: (C, h, w) uint8 or float on a scale of 255, as the network was given it.
            mask: (1, h, w) each, above 0 where pixels are missing; needed with `holes`.
            gray: Whether each is of a file with one channel, which is measured as the one channel that is served; by
                default none is.

        Raises:
            DataError: An image is too small to be measured.
            UsageError: Images of other shapes than the clean ones.
        """
        flags = [bool(flag) for flag in gray] or [False] * len(clean)
        masks = [None] * len(clean) if mask is None else list(mask)
        for ours, truth, given, missing, flag in zip(restored, clean, degraded, masks, flags, strict=True):
            values = self._measure(ours, truth, given, missing, flag)
            self.sums += torch.stack([values[name][0].double() for name in self.values]).to(self.sums)
            self.counts += torch.stack([values[name][1].double() for name in self.values]).to(self.counts)

    def _measure(
        self, ours: Tensor, truth: Tensor, given: Tensor, missing: Tensor | None, gray: bool
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """The values of one image, each with how often it counts, which is 0 or 1."""
        if not ours.shape == truth.shape == given.shape:
            shapes = ", ".join(str(tuple(each.shape)) for each in (ours, truth, given))
            raise UsageError(f"restored, clean and given images of shapes {shapes}: they need one shape to be compared")
        least = SSIM_SIDE + 2 * self.border
        if min(truth.shape[-2:]) < least:
            raise DataError(
                f"an image of {truth.shape[-2]}x{truth.shape[-1]} is too small to be measured: without its border of "
                f"{self.border} pixels SSIM needs {SSIM_SIDE} a side, so give at least {least}"
            )
        inner = slice(self.border, -self.border or None)
        ours, truth, given = (each[..., inner, inner].double() for each in (ours, truth, given))
        if gray and len(ours) == 3:
            ours, truth, given = (to_gray(each) for each in (ours, truth, given))
        served, levels = to_levels(ours), to_levels(truth)
        values = {
            "psnr": psnr(served, levels),
            "ssim": ssim(served, levels),
            "psnr_input": psnr(given, truth),
            "ssim_input": ssim(given, truth),
        }
        if self.luma:
            y, wanted, before = (to_y(to_levels(each)) for each in (served, levels, given))
            values |= {"psnr_y": psnr(y, wanted), "ssim_y": ssim(y, wanted), "psnr_y_input": psnr(before, wanted)}
            values["psnr_b"] = psnr_b(y, wanted, self.border)
        once = served.new_ones(())
        counted = {name: (value, once) for name, value in values.items()}
        if self._lpips_network is not None:
            network, nothing = self.lpips, served.new_zeros(())
            counted["lpips"] = (nothing, nothing) if network is None else (network(served, levels), once)
        if self.holes:
            if missing is None:
                raise ValueError("what is measured in holes needs the mask of each image")
            error = (served - levels).square().mean(dim=0, keepdim=True)
            hole = (missing[..., inner, inner] > 0).to(error)
            for name, part in (("psnr_hole", hole), ("psnr_valid", 1 - hole)):
                number = part.sum()
                there = (number > 0).to(error)
                counted[name] = (psnr_of((error * part).sum() / number.clamp(min=1)) * there, there)
        return counted

    def compute(self) -> dict[str, Tensor]:
        means = (self.sums / self.counts.clamp(min=1)).float()
        found = dict(zip(self.values, means, strict=True))
        return found if self.lpips is not None else {name: each for name, each in found.items() if name != "lpips"}

    @property
    def lpips(self) -> Lpips | None:
        """The network of LPIPS, built when it is first asked for, so that serving a model does not load it."""
        if not self._built:
            self._built = True
            assert self._lpips_network is not None
            try:
                self._lpips = Lpips(self._lpips_network)
            except EnvironmentFault as fault:
                log.warning("%s; LPIPS is left out", fault)
        return self._lpips

    @property
    def protocol(self) -> str:
        """How images are compared."""
        border = f"a border of {self.border} pixels is left out" if self.border else "no border is left out"
        parts = [
            "mean over images; restored images rounded to 8 bit, of RGB, or of one channel for gray networks and files",
            f"the input as it is given, not clipped; {border}; SSIM by an 11x11 Gaussian of 1.5, valid region",
        ]
        if self.luma:
            parts.append("Y is BT.601 luma in studio range, rounded, and a file of one channel is Y as it is")
        if self.holes:
            parts.append("psnr_hole is of missing pixels alone, psnr_valid of the others")
        if self.lpips is not None:
            parts.append(f"LPIPS by {self._lpips_network}")
        return "; ".join(parts)
