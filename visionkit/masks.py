"""Masks as COCO's run lengths: made from small maps, bitmaps and polygons, packed for their way through a batch.

A run-length mask of a 12-megapixel image takes a few hundred bytes where its bitmap takes 12 MB, so it is what
travels, is stored, gathered from other processes and given out. Counts run down the columns, first the zeros, and are
written in COCO's own compressed letters, so every COCO tool reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from visionkit.run_lengths import Rle as Rle
from visionkit.run_lengths import compress, crop_runs, decompress, empty_runs, row_runs, runs_between, with_text

if TYPE_CHECKING:
    from torch import Tensor

_MOST_PIXELS = 2**48  # of a mask whose size a label file states; sums of run lengths stay exact


class MaskSet(Sequence[Rle]):
    """The masks of one image, kept as run lengths; `numpy.asarray` gives (N, h, w) bool.

    Args:
        size: Height and width of the image.
        rles: One mask per object, each of that size.
    """

    def __init__(self, size: tuple[int, int], rles: Sequence[Rle] = ()) -> None:
        self.size = (int(size[0]), int(size[1]))
        self.rles = tuple(rles)
        for rle in self.rles:
            if tuple(rle["size"]) != self.size:
                raise ValueError(f"a mask of size {list(rle['size'])} in an image of size {list(self.size)}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """N, h, w."""
        return len(self.rles), *self.size

    def __len__(self) -> int:
        return len(self.rles)

    def __iter__(self) -> Iterator[Rle]:
        return iter(self.rles)

    def __getitem__(self, rows: Any) -> Any:
        """One mask by its number, or a set of them by a slice, an array of numbers, or (N,) bool."""
        if isinstance(rows, (int, np.integer)):
            return self.rles[rows]
        if isinstance(rows, slice):
            return MaskSet(self.size, self.rles[rows])
        chosen = np.asarray(rows)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        return MaskSet(self.size, [self.rles[int(row)] for row in chosen])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        out = decode_masks(self.rles, self.size)
        return out if dtype is None else out.astype(dtype)

    def pack(self) -> np.ndarray:
        """(B,) uint8 that a batch can carry; `MaskSet.unpack` gives the set back."""
        head = np.array([*self.size, len(self.rles), *(len(rle["counts"]) for rle in self.rles)], dtype="<i4")
        letters = "".join(rle["counts"] for rle in self.rles).encode("ascii")
        return np.concatenate([np.frombuffer(head.tobytes(), np.uint8), np.frombuffer(letters, np.uint8)])

    @classmethod
    def unpack(cls, packed: np.ndarray | Tensor) -> MaskSet:
        """Reads what `pack` wrote."""
        data = np.ascontiguousarray(packed if isinstance(packed, np.ndarray) else packed.cpu().numpy()).tobytes()
        height, width, number = (int(value) for value in np.frombuffer(data[:12], "<i4"))
        lengths = np.frombuffer(data[12 : 12 + 4 * number], "<i4")
        ends = 12 + 4 * number + np.concatenate([[0], np.cumsum(lengths)])
        letters = [data[a:b].decode("ascii") for a, b in pairwise(ends.tolist())]
        return cls((height, width), [Rle(size=[height, width], counts=each) for each in letters])


# ---------------------------------------------------------------------- making them


def paste_masks(probabilities: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> list[Rle]:
    """Puts small masks into their boxes of the image, as Mask R-CNN's heads give them (He et al., 2017).

    Gives byte for byte what torchvision's `paste_masks_in_image`, a comparison with the threshold and COCO's encoder
    give, but only the pixels of each box are ever processed.

    Args:
        probabilities: (N, m, m) float in [0, 1], on any device.
        boxes: (N, 4) float, x1, y1, x2, y2 in file pixels.
        size: Height and width of the file.
        threshold: A pixel belongs to the object above it.
    """
    import torch  # records of masks are read where torch is not requested

    height, width = size
    number, side = len(probabilities), probabilities.shape[-1]
    if number == 0:
        return []
    maps = torch.nn.functional.pad(probabilities.detach().float().cpu(), (1, 1, 1, 1))
    places = _widened(boxes.detach().float().cpu(), (side + 2) / side).tolist()
    runs = [empty_runs(size)] * number
    # Written again and again: fresh memory for every box would cost as much as what is written into it.
    seen = [k for k, (x1, y1, x2, y2) in enumerate(places) if x1 < width and y1 < height and x2 >= 0 and y2 >= 0]
    sides = {k: (max(places[k][3] - places[k][1] + 1, 1), max(places[k][2] - places[k][0] + 1, 1)) for k in seen}
    values = torch.empty(max((h * w for h, w in sides.values()), default=0))
    flags = np.empty(max(((h + 2) * w for h, w in sides.values()), default=0), dtype=bool)
    for k in seen:
        x1, y1, x2, y2 = places[k]
        h, w = sides[k]
        top, left = max(y1, 0), max(x1, 0)
        bottom, right = min(y2 + 1, height), min(x2 + 1, width)
        if bottom <= top or right <= left:
            continue
        grown = values[: h * w].view(1, 1, h, w)
        torch.ops.aten.upsample_bilinear2d.out(maps[k][None, None], [h, w], False, None, None, out=grown)
        rows = flags[: (bottom - top + 2) * (right - left)].reshape(-1, right - left)
        rows[0] = rows[-1] = False
        np.greater(grown[0, 0, top - y1 : bottom - y1, left - x1 : right - x1].numpy(), threshold, out=rows[1:-1])
        runs[k] = row_runs(rows, top, left, size)
    return [Rle(size=[height, width], counts=letters) for letters in compress(runs)]


def _widened(boxes: Tensor, factor: float) -> Tensor:
    """Boxes grown about their centers, in whole pixels; every operation as torchvision does it, so none differs."""
    import torch

    half_w, half_h = (boxes[:, 2] - boxes[:, 0]) * 0.5, (boxes[:, 3] - boxes[:, 1]) * 0.5
    x, y = (boxes[:, 2] + boxes[:, 0]) * 0.5, (boxes[:, 3] + boxes[:, 1]) * 0.5
    half_w, half_h = half_w * factor, half_h * factor
    return torch.stack([x - half_w, y - half_h, x + half_w, y + half_h], dim=1).to(torch.int64)


def encode_masks(masks: np.ndarray) -> list[Rle]:
    """Bitmaps to run lengths.

    Args:
        masks: (N, h, w) bool.
    """
    masks = np.asarray(masks, dtype=bool)
    size = (int(masks.shape[-2]), int(masks.shape[-1]))
    runs = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            runs.append(empty_runs(size))
            continue
        top, left = int(rows[0]), int(columns[0])
        crop = mask[top : rows[-1] + 1, left : columns[-1] + 1]
        runs.append(crop_runs(crop, top, left, size))
    return [Rle(size=list(size), counts=letters) for letters in compress(runs)]


def encode_labels(labels: np.ndarray) -> tuple[np.ndarray, list[Rle]]:
    """The instances of a map of numbers, in one pass over it.

    Args:
        labels: (h, w) of any integer type; 0 is background.

    Returns:
        (N,) the numbers that occur, rising, and their masks.
    """
    labels = np.asarray(labels)
    size = (labels.shape[0], labels.shape[1])
    flat = labels.T.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    values, ends = flat[starts], np.append(starts[1:], flat.size)
    order = np.argsort(values, kind="stable")
    numbers, first = np.unique(values[order], return_index=True)
    runs = []
    for number, part in zip(numbers, np.split(order, first[1:]), strict=True):
        if number:
            bounds = np.stack([starts[part], ends[part]], axis=1).ravel()
            runs.append(runs_between(bounds, flat.size))
    rles = [Rle(size=list(size), counts=letters) for letters in compress(runs)]
    return numbers[numbers != 0], rles


def encode_polygons(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> Rle:
    """The union of polygons, drawn as COCO draws them.

    Args:
        polygons: Each x1, y1, x2, y2, ... in file pixels, at least three points.
        size: Height and width of the file.
    """
    from faster_coco_eval.core import mask as coco

    height, width = size
    # Drawing takes memory for every pixel that an edge passes; far outside of the image that shows nothing.
    low, high = np.array([-width, -height]), np.array([2 * width, 2 * height])
    near = [np.clip(np.reshape(each, (-1, 2)), low, high).ravel().tolist() for each in polygons]
    parts = coco.frPyObjects(near, *size)
    return with_text(coco.merge(parts) if len(parts) > 1 else parts[0])


def compress_counts(counts: Sequence[int], size: tuple[int, int]) -> Rle:
    """COCO's plain run lengths, as crowds have them, in compressed letters."""
    runs = np.asarray(counts, dtype=np.int64)
    if runs.ndim != 1:
        raise ValueError("run lengths are one list of whole numbers")
    return Rle(size=[int(size[0]), int(size[1])], counts=compress([runs])[0])


