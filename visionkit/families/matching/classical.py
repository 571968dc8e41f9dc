"""Optical flow without training, as a floor: OpenCV's DIS and Farneback."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from visionkit.errors import UsageError, suggest

FlowMethod = Literal["dis", "farneback"]

FARNEBACK = (0.5, 3, 15, 3, 5, 1.2, 0)
"""Settings of OpenCV's own example: scale of the pyramid and its levels, window, iterations, neighborhood and sigma."""


def classical_flow(first: np.ndarray, second: np.ndarray, method: FlowMethod = "dis") -> np.ndarray:
    """The motion of every pixel from a first image to a second one.

    Args:
        first: (h, w, 3) uint8 RGB, or (h, w) gray.
        second: The same of the second image.
        method: `dis`, dense inverse search at its medium preset (Kroeger et al., 2016), or `farneback`, polynomial
            expansion (Farneback, 2003).

    Returns:
        (2, h, w) float32 pixels to the right and downwards.

    Raises:
        UsageError: An unknown method.
    """
    if method not in get_args(FlowMethod):
        allowed = get_args(FlowMethod)
        raise UsageError(f"method {method!r}: allowed are {', '.join(allowed)}{suggest(method, allowed)}")
    import cv2

    library: Any = cv2  # its types are those of one version alone
    one, other = (
        each if each.ndim == 2 else library.cvtColor(each, library.COLOR_RGB2GRAY) for each in (first, second)
    )
    if method == "dis":
        flow = library.DISOpticalFlow_create(library.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(one, other, None)
    else:
        flow = library.calcOpticalFlowFarneback(one, other, None, *FARNEBACK)
    return np.ascontiguousarray(flow.transpose(2, 0, 1), dtype=np.float32)
