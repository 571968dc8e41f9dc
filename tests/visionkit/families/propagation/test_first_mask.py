"""Which masks of a first frame are understood, and what is reported of others."""

from __future__ import annotations

import numpy as np
import pytest

from visionkit.errors import DataError
from visionkit.families.propagation.first_mask import checked_mask


def mask(*values: int, kind: type = np.uint8) -> np.ndarray:
    return np.array([[0, *values]], kind)


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        (mask(1, 2), [[0, 1, 2]]),
        (mask(255, 0), [[0, 1, 0]]),
        (mask(1, 0, kind=bool), [[0, 1, 0]]),
        (mask(7, 30), [[0, 7, 30]]),
        (mask(1, 2, 255), [[0, 1, 2, 255]]),
        (mask(1, 2, kind=np.uint16), [[0, 1, 2]]),
        (mask(1, 2, kind=float), [[0, 1, 2]]),
        (np.repeat(mask(255)[..., None], 3, 2), [[0, 1]]),
        (np.arange(60)[None], [[*range(60)]]),
    ],
)
def test_masks_that_are_understood(given: np.ndarray, labels: list[list[int]]) -> None:
    found = checked_mask(given, given.shape[:2])
    assert found.dtype == np.uint8 and found.tolist() == labels


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (mask(0, 0), "no object in it, all pixels are 0"),
        (mask(3, 90, 255), "4 gray levels"),
        (np.arange(0, 250, 3)[None], "gray levels"),
        (mask(1, 300, kind=np.uint16), "value 300: objects are 1 to 254"),
        (mask(-2, 1, kind=np.int16), "value -2"),
        (mask(1, 2, kind=float) / 3, "fractions"),
        (np.stack([mask(1), mask(2), mask(3)], axis=-1), "is in color"),
        (np.zeros((2, 2, 2, 2)), "has shape"),
        (mask(1) * 0 + 255 * np.eye(1, 2, 1, dtype=np.uint8).T, "2x2 pixels, and the frame has 2x1"),
    ],
)
def test_masks_that_are_not(given: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        checked_mask(given, (1, 2) if given.ndim == 2 and "2x1" in message else None)
