"""One augmentation per kind of data, ready to use: the parts that most people want, in a good order.

Option names have one meaning everywhere: `scale` is a range of zoom (above 1 enlarges), `rotate` is in degrees,
`translate` a fraction of the sides, `horizontal_flip` a probability. What a preset does not offer is a list of parts.
"""

from __future__ import annotations

from typing import Literal, get_args

from datamodules.augmentation.checks import check
from datamodules.augmentation.geometric import (
    RandomAffine,
    RandomCrop,
    RandomHalfBody,
    RandomHorizontalFlip,
    RandomQuarterTurn,
    RandomResizedCrop,
    SanitizeBoundingBoxes,
    ScaleJitter,
)
from datamodules.augmentation.library import AutoAugment, RandAugment, TrivialAugmentWide
from datamodules.augmentation.mixing import CopyPaste, MixUp, Mosaic
from datamodules.augmentation.photometric import ColorJitter, CutOut, RandomErasing, RandomLight
from datamodules.augmentation.policies import Policy
from visionkit.augmentation import Compose, SampleAugment
from visionkit.errors import UsageError, suggest

Crop = Literal["resized", "pad", "none"]


class ClassificationAugment(Compose):
    """Augmentation for labels and identities: crop, flip, colors, policies, erasing.

    Args:
        crop: Type of the crop: `resized` a random part of random shape (Szegedy et al., 2015); `pad` the whole image
            moved by up to `padding`, for small square images such as CIFAR's; `none` the whole image.
        area: Smallest and largest fraction of the area that a `resized` crop keeps.
        aspect_ratio: Smallest and largest width / height of a `resized` crop.
        padding: Largest shift of a `pad` crop as a fraction of the sides (CIFAR's 4 of 32 is 0.125).
        horizontal_flip: Probability of a horizontal flip.
        brightness: Factor from 1 - b to 1 + b.
        contrast: Factor from 1 - c to 1 + c, about middle gray (128).
        saturation: Factor from 1 - s to 1 + s.
        hue: Largest turn of the hue, as a fraction of the circle (at most 0.5).
        policy: Operations of albumentations: `randaugment`, `trivialaugment`, `autoaugment`, or `none`.
        num_ops: Number of operations per sample of `randaugment`.
        magnitude: Strength of the operations of `randaugment`, 0 to 30.
        erasing: Probability of a rectangle of noise (Zhong et al., 2017), 2 % to 33 % of the area.
        cutout: Side of a gray square as a fraction of the shorter side (DeVries and Taylor, 2017); 0 turns it off.
        draft: Decode JPEG files at a reduced scale where that still exceeds the input.

    Example:
        >>> augment = ClassificationAugment(crop="pad", policy="trivialaugment", cutout=0.25)
        >>> sample = augment(sample, np.random.default_rng(0))
    """

    def __init__(
        self,
        *,
        crop: Crop = "resized",
        area: tuple[float, float] = (0.08, 1.0),
        aspect_ratio: tuple[float, float] = (0.75, 4 / 3),
        padding: float = 0.125,
        horizontal_flip: float = 0.5,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        policy: Policy = "none",
        num_ops: int = 2,
        magnitude: int = 9,
        erasing: float = 0.0,
        cutout: float = 0.0,
        draft: bool = True,
    ) -> None:
        for name, choice, allowed in (("crop", crop, get_args(Crop)), ("policy", policy, get_args(Policy))):
            if choice not in allowed:
                raise UsageError(
                    f"augment.{name} {choice!r}: allowed are {', '.join(allowed)}{suggest(choice, allowed)}"
                )
        check(0, 1, horizontal_flip=horizontal_flip, erasing=erasing)
        check(0, 30, magnitude=magnitude)
        cropped, padded = RandomResizedCrop(area, aspect_ratio), RandomCrop(padding)
        parts: list[SampleAugment] = [RandomHorizontalFlip(horizontal_flip)]
        if crop != "none":
            parts.append(cropped if crop == "resized" else padded)
        if policy == "randaugment":
            parts.append(RandAugment(num_ops, magnitude))
        elif policy != "none":
            parts.append(TrivialAugmentWide() if policy == "trivialaugment" else AutoAugment())
        parts += [ColorJitter(brightness, contrast, saturation, hue), RandomErasing(erasing), CutOut(cutout)]
        super().__init__(parts, draft=draft)


