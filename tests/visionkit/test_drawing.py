"""Drawing: words that can be read, whatever the image's size."""

from __future__ import annotations

import numpy as np
import pytest

from visionkit.drawing import enlarged, font, shortened
from visionkit.predictions import Classification, Prediction

ANSWER = Classification(
    ("tabby cat", "a class whose name is far too long for small images", "fox"), np.array([0.7, 0.2, 0.1])
)


@pytest.mark.parametrize(
    ("size", "drawn"),
    [
        ((32, 32), (256, 256)),
        ((1, 1), (256, 256)),
        ((200, 300), (200, 300)),
        ((3000, 4000), (3000, 4000)),
        ((2000, 40), (2000, 40)),
        ((20, 1500), (20, 1500)),
        ((28, 100), (84, 300)),
    ],
)
def test_every_size_is_drawn_upon(size, drawn):
    image = np.full((*size, 3), 90, np.uint8)
    before = image.copy()
    found = ANSWER.draw(image)
    assert found.shape == (*drawn, 3) and found.dtype == np.uint8
    assert np.array_equal(image, before), "the caller's image is not changed"
    changed = (found != 90).any(axis=2)
    assert changed.any()
    if min(drawn) >= 200:
        assert found.max() > 230, "ink"
        assert changed[: drawn[0] // 2].any() and not changed[drawn[0] // 2 :].any(), (
            "the plate stays in the upper half"
        )
        ink = (found.min(axis=2) > 200).any(axis=1).nonzero()[0]
        assert np.diff(ink).max() > 1, "more than one line"


def test_letters_grow_with_the_image():
    heights = []
    for side in (256, 1024, 2048):
        plate = (ANSWER.draw(np.full((side, side, 3), 90, np.uint8)) != 90).any(axis=2)
        heights.append(int(plate.any(axis=1).sum()))
    assert heights[0] >= 40 and heights[1] > 2 * heights[0] * 0.8 and heights[2] > 1.3 * heights[1]


def test_bars_show_probabilities():
    def blue(probability: float) -> int:
        prediction = Classification(("a", "b"), np.array([probability, 1 - probability]))
        found = prediction.draw(np.zeros((400, 400, 3), np.uint8)).astype(int)
        bar = (found[..., 2] > 200) & (found[..., 0] < 120)
        return max(int(row.sum()) for row in bar[:60])

    assert blue(0.99) / blue(0.6) == pytest.approx(0.99 / 0.6, rel=0.05)


def test_several_labels_or_none():
    image = np.full((300, 300, 3), 90, np.uint8)
    none = Classification(("a", "b"), np.array([0.1, 0.2]), multilabel=True)
    assert np.array_equal(none.draw(image), image)
    one = Classification(("a", "b"), np.array([0.9, 0.2]), multilabel=True).draw(image)
    two = Classification(("a", "b"), np.array([0.9, 0.8]), multilabel=True).draw(image)
    assert (two != image).sum() > 1.4 * (one != image).sum()


def test_gray_images_and_odd_names():
    prediction = Classification(("日本 \n ümlaut <b>", ""), np.array([1.0, 0.0]))
    assert prediction.draw(np.zeros((50, 60), np.uint8)).shape == (250, 300, 3)


def test_long_words_end_in_an_ellipsis():
    letters = font(20)
    short = shortened("a class name of great length", letters, 100)
    assert short.endswith("…") and letters.getlength(short) <= 100
    assert shortened("cat", letters, 100) == "cat"


def test_enlarged_by_whole_pixels():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    found = enlarged(image, 7)
    assert found.shape == (8, 8, 3) and np.array_equal(found[::4, ::4], image) and (found[:4, :4] == image[0, 0]).all()


def test_an_unknown_kind_is_reported():
    class Strange(Prediction):
        kind = "strange"

        def to_json(self):
            return {}

        @classmethod
        def _from_json(cls, record):
            return cls()

    try:
        with pytest.raises(TypeError, match="no drawing for Strange"):
            Strange().draw(np.zeros((4, 4, 3), np.uint8))
    finally:
        Prediction._kinds.pop("strange")
