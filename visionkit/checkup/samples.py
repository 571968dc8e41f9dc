"""What is wrong with one sample: label maps, depth, flow, disparity, masks, pairs. One check per type of target.

`sample_check("depth")` registers a check for every sample whose target has that key, of whatever task and reader; a
package that brings a type of target of its own brings its check in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from visionkit.checkup.findings import Found
from visionkit.inputs import last_frame
from visionkit.types import IGNORE, Sample

_THIN = 0.6  # fraction of the pixels of a class without a neighbor of their class
_FEWEST = 24
_ALIKE, _RESTORED = 0.8, 0.5


@dataclass
class Seen:
    """What a check knows beside the value that it is for.

    Attributes:
        sample: The sample.
        target: Its target, or that of a head.
        pixels: (h, w, 3) uint8, its reference image, which may be reduced; None where it cannot be read.
        size: Height and width of the file, or None.
        classes: Class names.
        facts: Numbers that are put together over all samples, by name.
    """

    sample: Sample
    target: Mapping[str, Any]
    pixels: np.ndarray | None
    size: tuple[int, int] | None
    classes: Sequence[str]
    facts: dict[str, Any] = field(default_factory=dict)


SampleCheck = Callable[[Any, Seen], Iterator[Found]]
_CHECKS: dict[str, list[SampleCheck]] = {}


def sample_check(key: str) -> Callable[[SampleCheck], SampleCheck]:
    """Registers a check of the samples whose target has a key.

    Args:
        key: A key of `visionkit.types.Target`, or of a type of target that a package brings.
    """

    def register(check: SampleCheck) -> SampleCheck:
        _CHECKS.setdefault(key, []).append(check)
        return check

    return register


def check_sample(seen: Seen) -> Iterator[Found]:
    """What is wrong with the target of one sample."""
    for key, value in seen.target.items():
        if key == "heads":
            for head in value.values():
                yield from check_sample(Seen(seen.sample, head, seen.pixels, seen.size, (), seen.facts))
        for check in _CHECKS.get(key, ()):
            yield from check(value, seen)


@sample_check("label_map")
def label_maps(value: Any, seen: Seen) -> Iterator[Found]:
    """Values that are no class, maps of nothing, and classes that interpolation has made."""
    labels = np.asarray(value)
    counts = np.bincount(labels.ravel(), minlength=256)
    known = counts.copy()
    known[IGNORE] = 0
    number = len(seen.classes)
    stray = np.flatnonzero(known[number:]) + number if number else np.zeros(0, dtype=int)
    if len(stray):
        yield Found("stray-value", f"value {', '.join(map(str, stray[:5]))} where there are {number} classes")
    if not known.any():
        yield Found("empty-label-map", "every pixel is ignored")
        return
    seen.facts["label_pixels"] = known[:number] if number else known
    thin = [int(label) for label in np.flatnonzero(known >= _FEWEST) if _is_thin(labels == label)]
    if len(thin) and np.count_nonzero(known) > 2:
        names = ", ".join(repr(seen.classes[k]) if k < number else str(k) for k in thin[:3])
        yield Found("interpolated-label-map", f"{names}: most of its pixels have no neighbor of their class")


def _is_thin(mask: np.ndarray) -> bool:
    """Whether most pixels of a class have none of the four next to them in it."""
    own = mask.astype(np.uint8)
    cross = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=np.uint8)
    beside = cv2.filter2D(own, -1, cross, borderType=cv2.BORDER_CONSTANT)
    return bool((beside[mask] == 0).mean() > _THIN)


@sample_check("depth")
def depth_maps(value: Any, seen: Seen) -> Iterator[Found]:
    """Depth that cannot be."""
    depth = np.asarray(value, dtype=np.float32)
    wrong = int((~np.isfinite(depth) | (depth < 0)).sum())
    if wrong:
        yield Found("invalid-depth", f"{wrong:,} of {depth.size:,} pixels are negative or not finite")
    measured = depth[np.isfinite(depth) & (depth > 0)]
    if not measured.size:
        yield Found("no-depth", "no pixel is measured")
        return
    low, middle, high = (
        float(each) for each in np.quantile(measured[:: max(1, measured.size // 4096)], (0.05, 0.5, 0.95))
    )
    seen.facts["depth"] = (low, middle, high)
    if measured.size > 0.5 * depth.size and measured.min() == measured.max():
        yield Found("constant-depth", f"every measured pixel is {middle:.4g} m")


@sample_check("flow")
def flows(value: Any, seen: Seen) -> Iterator[Found]:
    """Motion that cannot be."""
    flow = np.asarray(value, dtype=np.float32)
    valid = np.asarray(seen.target.get("valid", np.ones(flow.shape[1:], dtype=bool)), dtype=bool)
    moved = flow[:, valid] if valid.shape == flow.shape[1:] else flow.reshape(2, -1)
    wrong = int((~np.isfinite(moved)).any(axis=0).sum())
    if wrong:
        yield Found("invalid-flow", f"{wrong:,} valid pixels have no finite motion")
    length = np.hypot(*np.nan_to_num(moved, posinf=0, neginf=0))
    diagonal = math.hypot(*flow.shape[1:])
    far = float(np.quantile(length, 0.99)) if length.size else 0.0
    if far > diagonal:
        yield Found("flow-too-long", f"motions of {far:,.0f} pixels in an image with a diagonal of {diagonal:,.0f}")
    yield from _identical(seen, bool(length.size) and float(length.mean()) > 1.0)


@sample_check("disparity")
def disparities(value: Any, seen: Seen) -> Iterator[Found]:
    """Disparity that cannot be."""
    disparity = np.asarray(value, dtype=np.float32)
    wrong = ~np.isfinite(disparity) | (disparity < 0) | (disparity > disparity.shape[1])
    if wrong.any():
        worst = float(np.nan_to_num(disparity[wrong], posinf=np.inf).ravel()[0])
        width = disparity.shape[1]
        yield Found("invalid-disparity", f"{int(wrong.sum()):,} pixels, such as {worst:g}, in an image {width} wide")
    yield from _identical(seen, float((disparity > 1).mean()) > 0.2)


def _identical(seen: Seen, moves: bool) -> Iterator[Found]:
    """Two images that are equal although their truth states that something moves."""
    inputs = list(seen.sample.inputs.values())
    if moves and len(inputs) > 1:
        first, second = (last_frame(each).read(1) for each in inputs[:2])
        if first.shape == second.shape and np.array_equal(first, second):
            yield Found("identical-pair", "both images are equal, and their truth states that points move")


@sample_check("masks")
def masks(value: Any, seen: Seen) -> Iterator[Found]:
    """Masks without a pixel."""
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    for number in np.flatnonzero(~array.reshape(len(array), -1).any(axis=1)) if len(array) else ():
        yield Found("degenerate-polygon", f"object {number + 1}: its mask has no pixel")


@sample_check("high_res")
def resolutions(value: Any, seen: Seen) -> Iterator[Found]:
    """A low resolution that was not made of its image."""
    agreement = _agreement(value, seen, 32)
    if agreement is not None and agreement < _ALIKE:
        yield Found("resolution-mismatch", f"low and high resolution agree by {agreement:.2f} alone (correlation)")


@sample_check("clean")
def restored(value: Any, seen: Seen) -> Iterator[Found]:
    """A degraded image that was not made of its clean one."""
    agreement = _agreement(value, seen, 16)
    if agreement is not None and agreement < _RESTORED:
        yield Found("pair-mismatch", f"the degraded and the clean image agree by {agreement:.2f} alone (correlation)")


def _agreement(value: Any, seen: Seen, side: int) -> float | None:
    """Correlation of an image and its partner, both reduced; None where one of them shows nothing."""
    if seen.pixels is None:
        return None
    partner = np.asarray(value).transpose(1, 2, 0).astype(np.float32).mean(axis=2)
    own = seen.pixels.astype(np.float32).mean(axis=2)
    height, width = min(side, own.shape[0], partner.shape[0]), min(side, own.shape[1], partner.shape[1])
    a, b = (cv2.resize(each, (width, height), interpolation=cv2.INTER_AREA).ravel() for each in (own, partner))
    if min(a.std(), b.std()) < 3:
        return None
    return float(np.corrcoef(a, b)[0, 1])


@sample_check("match")
def matches(value: Any, seen: Seen) -> Iterator[Found]:
    """Equal patches that are labeled as different points."""
    inputs = list(seen.sample.inputs.values())
    if int(value) == 0 and len(inputs) > 1:
        first, second = (last_frame(each).read(1) for each in inputs[:2])
        if first.shape == second.shape and first.std() > 3 and np.array_equal(first, second):
            yield Found("match-contradiction", "the two patches are equal and are labeled as different points")


@sample_check("intrinsics")
def cameras(value: Any, seen: Seen) -> Iterator[Found]:
    """A camera that did not take this image."""
    fx, fy, cx, cy = (float(each) for each in np.asarray(value).ravel())
    if not (math.isfinite(fx + fy + cx + cy) and fx > 0 and fy > 0):
        yield Found("invalid-intrinsics", f"fx {fx:g}, fy {fy:g}, cx {cx:g}, cy {cy:g}: focal lengths are above 0")
    elif seen.size is not None and not (0 < cx < seen.size[1] and 0 < cy < seen.size[0]):
        message = f"the principal point {cx:g}, {cy:g} lies outside the image of {seen.size[1]} x {seen.size[0]}"
        yield Found("invalid-intrinsics", message)
