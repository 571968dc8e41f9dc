"""How a file becomes network input and how predictions find their way back: one transform, exactly invertible.

`InputSpec` states what the network needs; `Geometry` is that requirement worked out for one image. Everything that a
network sees is resampled here, antialiased, and nowhere else, so training, serving and export cannot differ.
Coordinates are continuous (see `visionkit.types`): resizing by s maps x to s * x, and `invert(apply(points))` gives the
points back.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from visionkit.input_spec import MAX_INPUT_PIXELS as MAX_INPUT_PIXELS
from visionkit.input_spec import InputSpec as InputSpec
from visionkit.input_spec import Interpolation as Interpolation
from visionkit.input_spec import ResizeMode as ResizeMode
from visionkit.resize_modes import PLACEMENTS, without_far_ends
from visionkit.types import View


class Geometry(NamedTuple):
    """Where each pixel of one file went. All values are plain numbers, so it travels through workers and devices.

    The file region `cut` (rotated about its center, then flipped) is resized to `resized` and put at `offset` on a
    canvas of `size`.

    Attributes:
        source: Height and width of the file.
        cut: x1, y1, x2, y2 in file pixels; whole numbers unless rotated.
        resized: Height and width of the cut after resizing.
        offset: Top and left of the resized cut on the canvas; negative where `crop` takes the center.
        size: Height and width of the canvas, the network input.
        flip: Flipped horizontally.
        rotation: Degrees, counter-clockwise as seen.
        interpolation: Interpolation of images; label maps and depth take the nearest value.
        fill: Value of pixels outside the file; None repeats the pixel at its edge.
    """

    source: tuple[int, int]
    cut: tuple[float, float, float, float]
    resized: tuple[int, int]
    offset: tuple[int, int]
    size: tuple[int, int]
    flip: bool = False
    rotation: float = 0.0
    interpolation: str = "bilinear"
    fill: int | None = 114

    @classmethod
    def plan(cls, spec: InputSpec, source: tuple[int, int], view: View | None = None) -> Geometry:
        """Works the spec out for one image.

        Args:
            spec: What the network takes.
            source: Height and width of the file.
            view: Region that replaces the whole file. With `resize_mode="crop"` the view is the crop and is
                resized to the input.
        """
        cut: tuple[float, float, float, float] = (0, 0, source[1], source[0])
        if view is not None:
            cut = view.box
            if view.rotation == 0:  # whole pixels keep the resample separable and exact
                cut = _whole_pixels(cut)
        elif spec.resize_mode == "crop":
            cut = without_far_ends(spec, source)
        height, width = cut[3] - cut[1], cut[2] - cut[0]
        if view is not None and view.input_scale != 1:
            spec = spec.scaled(view.input_scale)
            if spec.resize_mode == "native":
                height, width = height * view.input_scale, width * view.input_scale
        resized, offset, size = PLACEMENTS[spec.resize_mode](spec, height, width, view is not None)
        flip, rotation = (view.flip, view.rotation) if view is not None else (False, 0.0)
        return cls(source, cut, resized, offset, size, flip, rotation, spec.interpolation, spec.fill)

    @property
    def matrix(self) -> np.ndarray:
        """(2, 3) float64, file pixels to input pixels."""
        x1, y1, x2, y2 = self.cut
        width, height = x2 - x1, y2 - y1
        angle = math.radians(self.rotation)
        cos, sin = math.cos(angle), math.sin(angle)
        center = ((x1 + x2) / 2, (y1 + y2) / 2)
        # Turning the image counter-clockwise in an image whose y points down.
        turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0]])
        turn[:, 2] = np.array([width / 2, height / 2]) - turn[:, :2] @ np.array(center)
        sx, sy = self.resized[1] / width, self.resized[0] / height
        out: np.ndarray = np.array([[sx], [sy]]) * turn
        if self.flip:
            out[0] = -out[0]
            out[0, 2] += self.resized[1]
        out[:, 2] += (self.offset[1], self.offset[0])
        return out

    @property
    def scale(self) -> tuple[float, float]:
        """Input pixels per file pixel, horizontally and vertically."""
        return self.resized[1] / (self.cut[2] - self.cut[0]), self.resized[0] / (self.cut[3] - self.cut[1])

    @property
    def content(self) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 of the canvas that is covered by the cut, in input pixels."""
        top, left = self.offset
        return (
            max(left, 0),
            max(top, 0),
            min(left + self.resized[1], self.size[1]),
            min(top + self.resized[0], self.size[0]),
        )

    # ---------------------------------------------------------------- file pixels -> input pixels

    def apply_image(self, image: np.ndarray) -> Tensor:
        """Resamples an image.

        Args:
            image: (h, w, C) uint8 or float32 of the file's size, or of a reduced decode of it.

        Returns:
            (C, H, W) of `size`, of the same type.
        """
        if image.shape[:2] != self.source:
            return self._for_draft(image.shape[:2]).apply_image(image)
        if self.rotation:
            return self._warp(image)
        source_image = resize_image(_cut_out(image, self.cut, self.fill), self.resized, self.interpolation)
        if self.flip:
            source_image = source_image.flip(-1)
        return _place(source_image, self.offset, self.size, self.fill)

    def apply_map(self, values: np.ndarray | Tensor, fill: float) -> Tensor:
        """Carries a (..., h, w) map to (..., H, W) by nearest value; outside the file is `fill`."""
        values = torch.as_tensor(values)
        rows, columns, inside = self.source_indices()
        out = values[..., rows, columns]
        return torch.where(inside, out, torch.as_tensor(fill, dtype=values.dtype))

    def apply_vectors(self, vectors: np.ndarray | Tensor) -> Tensor:
        """Carries a field of vectors (2, h, w), x and y in file pixels, to (2, H, W) in input pixels.

        The vectors move by nearest value and are scaled, turned and flipped with the image; outside the file they
        are 0.
        """
        moved = self.apply_map(vectors, fill=0.0)
        linear = torch.as_tensor(self.matrix[:, :2], dtype=moved.dtype)
        return torch.einsum("ij,jhw->ihw", linear, moved)

    def apply_points(self, points: np.ndarray | Tensor) -> Tensor:
        """Maps (..., 2) x, y from file to input pixels."""
        return _affine(self.matrix, points)

    def apply_boxes(self, boxes: np.ndarray | Tensor) -> Tensor:
        """Maps (N, 4) boxes to input pixels, clipped to `content`; rotated boxes become their enclosing ones."""
        return _box(self.matrix, boxes, self.content)

    # ---------------------------------------------------------------- input pixels -> file pixels

    def invert_points(self, points: np.ndarray | Tensor) -> Tensor:
        """Maps (..., 2) x, y from input to file pixels; the inverse of `apply_points`."""
        return _affine(self._inverse, points)

    def invert_boxes(self, boxes: np.ndarray | Tensor) -> Tensor:
        """Maps (N, 4) boxes from input to file pixels, clipped to the file."""
        return _box(self._inverse, boxes, (0, 0, self.source[1], self.source[0]))

    def invert_map(
        self, values: Tensor, fill: float = 0.0, mode: Literal["bilinear", "nearest"] = "bilinear"
    ) -> Tensor:
        """Brings a (C, H, W) float map of canvas size back to (C, h, w) of the file's size.

        Args:
            values: Map in input pixels, on any device; what a batch padded beyond the canvas is left out.
            fill: Value of file pixels that the network never saw (outside a center crop).
            mode: `bilinear` for scores and depth, `nearest` for labels.
        """
        values = values[:, : self.size[0], : self.size[1]]
        whole = self.cut == (0, 0, self.source[1], self.source[0]) and not self.rotation
        top, left = self.offset
        if whole and top >= 0 and left >= 0:
            part = values[:, top : top + self.resized[0], left : left + self.resized[1]]
            if self.flip:
                part = part.flip(-1)
            if self.resized == self.source:
                return part
            how: dict[str, Any] = (
                {"mode": "nearest-exact"} if mode == "nearest" else {"mode": mode, "align_corners": False}
            )
            return F.interpolate(part[None], size=self.source, **how)[0]
        height, width = self.source
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        points = self.apply_points(torch.stack([x, y], dim=-1))
        extent = torch.tensor([self.size[1], self.size[0]])
        inside = ((points >= 0) & (points <= extent)).all(dim=-1).to(values.device)
        grid = (points / extent * 2 - 1).to(values)
        sampled = F.grid_sample(values[None], grid[None], mode=mode, padding_mode="border", align_corners=False)[0]
        return torch.where(inside, sampled, torch.as_tensor(fill, dtype=values.dtype, device=values.device))

    def invert_vectors(self, vectors: Tensor) -> Tensor:
        """Brings a field of vectors (2, H, W) in input pixels back to (2, h, w) in file pixels, as `apply_vectors`.

        They move by bilinear interpolation; where the network never saw the file they are 0.
        """
        moved = self.invert_map(vectors, fill=0.0, mode="bilinear")
        linear = torch.as_tensor(self._inverse[:, :2], dtype=moved.dtype, device=moved.device)
        return torch.einsum("ij,jhw->ihw", linear, moved)

    # ---------------------------------------------------------------- inside

    @property
    def _inverse(self) -> np.ndarray:
        square = np.vstack([self.matrix, [0.0, 0.0, 1.0]])
        return np.linalg.inv(square)[:2]

    def _for_draft(self, decoded: tuple[int, ...]) -> Geometry:
        """The same transform for an image decoded at a reduced scale; the cut moves with it, to whole pixels."""
        sy, sx = decoded[0] / self.source[0], decoded[1] / self.source[1]
        x1, y1, x2, y2 = self.cut
        cut = (x1 * sx, y1 * sy, x2 * sx, y2 * sy)
        return self._replace(source=(decoded[0], decoded[1]), cut=cut if self.rotation else _whole_pixels(cut))

    def source_indices(self) -> tuple[Tensor, Tensor, Tensor]:
        """For every canvas pixel the file row and column under its center, and whether it shows a pixel of the file."""
        height, width = self.size
        inverse = torch.from_numpy(self._inverse)
        y, x = torch.arange(height, dtype=torch.float64) + 0.5, torch.arange(width, dtype=torch.float64) + 0.5
        if self.rotation:
            columns = inverse[0, 0] * x + inverse[0, 1] * y[:, None] + inverse[0, 2]
            rows = inverse[1, 0] * x + inverse[1, 1] * y[:, None] + inverse[1, 2]
        else:
            columns = (inverse[0, 0] * x + inverse[0, 2])[None, :]
            rows = (inverse[1, 1] * y + inverse[1, 2])[:, None]
        # A letterbox of the whole file must not read past the file by rounding at its last pixel.
        columns, rows = (columns + 1e-9).floor().long(), (rows + 1e-9).floor().long()
        inside = (columns >= 0) & (columns < self.source[1]) & (rows >= 0) & (rows < self.source[0])
        # Beside a cut there is fill, even where the file goes on.
        x1, y1, x2, y2 = self.content
        shown = torch.zeros(height, width, dtype=torch.bool)
        shown[y1:y2, x1:x2] = True
        inside = inside & shown
        return rows.clamp(0, self.source[0] - 1), columns.clamp(0, self.source[1] - 1), inside

    def _neighborhood(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The part of the file that the canvas shows, with a border for the filter, and the matrix that starts in it.

        A face in a large photo must not cost a resize of the photo.
        """
        height, width = self.size
        corners = _affine(self._inverse, np.array([(0.0, 0.0), (width, 0.0), (0.0, height), (width, height)])).numpy()
        margin = 4 * max(1.0, *(1 / scale for scale in self.scale))
        limit = np.array([image.shape[1], image.shape[0]])
        low = np.clip(np.floor(corners.min(axis=0) - margin), 0, limit - 1).astype(int)
        high = np.clip(np.ceil(corners.max(axis=0) + margin), low + 1, limit).astype(int)
        matrix = self.matrix
        matrix[:, 2] += matrix[:, :2] @ low
        return np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]]), matrix

    def _warp(self, image: np.ndarray) -> Tensor:
        import cv2

        image, matrix = self._neighborhood(image)
        sx, sy = self.scale
        if min(sx, sy) < 1:  # shrink antialiased first: warpAffine alone would alias
            height, width = image.shape[:2]
            smaller = (max(1, round(height * min(1.0, sy))), max(1, round(width * min(1.0, sx))))
            reduced = resize_image(image, smaller, self.interpolation)
            image = np.ascontiguousarray(reduced.permute(1, 2, 0).numpy())
            matrix[:, 0] *= width / smaller[1]
            matrix[:, 1] *= height / smaller[0]
        # OpenCV counts pixel centers from 0, we from 0.5.
        matrix[:, 2] += matrix[:, :2] @ np.array([0.5, 0.5]) - 0.5
        flags = cv2.INTER_CUBIC if self.interpolation.endswith("bicubic") else cv2.INTER_LINEAR
        if self.fill is None:
            out = cv2.warpAffine(image, matrix, self.size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
            return torch.from_numpy(out.reshape(*self.size, -1)).permute(2, 0, 1)
        border = (self.fill,) * 4
        out = cv2.warpAffine(image, matrix, self.size[::-1], flags=flags, borderValue=border)
        x1, y1, x2, y2 = self.content
        out[:y1], out[y2:], out[:, :x1], out[:, x2:] = border
        return torch.from_numpy(out.reshape(*self.size, -1)).permute(2, 0, 1)


def resize_image(image: np.ndarray, size: tuple[int, int], interpolation: str = "bilinear") -> Tensor:
    """Resizes antialiased, as Pillow does.

    Args:
        image: (h, w, C) uint8 or float32.
        size: Height and width requested.
        interpolation: As in `InputSpec`. Without `pillow_`, one pixel in some hundreds differs from Pillow's by 1.

    Returns:
        (C, H, W) uint8. Its memory is laid out as (H, W, C), on which torch's uint8 kernel is several times faster than
        Pillow or OpenCV.
    """
    if not image.flags.writeable:
        image = image.copy()
    library, _, kernel = interpolation.rpartition("_")
    if library == "pillow" and image.dtype == np.uint8 and image.shape[:2] != tuple(size):
        return _resize_by_pillow(image, size, kernel)
    # The batch axis comes first: put on after the permutation, torch would not see a channels-last image in it.
    tensor = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    if image.shape[:2] == tuple(size):
        return tensor[0]
    return F.interpolate(tensor, size=size, mode=kernel, antialias=True)[0]


def _resize_by_pillow(image: np.ndarray, size: tuple[int, int], kernel: str) -> Tensor:
    method = Image.Resampling[kernel.upper()]
    # Band by band: of four channels Pillow would take the last for transparency.
    bands = [Image.fromarray(band).resize(size[::-1], method) for band in np.moveaxis(image, -1, 0)]
    return torch.from_numpy(np.stack([np.asarray(band) for band in bands]))


def _whole_pixels(box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """A box rounded to whole pixels, at least one of them each way."""
    x1, y1, x2, y2 = (math.floor(value + 0.5) for value in box)
    return x1, y1, max(x1 + 1, x2), max(y1 + 1, y2)


def _cut_out(image: np.ndarray, cut: tuple[float, float, float, float], fill: int | None) -> np.ndarray:
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (int(v) for v in cut)
    inner = image[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height:
        return inner
    if fill is None:
        rows, columns = np.arange(y1, y2).clip(0, height - 1), np.arange(x1, x2).clip(0, width - 1)
        return np.asarray(image[rows[:, None], columns])
    out = np.full((y2 - y1, x2 - x1, image.shape[2]), fill, dtype=image.dtype)
    top, left = max(-y1, 0), max(-x1, 0)
    out[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return out


def _place(image: Tensor, offset: tuple[int, int], size: tuple[int, int], fill: int | None) -> Tensor:
    if tuple(image.shape[1:]) == size and offset == (0, 0):
        return image
    top, left = offset
    part = image[:, max(-top, 0) : size[0] - top, max(-left, 0) : size[1] - left]
    if tuple(part.shape[1:]) == size:
        return part
    if fill is None:
        rows, columns = (torch.arange(s) - max(o, 0) for s, o in zip(size, offset, strict=True))
        return part[:, rows.clamp(0, part.shape[1] - 1)][:, :, columns.clamp(0, part.shape[2] - 1)]
    canvas = torch.full((size[0], size[1], image.shape[0]), fill, dtype=image.dtype).permute(2, 0, 1)
    top, left = max(top, 0), max(left, 0)
    canvas[:, top : top + part.shape[1], left : left + part.shape[2]] = part
    return canvas


def _affine(matrix: np.ndarray, points: np.ndarray | Tensor) -> Tensor:
    points = torch.as_tensor(points)
    exact = points.to(torch.float64)
    m = torch.as_tensor(matrix, device=points.device)
    out = exact @ m[:, :2].T + m[:, 2]
    return out.to(points.dtype if points.is_floating_point() else torch.float32)


def _box(matrix: np.ndarray, boxes: np.ndarray | Tensor, limit: tuple[int, int, int, int]) -> Tensor:
    boxes = torch.as_tensor(boxes)
    boxes = boxes if boxes.is_floating_point() else boxes.float()
    corners = _affine(matrix, boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
    low, high = corners.amin(dim=1), corners.amax(dim=1)
    least = torch.tensor(limit[:2], dtype=boxes.dtype, device=boxes.device)
    most = torch.tensor(limit[2:], dtype=boxes.dtype, device=boxes.device)
    return torch.cat([low.clamp(least, most), high.clamp(least, most)], dim=1)
