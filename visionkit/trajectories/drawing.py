"""Two trajectories as an image: from above, their third coordinate, and how far they are apart."""

from __future__ import annotations

from PIL import Image

from visionkit.run_report.plots import Line, Panel, beside, draw_panel
from visionkit.trajectories.poses import Trajectory
from visionkit.trajectories.trajectory_errors import absolute_errors

_SIZE = (560, 560)
_MARGINS = (80, 150)  # of a panel, beside and below and above its curves


def draw_trajectories(truth: Trajectory, estimate: Trajectory) -> Image.Image:
    """Both paths in the plane of the truth's two longest axes, at one scale, and two curves over the poses.

    Args:
        truth: True poses.
        estimate: As many estimated ones, aligned.
    """
    places = {"truth": truth.positions, "estimate": estimate.positions}
    extents = [float(each) for each in truth.positions.max(axis=0) - truth.positions.min(axis=0)]
    across, up = sorted(sorted(range(3), key=lambda axis: -extents[axis])[:2])
    third = 3 - across - up
    middle = {axis: float(truth.positions[:, axis].min()) + extents[axis] / 2 for axis in (across, up)}
    room = (_SIZE[0] - _MARGINS[0], _SIZE[1] - _MARGINS[1])
    per_pixel = 1.15 * max(extents[across] / room[0], extents[up] / room[1], 1e-9)
    limits = [
        (middle[axis] - per_pixel * size / 2, middle[axis] + per_pixel * size / 2)
        for axis, size in zip((across, up), room, strict=True)
    ]
    plane = Panel(
        "Trajectories",
        f"{'xyz'[across]} (m)",
        f"{'xyz'[up]} (m)",
        [Line(name, each[:, across].tolist(), each[:, up].tolist()) for name, each in places.items()],
        x_limits=limits[0],
        y_limits=limits[1],
    )
    frames = list(range(len(truth)))
    height = Panel(
        "Third coordinate",
        "pose",
        f"{'xyz'[third]} (m)",
        [Line(name, frames, each[:, third].tolist()) for name, each in places.items()],
        whole_x=True,
    )
    apart = absolute_errors(estimate, truth).translation.tolist()
    error = Panel("Absolute pose error", "pose", "APE (m)", [Line("", frames, apart)], whole_x=True)
    return beside([draw_panel(each, _SIZE) for each in (plane, height, error)], columns=3)