# ---------------------------------------------------------------------- reading them


def decode_masks(rles: Sequence[Rle], size: tuple[int, int]) -> np.ndarray:
    """(N, h, w) bool."""
    out = np.zeros((len(rles), *size), dtype=bool)
    for mask, rle in zip(out, rles, strict=True):
        x1, y1, x2, y2, crop = decode_crop(rle)
        mask[y1:y2, x1:x2] = crop
    return out


def decode_crop(rle: Rle) -> tuple[int, int, int, int, np.ndarray]:
    """The part of the image that a mask covers: x1, y1, x2, y2 and (y2 - y1, x2 - x1) bool; never a whole bitmap."""
    height = rle["size"][0]
    starts, ends = mask_runs(rle)
    if not len(starts):
        return 0, 0, 0, 0, np.zeros((0, 0), dtype=bool)
    left, right = int(starts[0] // height), int((ends[-1] - 1) // height) + 1
    columns = np.zeros((right - left) * height + 1, dtype=np.int8)
    columns[starts - left * height] = 1
    columns[ends - left * height] -= 1
    band = np.cumsum(columns[:-1], dtype=np.int8).view(bool).reshape(right - left, height)
    rows = np.flatnonzero(band.any(axis=0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    return left, top, right, bottom, band[:, top:bottom].T


def run_lengths(rle: Rle) -> np.ndarray:
    """The counts of a mask: zeros first, then ones, and so on, down the columns.

    Raises:
        ValueError: Letters that are no run lengths.
    """
    counts = decompress(rle["counts"])
    if len(counts) and (counts.min() < 0 or counts.sum(dtype=np.float64) > _MOST_PIXELS):
        raise ValueError("a run length is negative, or longer than any image")
    return counts


def mask_runs(rle: Rle) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of each run of ones, counted down the columns."""
    bounds = np.cumsum(decompress(rle["counts"]))
    bounds = bounds[: len(bounds) // 2 * 2].reshape(-1, 2)
    bounds = bounds[bounds[:, 1] > bounds[:, 0]]
    return bounds[:, 0], bounds[:, 1]


def mask_areas(rles: Sequence[Rle]) -> np.ndarray:
    """(N,) int64 pixels."""
    return np.array([int(decompress(rle["counts"])[1::2].sum()) for rle in rles], dtype=np.int64)


def mask_boxes(rles: Sequence[Rle]) -> np.ndarray:
    """(N, 4) float32 enclosing x1, y1, x2, y2; zeros for an empty mask."""
    out = np.zeros((len(rles), 4), dtype=np.float32)
    for box, rle in zip(out, rles, strict=True):
        height = rle["size"][0]
        starts, ends = mask_runs(rle)
        if len(starts):
            last = ends - 1
            crossing = bool((starts // height != last // height).any())
            top, bottom = (0, height) if crossing else ((starts % height).min(), (last % height).max() + 1)
            box[:] = starts[0] // height, top, last[-1] // height + 1, bottom
    return out


def mask_union(rles: Sequence[Rle]) -> Rle:
    """The pixels of any of the masks, which are of one size."""
    from faster_coco_eval.core import mask as coco

    return with_text(coco.merge([dict(rle) for rle in rles]))


def mask_ious(first: Sequence[Rle], second: Sequence[Rle], crowd: Sequence[bool] | None = None) -> np.ndarray:
    """(N, M) float64 intersection over union; over the first one's area alone where the second is a crowd."""
    if not len(first) or not len(second):
        return np.zeros((len(first), len(second)))
    from faster_coco_eval.core import mask as coco

    flags = [0] * len(second) if crowd is None else [int(flag) for flag in crowd]
    return np.asarray(coco.iou(list(first), list(second), flags))


def resized_masks(rles: Sequence[Rle], size: tuple[int, int]) -> list[Rle]:
    """The masks for an image of another size, by nearest value.

    Args:
        rles: Run-length masks of one size.
        size: Height and width requested.
    """
    runs = []
    for rle in rles:
        x1, y1, x2, y2, crop = decode_crop(rle)
        rows, columns = (np.arange(new) + 0.5 for new in size)
        rows = np.floor(rows * rle["size"][0] / size[0]).astype(np.int64)
        columns = np.floor(columns * rle["size"][1] / size[1]).astype(np.int64)
        down, across = np.flatnonzero((rows >= y1) & (rows < y2)), np.flatnonzero((columns >= x1) & (columns < x2))
        if not len(down) or not len(across):
            runs.append(empty_runs(size))
            continue
        part = crop[np.ix_(rows[down] - y1, columns[across] - x1)]
        runs.append(crop_runs(part, int(down[0]), int(across[0]), size))
    return [Rle(size=[int(size[0]), int(size[1])], counts=letters) for letters in compress(runs)]


def mask_polygons(rle: Rle) -> list[list[float]]:
    """Outlines of a mask, x1, y1, x2, y2, ... at the outer border of its pixels; holes are filled."""
    import cv2

    x1, y1, _, _, crop = decode_crop(rle)
    if not crop.size:
        return []
    # Twice the size: OpenCV outlines by the centers of pixels, which there are half a file pixel apart.
    bitmap = np.pad(np.repeat(np.repeat(crop.astype(np.uint8), 2, axis=0), 2, axis=1), 1)
    contours, _ = cv2.findContours(bitmap, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    out = []
    for contour in contours:
        points = _corners((contour[:, 0].astype(np.int64) - 1 + (contour[:, 0] % 2 == 0)) // 2)
        out.append((points + np.array([x1, y1])).ravel().astype(float).tolist())
    return out


def _corners(points: np.ndarray) -> np.ndarray:
    """Without the points between two others on one line, and without repetitions."""
    points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return np.asarray(points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]])
