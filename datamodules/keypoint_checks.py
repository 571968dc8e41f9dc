"""Keypoints that nobody could train on: fractions in place of pixels, places far outside their box, all at 0, 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from datamodules.object_entries import AnnotatedImage
from visionkit.errors import DataError

_MARGIN = 0.5  # of the box's longer side: a keypoint so far outside of its box belongs to another scale
_MOST = 0.9  # a larger fraction of wrong keypoints is a mistake of the whole file


def check_keypoints(entries: Sequence[AnnotatedImage], source: str, counts: dict[str, int]) -> list[AnnotatedImage]:
    """Takes the label from keypoints at 0, 0, counts those that lie where they cannot, and refuses a file of them.

    Args:
        entries: Entries of a split, with `keypoints`, before their boxes are clipped.
        source: Names the data in messages.
        counts: Gets the number of keypoints by what is the matter with them.

    Raises:
        DataError: Nearly all are impossible.
    """
    entries = [_without_origin(entry, counts) for entry in entries]
    total, fractions, far, outside = 0, 0, 0, 0
    example = ""
    for entry in entries:
        keypoints = np.asarray(entry.more["keypoints"], dtype=np.float64)
        labeled = (keypoints[..., 2] > 0) & ~entry.crowded[:, None]
        places, boxes = keypoints[..., :2], entry.boxes
        sides = (boxes[:, 2:] - boxes[:, :2]).clip(min=0)
        total += int(labeled.sum())
        fractions += int((labeled & (np.abs(places) <= 1).all(axis=-1)).sum())
        margin = _MARGIN * sides.max(axis=1, initial=0)[:, None] + 1
        low, high = boxes[:, None, :2] - margin[..., None], boxes[:, None, 2:] + margin[..., None]
        beyond = labeled & ((places < low) | (places > high)).any(axis=-1) & (sides > 0).all(axis=1)[:, None]
        far += int(beyond.sum())
        if entry.size is not None:
            outside += int((labeled & ((places < 0) | (places > entry.size[::-1])).any(axis=-1)).sum())
        if beyond.any() and not example:
            person, joint = np.argwhere(beyond)[0]
            x, y = places[person, joint]
            box = ", ".join(f"{value:g}" for value in boxes[person])
            example = f"{entry.place}: keypoint {joint + 1} at ({x:g}, {y:g}) and its box from ({box})"
    if total and fractions > _MOST * total:
        raise DataError(
            f"{source}: {fractions} of {total} labeled keypoints lie between 0 and 1, so they seem to be fractions of "
            "the image; keypoints are pixels: multiply x by the image's width and y by its height"
        )
    if total and far > _MOST * total:
        raise DataError(
            f"{source}: {far} of {total} labeled keypoints lie far outside the box of their person ({example}); are "
            "both in pixels of this image, and is bbox x, y, width, height?"
        )
    found = {"keypoints outside their image": outside, "keypoints far outside their box": far}
    counts |= {what: number for what, number in found.items() if number}
    return entries


def _without_origin(entry: AnnotatedImage, counts: dict[str, int]) -> AnnotatedImage:
    keypoints = entry.more["keypoints"]
    nowhere = (keypoints[..., 2] > 0) & (keypoints[..., :2] == 0).all(axis=-1)
    if not nowhere.any():
        return entry
    what = "keypoints labeled at 0, 0, which are taken as not labeled"
    counts[what] = counts.get(what, 0) + int(nowhere.sum())
    return replace(entry, more={**entry.more, "keypoints": np.where(nowhere[..., None], 0, keypoints)})
