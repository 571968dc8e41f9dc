"""The vocabulary that data, tasks and metrics share during training.

During training everything is a plain dict of tensors, typed here: Lightning moves and pins dicts, and leaves unknown
classes behind. `Geometry` is a NamedTuple, which travels. What reaches people is in `visionkit.predictions`.

Coordinates are continuous: x runs from 0 at the left border of the image to its width at the right border, so the
center of the first pixel is at 0.5 and a resize by a factor s maps x to s * x exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, Self, TypedDict

import numpy as np

from visionkit.inputs import Clip, last_frame

if TYPE_CHECKING:
    from torch import Tensor

    from visionkit.geometry import Geometry
    from visionkit.images import ImageSource

IGNORE = 255
"""The value of `label_map` that neither loss nor metric processes."""


class Target(TypedDict, total=False):
    """What is known of one image; every key is optional, a task names those that it needs.

    Attributes:
        labels: () or (N,) int64, 0-based, no background class; multi-label (K,) float32 of 0 and 1.
        boxes: (N, 4) float32, x1, y1, x2, y2 in pixels, x2 and y2 exclusive. No object: (0, 4).
        masks: (N, h, w) bool, one per instance; in file pixels a `visionkit.masks.MaskSet` serves as well.
        label_map: (h, w) int64, semantic class; 255 is ignored.
        keypoints: (N, K, 3) float32, x, y in pixels and visibility 0 (absent), 1 (hidden), 2 (visible).
        area: (N,) float64, COCO's own area in file pixels, which decides the small/medium/large buckets.
        iscrowd: (N,) int64, 1 for a crowd region.
        pixel_weight: (h, w) float32, how much each pixel of `label_map` counts in the loss.
        depth: (h, w) float32 meters; 0 is not measured.
        flow: (2, h, w) float32, motion in pixels to the right and downwards, from the reference to the other image.
        disparity: (h, w) float32 pixels; the other view shows the point at x - disparity. 0 is not measured.
        right_disparity: (h, w) float32 pixels, that of the right image, which the left one shows at x + disparity; for
            augmentation alone, see `SwapViews`.
        valid: (h, w) bool, where `flow` or `disparity` is known.
        occluded: (h, w) bool, where the other image does not show the point.
        intrinsics: (4,) float32 fx, fy, cx, cy in pixels, of the camera that took the image.
        pose: (4, 4) float64, camera to world, meters; where a camera was at a frame of a video.
        track_ids: (N,) int64, which object of the sequence each one is.
        file_boxes: (N, 4) float64, the boxes as they were before any transform, in file pixels, for the metric;
            evaluation examples have them, training on a view does not.
        file_xywh: (N, 4) float64, x, y, width and height as a COCO file has them, not clipped: x + w - x loses a
            bit. Evaluation examples of COCO data have them.
        file_masks: (B,) uint8, the masks in the same sense, packed by `visionkit.masks.MaskSet.pack`.
        file_motion: (N,) float64, mean IoU of an object of a video with itself in the frames around it, NaN where it
            is in none; evaluation examples have it, see `visionkit.families.detection.motion_speed`.
        high_res: (3, s*h, s*w) uint8, target of super-resolution.
        clean: (C, h, w) uint8 or float32 on a scale of 255, target of restoration, as large as the image.
        gray: () bool, the file of `high_res` or `clean` has one channel, which is Y as it is.
        identity: () int64, index of the person; people of validation and test count on where those of training end.
        match: () int64, 1 where two patches show the same point and 0 otherwise.
        pair: () int64, verification by a list of pairs: the number of the pair that the image is one half of.
        gallery: () int64, identification: 1 for what is known, 0 for what is asked.
        camera: () int64, re-identification: images of one person by one camera are not compared.
        heads: For a network with several heads, in place of all others: a target for each head by its name. A head that
            is not among them has no label on this image. In a batch see `HeadTarget`.
    """

    labels: Any
    boxes: Any
    masks: Any
    label_map: Any
    pixel_weight: Any
    keypoints: Any
    area: Any
    iscrowd: Any
    file_boxes: Any
    file_xywh: Any
    file_masks: Any
    file_motion: Any
    depth: Any
    flow: Any
    disparity: Any
    right_disparity: Any
    valid: Any
    occluded: Any
    intrinsics: Any
    pose: Any
    track_ids: Any
    high_res: Any
    clean: Any
    gray: Any
    identity: Any
    match: Any
    pair: Any
    gallery: Any
    camera: Any
    heads: Any


class HeadTarget(TypedDict):
    """What a batch knows for one head.

    Attributes:
        rows: (n,) int64, ascending: the images of the batch that have a label for it.
        target: The targets of those images, as in a batch of their own.
    """

    rows: Tensor
    target: Any


class View(NamedTuple):
    """The part of a file that becomes the image, chosen before decoding and applied inside the one resample.

    Attributes:
        box: x1, y1, x2, y2 in file pixels; may reach outside the file, where the fill value is taken.
        flip: Flip left and right after the cut.
        rotation: Degrees, counter-clockwise as seen, about the center of the box.
        input_scale: Factor by which the input that it becomes is larger than the network's own (test-time
            augmentation).
    """

    box: tuple[float, float, float, float]
    flip: bool = False
    rotation: float = 0.0
    input_scale: float = 1.0


Photometric = Callable[[np.ndarray], np.ndarray]
"""Changes pixel values, not positions: (h, w, C) uint8 to the same shape and type."""


@dataclass(frozen=True)
class Sample:
    """The inputs of one prediction and what is known of them, in file pixels.

    `view` and `photometric` are deferred: the preprocessor applies the view inside its one resample and the photometric
    change after it, where the image is smallest. So augmentation costs no second resampling.

    Attributes:
        inputs: Images and clips by name, in the order of the task's `inputs`; decoded when they are needed. The first
            is the reference: target, view and geometry are those of its pixels. See `Sample.of` for a single image.
        target: See `Target`; numpy arrays or tensors in file pixels.
        id: Names the sample in messages, predictions and tables, mostly the path of its reference image.
        sequence: The video or scene that it belongs to; empty where it is independent of others.
        frame: Its position in the sequence, from 0.
        view: The region to cut, or None for the whole file.
        photometric: Applied to every image at network size, or None.
        own_photometric: Applied after it to one input alone, by the input's name.
        draft: JPEG files may be decoded at a reduced scale that still exceeds the output (training only).
    """

    inputs: Mapping[str, ImageSource | Clip]
    target: Target = field(default_factory=Target)
    id: str = ""
    sequence: str = ""
    frame: int = 0
    view: View | None = None
    photometric: Photometric | None = None
    draft: bool = False
    own_photometric: Mapping[str, Photometric] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        image: ImageSource,
        target: Target | None = None,
        id: str = "",
        view: View | None = None,
        photometric: Photometric | None = None,
        **more: Any,
    ) -> Self:
        """A sample of one image, under the name `image`.

        Args:
            image: Where the pixels come from.
            target: See the class.
            id: See the class.
            view: See the class.
            photometric: See the class.
            **more: Further attributes of the class.
        """
        known = Target() if target is None else target
        return cls({"image": image}, known, id, view=view, photometric=photometric, **more)

    @property
    def image(self) -> ImageSource:
        """The reference input; of a clip its last frame."""
        return last_frame(next(iter(self.inputs.values())))

    def changed(self, **changes: Any) -> Self:
        """The same sample with other attributes; quicker than `dataclasses.replace`, for parts of an augmentation.

        Args:
            **changes: Attributes by name.
        """
        out = object.__new__(type(self))
        out.__dict__.update(self.__dict__, **changes)
        return out

    def with_image(self, image: ImageSource, **changes: Any) -> Sample:
        """The same sample with another reference image.

        Args:
            image: Image that replaces the first input.
            **changes: Further attributes to replace.
        """
        name = next(iter(self.inputs))
        return replace(self, inputs={**self.inputs, name: image}, **changes)

    def map_images(self, change: Callable[[ImageSource], ImageSource]) -> Sample:
        """The same sample with every image of every input changed.

        Args:
            change: Takes and returns an image that is not decoded yet.
        """
        changed = {
            name: replace(each, frames=[change(frame) for frame in each.frames])
            if isinstance(each, Clip)
            else change(each)
            for name, each in self.inputs.items()
        }
        return replace(self, inputs=changed)


class Example(TypedDict):
    """One sample in input pixels, as `collate` takes it."""

    inputs: dict[str, Tensor]  # (C, h, w) uint8 each; a clip (T, C, h, w)
    target: dict[str, Any]
    geometry: Geometry  # of the reference, which is the first input
    id: str
    sequence: NotRequired[str]  # as in the sample: a task with state begins again where `frame` is 0
    frame: NotRequired[int]
    views: NotRequired[list[Example]]  # in evaluation: further views of the image, whose predictions the task merges


class Batch(TypedDict):
    """What a step receives. `target` is a dict of stacked tensors, or a list of dicts where objects are counted."""

    inputs: dict[str, Tensor]  # (B, C, h, w) uint8 each; clips (B, T, C, h, w)
    target: Any
    geometry: list[Geometry]
    id: list[str]
    sequence: NotRequired[list[str]]
    frame: NotRequired[list[int]]
    views: NotRequired[list[list[Example]]]
    predictions: NotRequired[list[Any]]  # what is served of the image and its further views, once they were run on
