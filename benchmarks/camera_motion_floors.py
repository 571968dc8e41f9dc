"""Models of camera motion beside the essential matrix and beside no motion at all, on the same clips.

`python -m benchmarks.camera_motion_floors MODEL [MODEL ...] [--clips 20] [--out results.json]`

Clips of the test split of `ClipData` are drawn as those of `drawn_camera_motion`: nothing but the camera moves. The
essential matrix is OpenCV's, by RANSAC on corners that are followed from frame to frame (Lucas and Kanade), as visual
odometry does, from the true intrinsics. It states the direction of a step and not how long it is; so it stands here
twice, with steps of one length and with each of its true length. Depth has the measures of the task: each image is
scaled by the ratio of medians, and the depth that is the same everywhere stands beside it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Estimate = Callable[[Any], tuple[np.ndarray, Any]]
"""A batch to the motion (B, 4, 4) to each frame, and the depth (B, h, w) as a tensor, or None."""


def served(path: str) -> tuple[Any, Estimate]:
    """A model with its task."""
    import torch

    from visionkit.checkpoint import load_task

    task: Any = load_task(path)

    def estimate(batch: Any) -> tuple[np.ndarray, Any]:
        with torch.no_grad():
            decoded = task.decode(task(batch["inputs"]["image"]))
        return decoded.motion.numpy(), decoded.depth

    return task, estimate


def essential_matrix(batch: Any, true_length: bool) -> tuple[np.ndarray, Any]:
    """The motion to each frame from the frame before it in its clip.

    Args:
        batch: Clips of one sequence, in order.
        true_length: Take the length of each step from the truth.

    Returns:
        The motions, of length 1 or as long as the true ones, and a depth that is the same everywhere.
    """
    import torch

    from visionkit.trajectories.poses import motions

    clips = batch["inputs"]["image"].permute(0, 1, 3, 4, 2).numpy()
    poses, intrinsics = batch["target"]["pose"].numpy(), batch["target"]["intrinsics"].numpy()
    found = np.tile(np.eye(4), (len(clips), 1, 1))
    # At the start of a sequence a clip repeats its first frame, so there is no step.
    lengths = np.linalg.norm(motions(poses[:-1], poses[1:])[:, :3, 3], axis=1)
    for number in range(1, len(clips)):
        step = _step(clips[number, -2], clips[number, -1], intrinsics[number])
        step[:3, 3] *= lengths[number - 1] if true_length else 1
        found[number] = step
    return found, torch.ones_like(batch["target"]["depth"])


def _step(before: np.ndarray, after: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """The pose of the second camera as the first one sees it, (4, 4) with a step of length 1; the identity if none."""
    import cv2

    library: Any = cv2  # its types are those of one version alone
    step = np.eye(4)
    fx, fy, cx, cy = intrinsics
    matrix = np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]], np.float64)  # OpenCV counts from pixel centers
    gray = [library.cvtColor(each, library.COLOR_RGB2GRAY) for each in (before, after)]
    corners = library.goodFeaturesToTrack(gray[0], 500, 0.005, 4)
    if corners is None:
        return step
    moved, is_found, _ = library.calcOpticalFlowPyrLK(*gray, corners, None, winSize=(11, 11), maxLevel=3)
    back, is_back, _ = library.calcOpticalFlowPyrLK(*gray[::-1], moved, None, winSize=(11, 11), maxLevel=3)
    agree = (is_found & is_back).ravel().astype(bool) & (np.abs(corners - back).max(axis=(1, 2)) < 0.5)
    points = [each[agree, 0].astype(np.float64) for each in (corners, moved)]
    if len(points[0]) < 8:
        return step
    essential, inliers = library.findEssentialMat(*points, matrix, method=library.RANSAC, prob=0.999, threshold=0.3)
    if essential is None or essential.shape != (3, 3):
        return step
    _, rotation, translation, _ = library.recoverPose(essential, *points, matrix, mask=inliers)
    step[:3, :3], step[:3, 3] = rotation.T, -(rotation.T @ translation)[:, 0]
    return step


def at_rest(batch: Any) -> tuple[np.ndarray, Any]:
    """No motion, and a depth that is the same everywhere."""
    import torch

    depth = batch["target"]["depth"]
    return np.tile(np.eye(4), (len(depth), 1, 1)), torch.ones_like(depth)


def clips(count: int, spec: Any) -> Any:
    """Batches of clips, one sequence in each, in order.

    Args:
        count: Clips.
        spec: Input of the model.
    """
    from datamodules.clip_data import ClipData
    from visionkit.synthetic import ClipSettings

    length = 12
    settings = ClipSettings(size=spec.size, length=length, speed=0.0, camera_speed=0.3, reach=3.0)
    data = ClipData(
        target="motion", count=1, eval_count=count, clip=settings, batch_size=length, num_workers=0, input=spec
    )
    data.setup("test")
    return data.test_dataloader()


def measured(estimate: Estimate, batches: Any) -> dict[str, float]:
    """AbsRel and the errors of trajectories over all clips."""
    import torch

    from tasks.camera_motion.metrics import TrajectoryErrors
    from visionkit.families.dense.depth_measures import DepthMeasures

    depths, trajectories = DepthMeasures(80.0, "median"), TrajectoryErrors()
    for batch in batches:
        assert len(set(batch["sequence"])) == 1, "a batch is a clip"
        motion, depth = estimate(batch)
        depths.update(depth, batch["target"]["depth"])
        trajectories.update(torch.from_numpy(motion), batch["target"]["pose"], batch["sequence"], batch["frame"])
    values = {"abs_rel": depths.compute()["abs_rel"], **trajectories.compute()}
    return {name: float(value) for name, value in values.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="checkpoints or bundles")
    parser.add_argument("--clips", type=int, default=20, help="drawn clips (default: 20)")
    parser.add_argument("--out", type=Path, help="file of the values, json")
    given = parser.parse_args(argv)
    import torch

    from visionkit.geometry import InputSpec

    torch.set_num_threads(1)
    usual = InputSpec(size=(96, 128), resize_mode="stretch", frames=3)
    floors: dict[str, Estimate] = {
        "no motion, one depth": at_rest,
        "essential matrix, steps of one length": lambda batch: essential_matrix(batch, False),
        "essential matrix, steps of their true length": lambda batch: essential_matrix(batch, True),
    }
    models = {path: served(path) for path in given.models}
    found = {name: measured(method, clips(given.clips, usual)) for name, method in floors.items()}
    found |= {path: measured(estimate, clips(given.clips, task.input)) for path, (task, estimate) in models.items()}
    names = list(next(iter(found.values())))
    print(f"| method | {' | '.join(names)} |\n" + "|---" * (len(names) + 1) + "|")
    for method, values in found.items():
        print(f"| {method} | {' | '.join(f'{values[name]:.4g}' for name in names)} |")
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
