"""From a sample to network input: the one path that training, evaluation and serving share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from visionkit.errors import DataError, UsageError
from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageLike, ImageSource
from visionkit.inputs import Clip
from visionkit.targets import apply_target
from visionkit.types import Example, Photometric, Sample


class Preprocessor:
    """Brings images, and their targets, to the input that a task declares.

    Args:
        spec: The task's input.

    Example:
        >>> preprocessor = Preprocessor(InputSpec(size=(224, 224)))
        >>> tensor, geometry = preprocessor.prepare("photo.jpg")    # (3, 224, 224) uint8
        >>> geometry.invert_points([[112.0, 112.0]])                # the same place in the photo
    """

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec

    def source(self, image: ImageLike) -> ImageSource:
        """The image, read with the white that the task was trained with, unless it states its own."""
        own = image.white if isinstance(image, ImageSource) else None
        return ImageSource(image, white=own or self.spec.white)

    def decoded(self, image: ImageLike) -> ImageSource:
        """The image with its pixels in memory, as the network's input is made of them."""
        source = self.source(image)
        if self.spec.bits == 32 and (floats := source.read_floats()) is not None:
            return ImageSource(floats, source.name, white=255.0)
        if self.spec.bits > 8:  # depth and transparency are kept for a task that returns images
            pixels = source.read_as_is()
            return ImageSource(pixels, source.name, white=65535.0 if pixels.dtype == np.uint16 else None)
        return ImageSource(source.read(self.spec.channels), source.name)

    def prepare(self, image: ImageLike) -> tuple[Tensor, Geometry]:
        """One image to its input tensor (C, H, W) uint8 and the way back."""
        return self._image(self.source(image), Sample({}), None)

    def __call__(self, sample: Sample) -> Example:
        """One sample with its target, both in input pixels.

        Raises:
            DataError: An image cannot be read, or inputs that are tied have different sizes.
            UsageError: A clip has another number of frames than the spec.
        """
        inputs: dict[str, Tensor] = {}
        reference: Geometry | None = None
        for name, given in sample.inputs.items():
            frames = given.frames if isinstance(given, Clip) else (given,)
            with_references = isinstance(given, Clip) and any(map(self.spec.reference_count, (True, False)))
            if (
                len(frames) != self.spec.frames
                and not with_references
                and (self.spec.frames > 1 or isinstance(given, Clip))
            ):
                raise UsageError(f"{name}: {len(frames)} frames; the network takes {self.spec.frames}")
            # Without a tie, the view belongs to the reference alone.
            how = sample if reference is None or self.spec.tied else replace(sample, view=None)
            geometry = reference if self.spec.tied else None
            shown = []
            for frame in frames:
                image, geometry = self._image(frame, how, geometry)
                if name in sample.own_photometric:
                    image = _changed(image, sample.own_photometric[name])
                shown.append(image)
            inputs[name] = torch.stack(shown) if isinstance(given, Clip) else shown[0]
            reference = reference or geometry
        assert reference is not None
        target = apply_target(reference, sample.target, drop=sample.view is not None)
        return {
            "inputs": inputs,
            "target": target,
            "geometry": reference,
            "id": sample.id or sample.image.name,
            "sequence": sample.sequence,
            "frame": sample.frame,
        }

    def _image(self, source: ImageSource, sample: Sample, geometry: Geometry | None) -> tuple[Tensor, Geometry]:
        """One image of a sample; with a geometry it is brought to the input as the image before it."""
        if sample.draft and not source.is_decoded:
            size = source.size
            geometry = geometry or Geometry.plan(self.spec, size, sample.view)
            pixels = source.read(self.spec.channels, min_scale=min(1.0, max(geometry.scale)))
        else:
            pixels = source.read(self.spec.channels, bits=self.spec.bits)
            size = (pixels.shape[0], pixels.shape[1])
            geometry = geometry or Geometry.plan(self.spec, size, sample.view)
        require_one_size(source.name, size, geometry.source)
        image = geometry.apply_image(to_scale(pixels) if pixels.dtype == np.uint16 else pixels)
        if sample.photometric is not None:
            image = _changed(image, sample.photometric)
        return image, geometry


def _changed(image: Tensor, photometric: Photometric) -> Tensor:
    changed = photometric(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    return torch.from_numpy(np.ascontiguousarray(changed)).permute(2, 0, 1)


def require_one_size(name: str, size: tuple[int, ...], other: tuple[int, ...]) -> None:
    """Refuses an image of another size than the one that it belongs to.

    Args:
        name: Name of the image.
        size: Its height and width in file pixels.
        other: Those of the other image.

    Raises:
        DataError: With both sizes.
    """
    if size != other:
        (height, width), (first, second) = size, other
        raise DataError(
            f"{name}: {width}x{height} pixels, and the other images of the same sample have {second}x{first}; they "
            "need one size"
        )


def to_scale(pixels: np.ndarray) -> np.ndarray:
    """16-bit pixels as float32 on the scale of 8 bit: 65535 becomes 255."""
    scaled: np.ndarray = pixels.astype(np.float32) / np.float32(257)
    return scaled
