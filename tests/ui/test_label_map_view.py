"""The view of label maps: redrawn without the network, whatever the size."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ui.downloads import Downloads
from visionkit.predictions import LabelMap


def test_a_label_map_is_shown_redrawn_and_handed_out(tmp_path) -> None:
    from ui.views import SIDE
    from ui.views.label_map import VIEW, _redraw

    labels = np.zeros((300, 2 * SIDE), dtype=np.uint8)
    labels[:, SIDE:] = 1
    prediction, image = LabelMap(("sky", "<b>road</b>"), labels), np.full((*labels.shape, 3), 90, np.uint8)
    kept, drawn, opacity, rows, path = VIEW.show(prediction, image, Downloads(tmp_path))
    assert drawn.shape == (150, SIDE, 3) and kept[0].size == (150, SIDE)
    assert rows == [["sky", "50.0%", 300 * SIDE], ["<b>road</b>", "50.0%", 300 * SIDE]]
    clear, full = _redraw(kept, 0), _redraw(kept, 100)
    assert (clear[-1, 40:60] == 90).all(), "without opacity the image is as it was"
    assert not np.array_equal(full[-1, 50], full[-1, -50]) and opacity == 55
    with Image.open(path) as file:
        assert file.mode == "P" and np.array_equal(np.asarray(file), labels)
    assert _redraw(None, 50) is None
