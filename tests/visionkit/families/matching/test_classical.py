"""Flow without training: its known errors on a real pair."""

from __future__ import annotations

import numpy as np
import pytest

from datamodules.flow_files import read_flow
from tests.real_data import real_data
from visionkit.errors import UsageError
from visionkit.families.matching.classical import FlowMethod, classical_flow
from visionkit.images import ImageSource


@pytest.mark.parametrize(("method", "epe"), [("dis", 2.014), ("farneback", 2.973)])
def test_errors_on_the_middlebury_pair(method: FlowMethod, epe: float) -> None:
    folder = real_data("optical_flow/middlebury_pair")
    first, second = (ImageSource(folder / name).read() for name in ("frame10.png", "frame11.png"))
    found = classical_flow(first, second, method)
    assert found.dtype == np.float32 and found.shape == (2, 480, 640)
    assert np.hypot(*(found - read_flow(folder / "flow10.flo")[0])).mean() == pytest.approx(epe, abs=0.02)


def test_an_unknown_method_is_refused() -> None:
    image = np.zeros((32, 32), np.uint8)
    with pytest.raises(UsageError, match="did you mean 'dis'"):
        classical_flow(image, image, "dsi")  # type: ignore[arg-type]