class DenseAugment(Compose):
    """Augmentation for label maps, depth and flow: scale, crop, rotate, flip and color.

    What lies outside the image is ignored in label maps and not measured in depth.

    Args:
        scale: Smallest and largest zoom; at 2 half of each side is seen, below 1 there is a border around the image.
        crop_size: Height and width in file pixels that is seen at zoom 1; the whole image by default.
        aspect_ratio: Smallest and largest factor on width / height.
        horizontal_flip: Probability of a horizontal flip.
        rotate: Largest turn to each side in degrees.
        brightness: Factor from 1 - b to 1 + b.
        contrast: Factor from 1 - c to 1 + c, about middle gray (128).
        saturation: Factor from 1 - s to 1 + s.
        hue: Largest turn of the hue, as a fraction of the circle (at most 0.5).
        draft: Decode JPEG files at a reduced scale where that still exceeds the input.

    Example:
        >>> augment = DenseAugment(scale=(0.75, 2.0), horizontal_flip=0.5, brightness=0.3)
        >>> sample = augment(sample, np.random.default_rng(0))
    """

    def __init__(
        self,
        *,
        scale: tuple[float, float] = (0.5, 2.0),
        crop_size: tuple[int, int] | None = None,
        aspect_ratio: tuple[float, float] = (1.0, 1.0),
        horizontal_flip: float = 0.5,
        rotate: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        draft: bool = True,
    ) -> None:
        check(0, 1, horizontal_flip=horizontal_flip)
        super().__init__(
            [
                ColorJitter(brightness, contrast, saturation, hue),
                ScaleJitter(scale, aspect_ratio, crop_size=crop_size),
                RandomAffine(rotate=rotate),
                RandomHorizontalFlip(horizontal_flip),
            ],
            draft=draft,
        )


class ObjectAugment(Compose):
    """Augmentation for boxes, masks and whatever else belongs to objects.

    A part of the image, or more than the image, is cut at random and becomes the input. An object of which too little
    is left loses its row in every key. `copy_paste`, `mosaic` and `mixup` take other images of the data in, in this
    order; `data.close_mosaic` trains the last epochs without them.

    Args:
        scale: Smallest and largest zoom: 1 is the whole image, 2 shows its half, 0.5 gives it a border of fill.
        crop_size: Height and width in file pixels of the part at zoom 1, in place of the image's own: for images of
            many sizes that are shown in their own pixels (`input.resize_mode native`), or that exceed the input.
        aspect_ratio: Smallest and largest factor on width / height of the part.
        translate: How far beyond its border a part may reach, as a fraction of its sides.
        rotate: Largest turn to each side in degrees; boxes become those that enclose the turned ones.
        horizontal_flip: Probability of a horizontal flip.
        quarter_turns: Turn by quarters, each of the four ways equally often, for images without an up: microscopes,
            aerial photos.
        min_visibility: Smallest fraction of its box that an object keeps to be a target.
        brightness: Factor from 1 - b to 1 + b.
        contrast: Factor from 1 - c to 1 + c, about middle gray (128).
        saturation: Factor from 1 - s to 1 + s.
        hue: Largest turn of the hue, as a fraction of the circle (at most 0.5).
        mosaic: Probability that the image becomes one of four around a point, see `Mosaic`.
        mixup: Probability that another image is laid over it, see `MixUp`.
        copy_paste: Probability that objects of another image are pasted by their masks, see `CopyPaste`.
        draft: Decode JPEG files at a reduced scale where that still exceeds the input.

    Example:
        >>> augment = ObjectAugment(scale=(0.8, 1.6), horizontal_flip=0.5)
        >>> sample = augment(sample, np.random.default_rng(0))
    """

    def __init__(
        self,
        *,
        scale: tuple[float, float] = (0.8, 1.6),
        crop_size: tuple[int, int] | None = None,
        aspect_ratio: tuple[float, float] = (1 / 1.15, 1.15),
        translate: float = 0.0,
        rotate: float = 0.0,
        horizontal_flip: float = 0.5,
        quarter_turns: bool = False,
        min_visibility: float = 0.3,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        mosaic: float = 0.0,
        mixup: float = 0.0,
        copy_paste: float = 0.0,
        draft: bool = True,
    ) -> None:
        check(0, 1, horizontal_flip=horizontal_flip, mosaic=mosaic, mixup=mixup, copy_paste=copy_paste)
        super().__init__(
            [
                *([CopyPaste(copy_paste, min_visibility=min_visibility)] if copy_paste else []),
                *([Mosaic(mosaic, min_visibility=min_visibility)] if mosaic else []),
                *([MixUp(mixup)] if mixup else []),
                RandomHorizontalFlip(horizontal_flip),
                *([RandomQuarterTurn()] if quarter_turns else []),
                ScaleJitter(scale, aspect_ratio, translate, crop_size, min_visibility),
                *([RandomAffine(rotate=rotate), SanitizeBoundingBoxes(min_visibility)] if rotate else []),
                ColorJitter(brightness, contrast, saturation, hue),
            ],
            draft=draft,
        )


