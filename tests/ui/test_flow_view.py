"""The view of optical flow: redrawn without the network, whatever the size."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datamodules.flow_files import read_flow
from ui.downloads import Downloads
from visionkit.predictions import FlowField


def test_a_flow_field_is_shown_redrawn_and_handed_out(tmp_path: Path) -> None:
    from ui.views import SIDE
    from ui.views.flow import LONGEST, VIEW, _redraw

    values = np.zeros((2, 300, 2 * SIDE), np.float32)
    values[0, :, SIDE:] = 3.0
    prediction = FlowField(values)
    image = np.zeros((300, 2 * SIDE, 3), np.uint8)
    kept, drawn, reach, words, flo, png = VIEW.show(prediction, image, Downloads(tmp_path))
    assert drawn.shape == (150, SIDE, 3) and kept.size == (150, SIDE)
    assert drawn[0, 0].tolist() == [255, 255, 255] and drawn[0, -1].tolist() == [255, 0, 0]
    assert (reach["value"], reach["maximum"]) == (3.0, LONGEST)
    assert words == "motion of 1.50 px in the mean and 3.00 px at most."
    again = _redraw(kept, 6.0)
    assert again[0, -1].tolist() == [255, 127, 127] and _redraw(None, 1.0) is None
    for path in (flo, png):
        np.testing.assert_array_equal(read_flow(path)[0], values)
