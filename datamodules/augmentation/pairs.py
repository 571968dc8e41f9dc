"""Parts for samples of two images: what happens to one of them alone, and exchanging the views of a stereo pair.

Geometric parts move both images and their flow or disparity alike, for a sample has one view. Photometric parts change
both alike too, unless `OnInput` or `PairAugment` has them drawn for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from datamodules.augmentation.checks import check, check_p
from datamodules.augmentation.geometric import RandomHorizontalFlip, ScaleJitter
from datamodules.augmentation.photometric import ColorJitter, RandomErasing, Steps
from visionkit.augmentation import Compose, SampleAugment
from visionkit.errors import UsageError, suggest
from visionkit.images import ImageSource
from visionkit.inputs import last_frame
from visionkit.types import Photometric, Sample


class OnInput(SampleAugment):
    """Has photometric parts change one input alone.

    Args:
        input: Name of the input, such as `right` or `second`.
        parts: Photometric parts, such as `ColorJitter` and `RandomErasing`.

    Example:
        >>> augment = [OnInput("left", [ColorJitter(brightness=0.2)]), OnInput("right", [ColorJitter(brightness=0.2)])]
    """

    def __init__(self, input: str, parts: list[SampleAugment]) -> None:
        self.input, self.parts = input, Compose(list(parts), draft=False)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if self.input not in sample.inputs:
            raise UsageError(
                f"augment.input {self.input!r}: the samples have {', '.join(sample.inputs)}"
                f"{suggest(self.input, sample.inputs)}"
            )
        changed = self.parts(sample.changed(photometric=None), rng)
        if (changed.view, changed.target) != (sample.view, sample.target):
            raise UsageError("augment: OnInput takes photometric parts; whatever moves an image has to move both")
        return sample if changed.photometric is None else then_alone(sample, self.input, changed.photometric)


def then_alone(sample: Sample, name: str, step: Photometric) -> Sample:
    """The sample with one more step at the end of what is done to one of its inputs alone."""
    before = sample.own_photometric.get(name)
    after = step if before is None else Steps((before, step))
    return sample.changed(own_photometric={**sample.own_photometric, name: after})


@dataclass(frozen=True)
class ShiftStep:
    """Moves and turns an image a little; its edges are repeated.

    Attributes:
        down: Pixels that it moves down.
        angle: Degrees that it turns about its center.
    """

    down: float
    angle: float

    def __call__(self, image: np.ndarray) -> np.ndarray:
        import cv2

        height, width = image.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), self.angle, 1.0)
        matrix[1, 2] += self.down
        moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(moved).reshape(image.shape)


@dataclass(frozen=True)
class VerticalJitter(SampleAugment):
    """Moves the second image up or down and turns it a little, as cameras that are not quite rectified do.

    The disparity stays as it is, which makes it a part for stereo: flow would change.

    Args:
        pixels: Largest shift, in pixels of the network's input.
        degrees: Largest turn.
        p: Probability of the change.
    """

    pixels: float = 1.5
    degrees: float = 0.1
    p: float = 0.5

    def __post_init__(self) -> None:
        check_p(self)
        check(0, 20, pixels=self.pixels)
        check(0, 5, degrees=self.degrees)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if "flow" in sample.target:
            raise UsageError("augment: VerticalJitter is for stereo; it would change the flow. Leave it out")
        if not (self.p and rng.random() < self.p):
            return sample
        down, angle = self.pixels * rng.uniform(-1, 1), self.degrees * rng.uniform(-1, 1)
        return then_alone(sample, _second(sample), ShiftStep(float(down), float(angle)))


@dataclass(frozen=True)
class SwapViews(SampleAugment):
    """Flips a stereo pair: the flipped right image becomes the left one, and the other way round.

    It needs the disparity of the right image as well, the target `right_disparity`; a sample without it stays as it is.
    `occluded`, which is known of the left image alone, is left out of exchanged samples and of the others beside them.

    Args:
        p: Probability of the exchange.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        check_p(self)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        known: Any = sample.target
        if not self.p or "right_disparity" not in known:
            return sample
        if not rng.random() < self.p:
            return sample.changed(target={key: each for key, each in known.items() if key != "occluded"})
        if sample.view is not None:
            raise UsageError("augment: SwapViews exchanges whole images; put it before the parts that cut")
        (left, one), (right, other) = ((name, last_frame(each)) for name, each in sample.inputs.items())
        target = {
            "disparity": _turned(known["right_disparity"]),
            "right_disparity": _turned(known["disparity"]),
        }
        target["valid"] = target["disparity"] > 0
        return sample.changed(inputs={left: _flipped(other), right: _flipped(one)}, target=target)


def _second(sample: Sample) -> str:
    return list(sample.inputs)[1]


def _turned(values: Any) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(values)[:, ::-1])


def _flipped(image: ImageSource) -> ImageSource:
    return ImageSource(np.ascontiguousarray(image.read_as_is()[:, ::-1]), image.name, image.white)


class PairAugment(SampleAugment):
    """Augmentation for stereo pairs and pairs of frames: scale, crop, flip, and colors together or apart.

    Args:
        scale: Smallest and largest zoom; at 2 half of each side is seen. Disparity and flow grow with it.
        crop_size: Height and width in file pixels that is seen at zoom 1; the whole image by default.
        aspect_ratio: Smallest and largest factor on width / height.
        horizontal_flip: Probability of a horizontal flip; that of a stereo pair exchanges left and right, and needs the
            disparity of both images.
        brightness: Factor from 1 - b to 1 + b.
        contrast: Factor from 1 - c to 1 + c, about middle gray (128).
        saturation: Factor from 1 - s to 1 + s.
        hue: Largest turn of the hue, as a fraction of the circle (at most 0.5).
        apart: Probability that the colors of the two images are drawn apart.
        occlusion: Probability of a rectangle of noise in the second image, where nothing can be matched.
        vertical_jitter: For stereo, how many input pixels the right image moves up or down at most; 0 turns it off.

    Example:
        >>> augment = PairAugment(scale=(1.0, 1.6), brightness=0.3, occlusion=0.5)
        >>> sample = augment(sample, np.random.default_rng(0))
    """

    def __init__(
        self,
        *,
        scale: tuple[float, float] = (1.0, 1.5),
        crop_size: tuple[int, int] | None = None,
        aspect_ratio: tuple[float, float] = (1.0, 1.0),
        horizontal_flip: float = 0.5,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        apart: float = 0.2,
        occlusion: float = 0.0,
        vertical_jitter: float = 0.0,
    ) -> None:
        check(0, 1, horizontal_flip=horizontal_flip, apart=apart)
        self.colors, self.apart = ColorJitter(brightness, contrast, saturation, hue), apart
        self.erasing = RandomErasing(occlusion, area=(0.02, 0.1))
        self.jitter = VerticalJitter(vertical_jitter, vertical_jitter / 15, p=0.5 if vertical_jitter else 0.0)
        self.geometry = ScaleJitter(scale, aspect_ratio, crop_size=crop_size)
        self.flip, self.swap = RandomHorizontalFlip(horizontal_flip), SwapViews(horizontal_flip)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        is_stereo = "disparity" in sample.target
        sample = self.geometry(self.swap(sample, rng) if is_stereo else sample, rng)
        if not is_stereo:
            sample = self.flip(sample, rng)
        if rng.random() < self.apart:
            for name in sample.inputs:
                sample = OnInput(name, [self.colors])(sample, rng)
        else:
            sample = self.colors(sample, rng)
        sample = OnInput(_second(sample), [self.erasing])(sample, rng)
        return self.jitter(sample, rng) if is_stereo else sample
