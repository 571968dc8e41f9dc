"""What is minimized, by name and as weighted sums: differences of pixels, of structure and of features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.errors import UsageError, suggest
from visionkit.families.restoration.perceptual import FrozenFeatures
from visionkit.families.restoration.pixel_losses import PixelLoss, pixel_loss
from visionkit.families.restoration.quality import MS_SSIM_SIDE, SSIM_SIDE, ms_ssim, similarity

_PIXEL: tuple[PixelLoss, ...] = get_args(PixelLoss)
SCALED = (*_PIXEL, "psnr")
"""Terms that compare the coarser outputs of multi-scale networks as well."""

OF_HOLES = ("hole", "valid")
"""Terms that need a mask."""

TERMS = (*SCALED, "ssim", "ms_ssim", "tv", "perceptual", "style", *OF_HOLES)
_SIDES = {"ssim": SSIM_SIDE, "ms_ssim": MS_SSIM_SIDE}
_TINY = 1e-8


class RestorationLoss(nn.Module):
    """A weighted sum of terms, computed in float32.

    The terms are `l1`, `l2` and `charbonnier` (see `pixel_loss`); `psnr`, the logarithm of each image's mean squared
    error in decibels (Chen et al., 2022); `ssim` and `ms_ssim`, 1 minus the similarity; `tv`, the total variation;
    `perceptual` and `style`, mean absolute differences of a backbone's features and of their Gram matrices; and of
    networks with a mask `hole` and `valid`, the absolute error of missing and of known pixels, each divided by the
    number of all pixels. With a mask, `tv`, `perceptual` and `style` are those of inpainting: `tv` where the composed
    image differs from the given one and one pixel around, features of the restored and of the composed image.

    The weights of Liu et al. (2018) are valid 1, hole 6, perceptual .05, style 120 and tv .1.

    Args:
        terms: Weight of each term by name.
        perceptual_backbone: A timm model for `perceptual` and `style`, see `FrozenFeatures`.
        perceptual_strides: Strides of its features, in pixels, whose differences are added up.
        has_mask: The network is given a mask of the missing pixels.
        pretrained: Random features where false (for tests).

    Raises:
        UsageError: No term, an unknown one, one that needs a mask, or a weight that is not above 0.
    """

    def __init__(
        self,
        terms: Mapping[str, float],
        perceptual_backbone: str = "vgg16.tv_in1k",
        perceptual_strides: Sequence[int] = (2, 4, 8),
        has_mask: bool = False,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        allowed = [name for name in TERMS if has_mask or name not in OF_HOLES]
        for name, weight in terms.items():
            if name not in TERMS:
                raise UsageError(f"model.losses {name!r}: allowed are {', '.join(allowed)}{suggest(name, allowed)}")
            if name not in allowed:
                raise UsageError(
                    f"model.losses {name!r}: needs a network with a mask; allowed are {', '.join(allowed)}"
                )
            if not (weight > 0 and math.isfinite(weight)):
                raise UsageError(f"model.losses {name} {weight}: a weight is above 0; leave the term out instead")
        if not terms:
            raise UsageError(f"model.losses: give at least one of {', '.join(allowed)}, with its weight")
        if not perceptual_strides and {"perceptual", "style"} & set(terms):
            raise UsageError("model.perceptual_strides: give at least one stride of the backbone")
        self.terms = dict(terms)
        self.features = FrozenFeatures(perceptual_backbone, perceptual_strides, pretrained)

    def forward(
        self,
        restored: Tensor,
        target: Tensor,
        *,
        coarser: Sequence[Tensor] = (),
        mask: Tensor | None = None,
        image: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Each term with its weight.

        Args:
            restored: (B, C, H, W) float, about [0, 1]. What it has more than the target, at the right and bottom, was
                padded and is left out; the same of `mask` and `image`.
            target: (B, C, h, w) uint8 or float on a scale of 255.
            coarser: The restored image at lower resolutions, (B, C, H / n, W / n) each for a whole number n. `l1`,
                `l2`, `charbonnier` and `psnr` are then means over all resolutions (Nah et al., 2017).
            mask: (B, 1, H, W) float, 1 where pixels are missing.
            image: (B, C, H, W) float on [0, 1] that the network was given: the known pixels of the composed image, by
                default those of the target.

        Raises:
            UsageError: Images that are too small for a term, or of another shape than the target.
        """
        scales = [(restored.shape[-1] // each.shape[-1], each) for each in coarser]
        height, width = target.shape[-2:]
        restored = restored[..., :height, :width]
        mask, image = (None if each is None else each[..., :height, :width] for each in (mask, image))
        if restored.shape != target.shape:
            raise UsageError(
                f"the data's clean images of {tuple(target.shape[1:])} do not belong to restored ones of "
                f"{tuple(restored.shape[1:])}; use a network of as many channels as the data"
            )
        for name, side in _SIDES.items():
            if name in self.terms and min(target.shape[-2:]) < side:
                raise UsageError(
                    f"model.losses {name}: images of {target.shape[-2]}x{target.shape[-1]} are too small, it needs "
                    f"{side} pixels a side; train on larger patches or leave it out"
                )
        with torch.autocast(restored.device.type, enabled=False):
            ours, wanted = restored.float(), target.float() / 255
            holes = None if mask is None else mask.float()
            known = wanted if image is None else image.float()
            composed = None if holes is None else holes * ours + (1 - holes) * known
            terms = {
                name: self._term(name, ours, wanted, scales, holes, composed)
                for name in self.terms
                if name not in ("perceptual", "style")
            }
            terms |= self._features(ours if composed is None else torch.cat([ours, composed]), wanted)
            return {name: weight * terms[name] for name, weight in self.terms.items()}

    def _term(
        self,
        name: str,
        ours: Tensor,
        wanted: Tensor,
        scales: Sequence[tuple[int, Tensor]],
        holes: Tensor | None,
        composed: Tensor | None,
    ) -> Tensor:
        if name in SCALED:
            each = [_pixels(name, ours, wanted)]
            for factor, small in scales:
                if min(wanted.shape[-2:]) >= factor:
                    goal = F.avg_pool2d(wanted, factor)  # of pixels that are wholly of the image
                    each.append(_pixels(name, small[..., : goal.shape[-2], : goal.shape[-1]].float(), goal))
            return torch.stack(each).mean()
        if name == "ssim":
            return 1 - similarity(ours, wanted, 1.0)[0].mean()
        if name == "ms_ssim":
            return 1 - ms_ssim(ours, wanted, 1.0).mean()
        if name == "tv":
            return total_variation(ours if composed is None else composed, holes)
        if holes is None:
            raise ValueError(f"the term {name} needs the mask of the batch")
        return ((ours - wanted).abs() * (holes if name == "hole" else 1 - holes)).mean()

    def _features(self, images: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """The terms of features: of (n * B, C, h, w) images, each added up over the n images of a sample."""
        names = [name for name in ("perceptual", "style") if name in self.terms]
        if not names:
            return {}
        with torch.no_grad():
            theirs = self.features(wanted)
        ours, count = self.features(images), len(images) // len(wanted)
        terms: dict[str, Tensor] = {name: wanted.new_zeros(()) for name in names}
        for found, goal in zip(ours, theirs, strict=True):
            for part in found.chunk(count):
                if "perceptual" in terms:
                    terms["perceptual"] = terms["perceptual"] + F.l1_loss(part, goal)
                if "style" in terms:
                    terms["style"] = terms["style"] + F.l1_loss(gram(part), gram(goal))
        return terms


def _pixels(name: str, ours: Tensor, wanted: Tensor) -> Tensor:
    for kind in _PIXEL:
        if name == kind:
            return pixel_loss(kind, ours, wanted)
    error = (ours - wanted).square().flatten(1).mean(dim=1)
    return 10 / math.log(10) * (error + _TINY).log().mean()


def gram(features: Tensor) -> Tensor:
    """Gram matrices: what channels have in common, wherever it is (Gatys et al., 2016).

    Args:
        features: (B, C, h, w) float.

    Returns:
        (B, C, C), divided by C * h * w.
    """
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def total_variation(image: Tensor, mask: Tensor | None = None) -> Tensor:
    """Absolute differences of neighbors, across and down, added up and divided by the number of values.

    Args:
        image: (B, C, h, w) float.
        mask: (B, 1, h, w) float, 1 where pixels are missing. Differences count where both neighbors lie in the mask
            or touch it by a side or corner (Liu et al., 2018); without a mask all count.
    """
    across = (image[..., :, 1:] - image[..., :, :-1]).abs()
    down = (image[..., 1:, :] - image[..., :-1, :]).abs()
    if mask is not None:
        near = F.max_pool2d(mask, 3, stride=1, padding=1)
        across = across * near[..., :, 1:] * near[..., :, :-1]
        down = down * near[..., 1:, :] * near[..., :-1, :]
    return (across.sum() + down.sum()) / image.numel()
