"""Scene flow: the motion of every point in space, from the depth of two moments and the optical flow between them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from visionkit.camera import CameraIntrinsics
from visionkit.errors import DataError
from visionkit.families.matching.pixel_errors import is_outlier


class SceneFlow(NamedTuple):
    """The motion of the points that an image shows.

    Attributes:
        motion: (3, h, w) float32 meters to the right, down and forward, in the axes of the first camera; 0 where it is
            not known.
        known: (h, w) bool.
    """

    motion: np.ndarray
    known: np.ndarray


def scene_flow(
    depth: np.ndarray,
    depth_after: np.ndarray,
    flow: np.ndarray,
    camera: CameraIntrinsics,
    flow_known: np.ndarray | None = None,
) -> SceneFlow:
    """Joins the depth of two moments by optical flow.

    A point is known where both depths are, and where the second image still shows it: there the depth after is read
    between pixels, and not across an edge, where a mean of near and far would be a point in the air.

    Args:
        depth: (h, w) meters at the first moment, 0 not known.
        depth_after: (h, w) meters at the second moment, in the pixels of the second image.
        flow: (2, h, w) pixels to the right and downwards.
        camera: Camera of both images.
        flow_known: (h, w) bool, where the flow is known; everywhere by default.

    Raises:
        DataError: Maps of different sizes.
    """
    import cv2

    height, width = depth.shape
    if depth_after.shape != depth.shape or flow.shape != (2, height, width):
        raise DataError(
            f"depth of {depth.shape} and {depth_after.shape} and flow of {flow.shape[1:]} are no scene; they must agree"
        )
    y, x = np.mgrid[:height, :width].astype(np.float32)
    u, v = x + flow[0].astype(np.float32), y + flow[1].astype(np.float32)
    # Nearest where neighbors are apart by more than a tenth, bilinear on surfaces.
    near = cv2.remap(depth_after.astype(np.float32), u, v, cv2.INTER_NEAREST)
    smooth = cv2.remap(depth_after.astype(np.float32), u, v, cv2.INTER_LINEAR)
    later = np.where(np.abs(smooth - near) <= 0.1 * near, smooth, near)
    known = (depth > 0) & (near > 0) & (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
    if flow_known is not None:
        known &= flow_known
    fx, fy, cx, cy = camera
    before = np.stack([(x + 0.5 - cx) / fx * depth, (y + 0.5 - cy) / fy * depth, depth])
    after = np.stack([(u + 0.5 - cx) / fx * later, (v + 0.5 - cy) / fy * later, later])
    return SceneFlow(np.where(known, after - before, 0).astype(np.float32), known)


def outliers(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    flow: tuple[np.ndarray, np.ndarray],
    known: np.ndarray,
) -> dict[str, float]:
    """KITTI 2015's measures of scene flow (Menze and Geiger, 2015).

    A point is wrong where any of its three values is an outlier, see `is_outlier`.

    Args:
        first: Disparity of the first pair, estimate and truth, (h, w) pixels each.
        second: Disparity that the same points have in the second pair, likewise.
        flow: Optical flow, likewise, (2, h, w) each.
        known: (h, w) bool, where the truth of all is known.

    Returns:
        `D1`, `D2`, `Fl` and `SF`, fractions of the known points; 0 where none is.
    """

    def wrong(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
        error, size = estimate - truth, truth
        if truth.ndim == 3:
            error, size = np.linalg.norm(error, axis=0), np.linalg.norm(truth, axis=0)
        return np.asarray(is_outlier(np.abs(error), np.abs(size))[known])

    each = {"D1": wrong(*first), "D2": wrong(*second), "Fl": wrong(*flow)}
    each["SF"] = each["D1"] | each["D2"] | each["Fl"]
    return {name: float(values.mean()) if values.size else 0.0 for name, values in each.items()}
