"""Objects of a video in color, and the palette of DAVIS."""

from __future__ import annotations

import numpy as np

from visionkit.drawing.object_masks import davis_palette, draw_objects, object_numbers


def test_objects_are_colored_and_the_background_stays() -> None:
    image = np.full((60, 80, 3), 90, np.uint8)
    labels = np.zeros((60, 80), np.uint8)
    labels[10:30, 10:30], labels[35:55, 40:70], labels[0, 0] = 1, 37, 255
    drawn = draw_objects(image, labels)
    assert object_numbers(labels) == [1, 37] and (image == 90).all()
    assert (drawn[57:] == 90).all() and (drawn[:, 75:] == 90).all()
    assert (drawn[20, 20] != 90).any() and np.array_equal(drawn[20, 20], drawn[45, 50])  # colors begin again after 36
    assert (drawn[10, 20] > 200).all() and (drawn[0, 0] == 90).all()
    assert np.array_equal(draw_objects(image, np.zeros_like(labels)), image)


def test_the_palette_is_that_of_davis() -> None:
    assert davis_palette()[:5].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert davis_palette()[8].tolist() == [64, 0, 0] and len(np.unique(davis_palette(), axis=0)) == 256
