"""What a network takes: size, resize mode, channels, brightness. Part of every checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from visionkit.errors import UsageError, suggest

ResizeMode = Literal["crop", "letterbox", "stretch", "pad", "native"]
Choice = Literal["before", "sequence"]
Interpolation = Literal["bilinear", "bicubic", "pillow_bilinear", "pillow_bicubic"]


MAX_INPUT_PIXELS = 2**21
"""Largest input of a fixed size, such as Cityscapes' 1024 x 2048: beyond it the activations take many gigabytes."""


@dataclass(frozen=True)
class InputSpec:
    """What a network takes. Part of the task, hence of every checkpoint.

    Attributes:
        size: Height and width of the input in pixels.
        resize_mode: `crop` short side to size / crop_fraction, then the center (the ImageNet protocol); `letterbox`
            whole image, ratio kept, borders filled; `stretch` both sides to size; `pad` as letterbox but never
            enlarged; `native` file size, padded to a multiple of `divisor` (`size` is then only the size of an example
            input).
        crop_fraction: For `crop`, the part of the short side that is kept, in (0, 1].
        interpolation: `bilinear` or `bicubic`, both antialiased; `pillow_bilinear` and `pillow_bicubic` are Pillow's to
            the last bit, with which timm's numbers were measured, at several times the cost.
        channels: 1 gray, 3 RGB, 4 RGBA.
        divisor: For `native`, both sides are padded to a multiple of it.
        fill: Value of border pixels, 0 to 255; None repeats the pixel at the edge.
        bits: 8, or 16 where images of more than 8 bit keep it: they come as float32 on the same scale of 0 to 255; with
            32 floats keep what lies below black and above white too, such as noise that nobody clipped.
        white: The value that is white in images of other than 8 bits; None: see `visionkit.images.ImageSource`.
        frames: Frames of a clip, which are prepared alike; 1 is a single image.
        frame_stride: Frames of the video from one frame of a clip to the next.
        reference_frames: Other frames of its video that a sample of training and evaluation brings before its own, for
            a network that aggregates them. Training draws them from all of the video at random.
        eval_reference_frames: Their number in evaluation and in use, where it is not the same.
        references: Which frames they are in evaluation: those `before` it, `frame_stride` apart, as in use, or evenly
            spread over the whole `sequence`.
        tied: Several inputs have one size, one view and one geometry, as the two images of stereo and optical flow;
            otherwise only the reference is cut by a view, and each is brought to the input size by itself.
    """

    size: tuple[int, int] = (224, 224)
    resize_mode: ResizeMode = "crop"
    crop_fraction: float = 0.875
    interpolation: Interpolation = "bilinear"
    channels: int = 3
    divisor: int = 32
    fill: int | None = 114
    bits: int = 8
    white: float | None = None
    frames: int = 1
    frame_stride: int = 1
    reference_frames: int = 0
    eval_reference_frames: int | None = None
    references: Choice = "before"
    tied: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(int(side) for side in self.size))
        if len(self.size) != 2 or min(self.size) < 1:
            raise UsageError(f"input.size {self.size}: give height and width, both at least 1")
        if math.prod(self.size) > MAX_INPUT_PIXELS:
            raise UsageError(
                f"input.size {self.size}: {math.prod(self.size):,} pixels; a network takes at most "
                f"{MAX_INPUT_PIXELS:,} at a time. For larger images take resize_mode native, or tiles"
            )
        if self.resize_mode not in get_args(ResizeMode):
            allowed = get_args(ResizeMode)
            raise UsageError(
                f"input.resize_mode {self.resize_mode!r}: allowed are "
                f"{', '.join(allowed)}{suggest(self.resize_mode, allowed)}"
            )
        if self.interpolation not in get_args(Interpolation):
            raise UsageError(
                f"input.interpolation {self.interpolation!r}: allowed are {', '.join(get_args(Interpolation))}"
            )
        if not 0 < self.crop_fraction <= 1:
            raise UsageError(f"input.crop_fraction {self.crop_fraction}: allowed is above 0 and at most 1")
        if self.channels not in (1, 3, 4):
            raise UsageError(f"input.channels {self.channels}: allowed are 1 (gray), 3 (RGB), 4 (RGBA)")
        if not 1 <= self.divisor <= 1024 or not 0 <= (self.fill or 0) <= 255:
            raise UsageError("input.divisor must be from 1 to 1024 and input.fill between 0 and 255")
        if self.bits not in (8, 16, 32):
            raise UsageError(f"input.bits {self.bits}: allowed are 8, 16 and 32")
        if not 1 <= self.frames <= 1024 or self.frame_stride < 1:
            raise UsageError(
                f"input.frames {self.frames}: allowed are 1 to 1024; input.frame_stride {self.frame_stride}: at least 1"
            )
        if not 0 <= self.reference_frames <= 1024 or not 0 <= (self.eval_reference_frames or 0) <= 1024:
            raise UsageError(
                f"input.reference_frames {self.reference_frames}, eval_reference_frames {self.eval_reference_frames}: "
                "allowed are 0 to 1024"
            )
        if (self.reference_frames or self.references_in_use) and self.frames > 1:
            raise UsageError(
                f"input.reference_frames {self.reference_frames}: is not for clips of {self.frames} frames"
            )
        if self.references not in get_args(Choice):
            allowed = get_args(Choice)
            raise UsageError(
                f"input.references {self.references!r}: allowed are {', '.join(allowed)}"
                f"{suggest(self.references, allowed)}"
            )
        if self.white is not None and not 0 < self.white < math.inf:
            raise UsageError(f"input.white {self.white}: allowed is a number above 0, such as 4095 for 12 bits")

    @property
    def references_in_use(self) -> int:
        """Reference frames in evaluation and in use."""
        return self.reference_frames if self.eval_reference_frames is None else self.eval_reference_frames

    def reference_count(self, training: bool) -> int:
        """Reference frames of a sample.

        Args:
            training: It is trained on.
        """
        return self.reference_frames if training else self.references_in_use

    def scaled(self, scale: float) -> InputSpec:
        """The same at another size, whose sides are multiples of `divisor`.

        Args:
            scale: Factor on both sides.
        """
        height, width = (max(1, round(side * scale / self.divisor)) * self.divisor for side in self.size)
        return replace(self, size=(height, width))

    @classmethod
    def of(cls, value: InputSpec | Mapping[str, Any] | None, usual: InputSpec | None = None) -> InputSpec:
        """Builds the spec from a mapping of its fields, as checkpoints and bundles hold it.

        Args:
            value: The spec, or some of its fields; with a `resize_mode` among them they are a spec of their own.
            usual: What a task takes; fields without a `resize_mode` change that: a size alone changes the size alone.
        """
        if isinstance(value, InputSpec):
            return value
        value, known = value or {}, [field.name for field in fields(cls)]
        for key in value:
            if key not in known:
                raise UsageError(f"input.{key}: unknown; allowed are {', '.join(known)}{suggest(key, known)}")
        return replace(usual, **value) if usual is not None and "resize_mode" not in value else cls(**value)