class PoseAugment(Compose):
    """Augmentation of people, a crop each or whole images: half a body, zoom, move, turn, flip, color, erasing.

    When the image is flipped, left and right keypoints exchange their names, as the skeleton's flip pairs state.

    Args:
        scale: Smallest and largest zoom of the region.
        rotate: Largest turn to each side in degrees.
        rotate_p: Probability of a turn.
        translate: Largest move of the region, as a fraction of its sides.
        horizontal_flip: Probability of a horizontal flip.
        half_body: Probability of a crop about the upper or the lower half of the labeled keypoints, where enough are.
        half_body_keypoints: Number of labeled keypoints from which a half can be taken.
        brightness: Factor from 1 - b to 1 + b.
        contrast: Factor from 1 - c to 1 + c, about middle gray (128).
        saturation: Factor from 1 - s to 1 + s.
        hue: Largest turn of the hue, as a fraction of the circle (at most 0.5).
        erasing: Probability of a rectangle of noise, so that keypoints are trained on their neighbors.

    Example:
        >>> augment = PoseAugment(rotate=45).with_skeleton(Skeleton.of("coco17"))
        >>> sample = augment(sample, np.random.default_rng(0))
    """

    def __init__(
        self,
        *,
        scale: tuple[float, float] = (0.8, 1.33),
        rotate: float = 30.0,
        rotate_p: float = 0.6,
        translate: float = 0.05,
        horizontal_flip: float = 0.5,
        half_body: float = 0.0,
        half_body_keypoints: int = 8,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        erasing: float = 0.0,
    ) -> None:
        check(0, 1, horizontal_flip=horizontal_flip, half_body=half_body, erasing=erasing)
        super().__init__(
            [
                RandomHalfBody(half_body, half_body_keypoints),
                RandomAffine(scale, translate=translate, rotate=rotate, rotate_p=rotate_p),
                RandomHorizontalFlip(horizontal_flip),
                ColorJitter(brightness, contrast, saturation, hue),
                RandomErasing(erasing, area=(0.02, 0.15), aspect_ratio=(0.5, 2.0)),
            ],
            draft=False,
        )


class FaceAugment(Compose):
    """Augmentation of aligned faces: the small mistakes of an alignment, light from the side, and occlusion.

    Args:
        scale: Smallest and largest zoom; below 1 the border is filled.
        aspect_ratio: Smallest and largest factor on width / height.
        translate: Largest move as a fraction of the sides.
        rotate: Largest turn to each side in degrees.
        horizontal_flip: Probability of a horizontal flip.
        brightness: Factor from 1 - b to 1 + b.
        contrast: Factor from 1 - c to 1 + c, about middle gray (128).
        saturation: Factor from 1 - s to 1 + s.
        hue: Largest turn of the hue, as a fraction of the circle (at most 0.5).
        light: Largest strength of light from one side; at 1 the far side is black.
        erasing: Probability of a rectangle of noise, 2 % to 20 % of the area.
        cutout: Side of a gray square as a fraction of the shorter side; 0 turns it off.

    Example:
        >>> sample = FaceAugment(rotate=10.0)(sample, np.random.default_rng(0))
    """

    def __init__(
        self,
        *,
        scale: tuple[float, float] = (0.94, 1.14),
        aspect_ratio: tuple[float, float] = (1 / 1.06, 1.06),
        translate: float = 0.05,
        rotate: float = 8.0,
        horizontal_flip: float = 0.5,
        brightness: float = 0.25,
        contrast: float = 0.25,
        saturation: float = 0.0,
        hue: float = 0.0,
        light: float = 0.3,
        erasing: float = 0.2,
        cutout: float = 0.0,
    ) -> None:
        check(0, 1, horizontal_flip=horizontal_flip, erasing=erasing)
        super().__init__(
            [
                RandomAffine(scale, aspect_ratio, translate, rotate),
                RandomHorizontalFlip(horizontal_flip),
                RandomLight(light),
                ColorJitter(brightness, contrast, saturation, hue),
                RandomErasing(erasing, area=(0.02, 0.2), aspect_ratio=(0.4, 2.5)),
                CutOut(cutout),
            ],
            draft=False,
        )
