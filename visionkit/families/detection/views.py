"""The views that a detector is shown of an image, tiles and test-time augmentation, and how they become one prediction.

The whole image comes first. With test-time augmentation, whole and tiles are shown again, flipped and at other input
sizes; the tiles of each such pass are merged, and the passes are fused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visionkit.errors import UsageError
from visionkit.families.detection.fusion import FUSION_IOU, fuse_detections
from visionkit.predictions import Detections, Prediction
from visionkit.tiling import merge_tiles, object_tiles
from visionkit.types import View


def checked_tile(tile: int) -> int:
    """The side of the tiles.

    Raises:
        UsageError: Below 0, or too small to hold anything.
    """
    if tile < 0 or 0 < tile < 64:
        raise UsageError(f"model.tile {tile}: give 0 for none, or a side of at least 64 pixels")
    return tile


def checked_scales(scales: Sequence[float]) -> tuple[float, ...]:
    """Further scales of the input, without 1, which is always among them.

    Raises:
        UsageError: Something that is no scale.
    """
    if isinstance(scales, str | bytes) or not isinstance(scales, Sequence):
        raise UsageError(f"tta_scales {scales!r}: give a list of numbers, such as [0.75, 1.25]")
    for scale in scales:
        if not isinstance(scale, int | float) or not 0.25 <= scale <= 4:
            raise UsageError(f"tta_scales {scale!r}: allowed are numbers from 0.25 to 4")
    return tuple(dict.fromkeys(float(scale) for scale in scales if scale != 1))


@dataclass(frozen=True)
class DetectorViews:
    """Which views there are, by the size of an image alone.

    Attributes:
        tile: Side of the tiles in file pixels; 0 is off.
        flip: The flipped image too.
        scales: Further scales of the input.
    """

    tile: int = 0
    flip: bool = False
    scales: tuple[float, ...] = ()

    @property
    def passes(self) -> list[tuple[float, bool]]:
        """Scale and flip of each pass over the image; the first one is the image as it is."""
        flips = (False, True) if self.flip else (False,)
        return [(scale, flip) for scale in (1.0, *self.scales) for flip in flips]

    def __call__(self, size: tuple[int, int]) -> list[View]:
        """The views beside the whole image as it is.

        Args:
            size: Height and width of the image.
        """
        regions = [View((0, 0, size[1], size[0])), *object_tiles(size, self.tile)]
        views = [region._replace(flip=flip, input_scale=scale) for scale, flip in self.passes for region in regions]
        return views[1:]

    def merge(
        self, parts: Sequence[Prediction], size: tuple[int, int], overlap: float, score: float, most: int
    ) -> Detections:
        """One prediction of those on the whole image and on the views.

        Args:
            parts: In their order, that on the whole image first.
            size: Height and width of the image.
            overlap: See `merge_tiles`.
            score: See `fuse_detections`.
            most: Objects that are kept, at most; 0 keeps all.
        """
        tiles = object_tiles(size, self.tile)
        count = 1 + len(tiles)
        groups = [parts[start : start + count] for start in range(0, len(parts), count)]
        if tiles:
            merged = [merge_tiles(group, tiles, overlap, most) for group in groups]
        else:
            merged = [part for group in groups for part in group if isinstance(part, Detections)]
        return merged[0] if len(merged) == 1 else fuse_detections(merged, score, most)

    def protocol(self) -> str:
        """What the views are, for the protocol of metrics; empty where there are none."""
        out = ""
        if self.tile:
            out += f"; images above {self.tile} pixels a side also in overlapping tiles of {self.tile}, all merged"
        if len(self.passes) > 1:
            what = [*(["flipped"] if self.flip else []), *([f"at {self._shown()} of the input"] if self.scales else [])]
            out += (
                f"; test-time augmentation: {len(self.passes)} passes ({' and '.join(what)}) joined by weighted box "
                f"fusion from IoU {FUSION_IOU:g}"
            )
        return out

    def _shown(self) -> str:
        return ", ".join(f"{scale:g}" for scale in sorted((1.0, *self.scales)))

    def given(
        self, tile: int | None = None, flip: bool | None = None, scales: Sequence[float] | None = None
    ) -> DetectorViews:
        """The same with what is not None put in its place.

        Args:
            tile: Side of the tiles.
            flip: The flipped image too.
            scales: Further scales of the input.
        """
        return DetectorViews(
            self.tile if tile is None else checked_tile(tile),
            self.flip if flip is None else bool(flip),
            self.scales if scales is None else checked_scales(scales),
        )
