"""A trajectory that was estimated against the true one: APE, RPE and the snippets of SfMLearner."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from ui.evaluation.measured import Measured
from visionkit.errors import EnvironmentFault, UsageError, suggest

_PARTS = {"translation": "meters", "rotation": "degrees"}
_ALIGNED = {
    "none": "without alignment",
    "se3": "after SE(3) alignment (Umeyama, no scale)",
    "sim3": "after Sim(3) alignment (Umeyama, scale {scale:.6g})",
}


@dataclass(frozen=True)
class TrajectoryOptions:
    """What is measured.

    Attributes:
        alignment: none, se3 or sim3.
        delta: Frames or meters between the two poses of RPE.
        delta_unit: frames or meters.
        all_pairs: A pair of RPE begins at every pose, not where the one before has ended.
        max_difference: Largest difference of two times in seconds.
        snippet: Frames of a snippet.
        draw: A png to draw both trajectories to.

    Raises:
        UsageError: A value that is not allowed.
    """

    alignment: str = "se3"
    delta: float = 1.0
    delta_unit: str = "frames"
    all_pairs: bool = False
    max_difference: float = 0.02
    snippet: int = 5
    draw: Path | None = None

    def __post_init__(self) -> None:
        from visionkit.trajectories.alignment import Alignment
        from visionkit.trajectories.trajectory_errors import DeltaUnit

        named = (("--alignment", self.alignment, Alignment), ("--delta-unit", self.delta_unit, DeltaUnit))
        for option, value, kind in named:
            if value not in (allowed := get_args(kind)):
                raise UsageError(f"{option} {value}: allowed are {', '.join(allowed)}{suggest(value, allowed)}")
        if self.delta <= 0 or (self.delta_unit == "frames" and self.delta != int(self.delta)):
            raise UsageError(f"--delta {self.delta:g}: allowed are numbers above 0, of frames whole ones")
        if self.max_difference < 0:
            raise UsageError(f"--max-difference {self.max_difference:g}: seconds, at least 0")
        if self.snippet < 2:
            raise UsageError(f"--snippet {self.snippet}: at least 2 frames are needed")
        if self.draw is not None and self.draw.suffix.lower() != ".png":
            raise UsageError(f"--draw {self.draw}: give the name of a .png file")


def measure_trajectory(truth: Path, estimate: Path, options: TrajectoryOptions) -> Measured:
    """Measures one trajectory.

    Args:
        truth: File of the true poses, KITTI's or TUM's.
        estimate: File of the estimated ones in the same format.
        options: What is measured.

    Raises:
        DataError: A file that cannot be read, poses that do not belong together, or a trajectory that is too short.
        EnvironmentFault: The drawing cannot be written.
    """
    from visionkit.trajectories.alignment import alignment_of, turns_freely
    from visionkit.trajectories.pose_files import read_trajectory
    from visionkit.trajectories.poses import associate
    from visionkit.trajectories.trajectory_errors import (
        absolute_errors,
        pose_pairs,
        relative_errors,
        snippet_errors,
        statistics,
    )

    files = read_trajectory(truth), read_trajectory(estimate)
    true, found = associate(*files, options.max_difference)
    alignment: Any = options.alignment
    unit: Any = options.delta_unit
    similarity = alignment_of(found, true, alignment)
    moved = similarity.apply(found)
    pairs = pose_pairs(moved, options.delta, unit, options.all_pairs)
    errors = {"ape": absolute_errors(moved, true), "rpe": relative_errors(moved, true, pairs)}
    measured = {(name, part): statistics(getattr(each, part)) for name, each in errors.items() for part in _PARTS}
    tables = [{"error": f"{name.upper()} {_PARTS[part]}", **values} for (name, part), values in measured.items()]
    metrics = {
        f"{name}{'_rotation' if part == 'rotation' else ''}_rmse": values["rmse"]
        for (name, part), values in measured.items()
    }
    if len(true) >= options.snippet:
        snippets = snippet_errors(found, true, options.snippet)
        metrics |= {"snippet_ate": float(snippets.mean()), "snippet_ate_std": float(snippets.std())}
    protocol = (
        f"{len(true)} poses; APE {_ALIGNED[alignment].format(scale=similarity.scale)}, in m and degrees; RPE of the "
        f"same over {options.delta:g} {unit}{' along the estimate' if unit == 'meters' else ''}, {len(pairs)} "
        f"{'of all' if options.all_pairs else 'consecutive'} pairs; snippet_ate is SfMLearner's: mean over snippets of "
        f"{options.snippet} frames, each seen from its first and scaled by least squares, root of the sum of squares / "
        f"{options.snippet}"
    )
    notes = [
        f"{len(whole) - len(true)} of {len(whole)} poses of {path} have no counterpart and are left out"
        for path, whole in zip((truth, estimate), files, strict=True)
        if len(whole) > len(true)
    ]
    if alignment != "none" and turns_freely(found.positions):
        notes.append(
            f"the positions of {estimate} lie on a line, about which an alignment may turn: ignore APE's rotation"
        )
    if options.draw is not None:
        from visionkit.trajectories.drawing import draw_trajectories

        try:
            options.draw.parent.mkdir(parents=True, exist_ok=True)
            draw_trajectories(true, moved).save(options.draw)
        except OSError as error:
            raise EnvironmentFault(f"{options.draw}: cannot be written ({error.strerror})") from error
    rows = [
        {
            "pose": k,
            **({} if true.times is None else {"time": float(true.times[k])}),
            "ape": far,
            "ape_rotation": turned,
        }
        for k, (far, turned) in enumerate(zip(*(each.tolist() for each in errors["ape"]), strict=True))
    ]
    return Measured(metrics, protocol, {"statistics": tables}, rows, notes)
