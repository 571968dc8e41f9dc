"""Training patches out of whole images: where they lie, what surrounds them, and how they are flipped and rotated."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from datamodules.image_store import ImageStore, PixelCache
from visionkit.types import Sample


class FileSamples(Sequence[Sample]):
    """Samples of image files, each with a partner where one lies beside it.

    Args:
        store: The images.
        cache: Decoded images, or None.
        partners: Their partners, in the same order, or None.
        times: How often an image is there: as many patches are cut out of it in an epoch.
    """

    def __init__(
        self, store: ImageStore, cache: PixelCache | None, partners: ImageStore | None, times: int = 1
    ) -> None:
        self.store, self.cache, self.partners, self.times = store, cache, partners, times

    def __len__(self) -> int:
        return len(self.store) * self.times

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        return self.sample(range(len(self))[index] // self.times)

    @abstractmethod
    def sample(self, number: int) -> Sample:
        """The sample of the image of that number."""

    def image(self, number: int) -> np.ndarray:
        """The image of that number, (h, w, 3) uint8; it may not be written to."""
        source = self.store.source(number)
        if self.cache is not None:
            source = self.cache.source(self.store, number, number)
        return source.read()

    def partner(self, number: int) -> np.ndarray | None:
        """Its partner, (h, w, 3) uint8."""
        return None if self.partners is None else self.partners.source(number).read()


def filled(image: np.ndarray, least: int) -> np.ndarray:
    """Reflects the right and bottom of (h, w, C) until both sides have `least` pixels."""
    height, width = image.shape[:2]
    if min(height, width) >= least:
        return image
    return np.pad(image, ((0, max(0, least - height)), (0, max(0, least - width)), (0, 0)), mode="symmetric")


def turned(image: np.ndarray, ways: int) -> np.ndarray:
    """One of the eight flipped and rotated forms of (h, w, C), as a view."""
    rotated = np.rot90(image, ways % 4)
    return rotated[:, ::-1] if ways >= 4 else rotated


def place_patch(size: tuple[int, ...], patch_size: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draws the top and left of a patch inside an image of that height and width."""
    return int(rng.integers(size[0] - patch_size + 1)), int(rng.integers(size[1] - patch_size + 1))


def cut_with_surroundings(
    image: np.ndarray, top: int, left: int, size: int, reach: int, grid: int = 1, wraps: bool = False
) -> tuple[np.ndarray, int, int]:
    """A patch with what surrounds it, as far as the image goes.

    Args:
        image: (h, w, ...).
        top: First row of the patch.
        left: First column of the patch.
        size: Side of the patch in pixels.
        reach: Pixels around it.
        grid: The surroundings begin and end at multiples of it, or where the image does, so they can be more than
            `reach`.
        wraps: The image goes on beyond its border with its other side.

    Returns:
        The part, and the row and column at which the patch begins in it.
    """
    y1, x1 = ((start - reach) // grid * grid for start in (top, left))
    y2, x2 = (-(-(start + size + reach) // grid) * grid for start in (top, left))
    height, width = image.shape[:2]
    if wraps and (y1 < 0 or x1 < 0 or y2 > height or x2 > width):
        return image[np.arange(y1, y2) % height][:, np.arange(x1, x2) % width], top - y1, left - x1
    y1, x1 = max(y1, 0), max(x1, 0)
    return image[y1 : min(y2, height), x1 : min(x2, width)], top - y1, left - x1
