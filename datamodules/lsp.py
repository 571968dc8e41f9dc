"""Leeds Sports Poses and its extended set: `joints.mat` beside numbered images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datamodules.object_entries import AnnotatedImage
from datamodules.pose_data import PoseData, around_keypoints
from visionkit.data import Split
from visionkit.errors import DataError

_TEST = 1000
"""The second thousand of LSP's two is for testing."""


class LspData(PoseData):
    """People of LSP: one per image. Box and area are those about the labeled keypoints.

    In the original file (3, 14, N) the third number states that a keypoint is hidden; all are labeled. In the extended
    one (14, 3, N) it states that a keypoint is labeled at all.

    Args:
        root: The folder with `joints.mat` and `images`.
        **base: See `datamodules.pose_data.PoseData`.
    """

    def __init__(self, root: str, *, skeleton: str | dict[str, Any] | None = None, **base: Any) -> None:
        super().__init__(skeleton="lsp14" if skeleton is None else skeleton, **base)
        self.root = Path(root)

    @classmethod
    def linked(cls, name: str, **init_args: Any) -> Any:
        """LSP's own skeleton."""
        return "lsp14" if name == "skeleton" else None

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        path = self.root / "joints.mat"
        keypoints, original = read_keypoints(path, len(self.skeleton), self.skeleton.name)
        whole = original and len(keypoints) > _TEST
        if split == "val" or (split == "test" and not whole):
            return None
        first, last = (_TEST, len(keypoints)) if split == "test" else (0, _TEST if whole else len(keypoints))
        digits = 4 if original else 5
        return [self._entry(path, number, keypoints[number], digits) for number in range(first, last)]

    def _entry(self, path: Path, number: int, keypoints: np.ndarray, digits: int) -> AnnotatedImage:
        box = around_keypoints(keypoints[None])
        return AnnotatedImage(
            file=str(self.root / "images" / f"im{number + 1:0{digits}d}.jpg"),
            place=f"{path} person {number + 1}",
            boxes=box,
            labels=np.zeros(1, dtype=np.int64),
            area=(box[:, 2:] - box[:, :2]).prod(axis=1),
            more={"keypoints": keypoints[None]},
        )


def read_keypoints(path: Path, count: int, skeleton: str) -> tuple[np.ndarray, bool]:
    """Reads `joints.mat`.

    Args:
        path: Path of the file.
        count: Keypoints of the skeleton.
        skeleton: Its name, for messages.

    Returns:
        (N, K, 3) float32 x, y, visibility, and whether it is the original set.

    Raises:
        DataError: Missing, no `.mat` file, or of another shape.
    """
    from scipy.io import loadmat

    try:
        keypoints = np.asarray(loadmat(str(path))["joints"], dtype=np.float64)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give --data.root the folder that holds joints.mat") from None
    except KeyError:
        raise DataError(f"{path}: it holds no variable 'joints'") from None
    except Exception as error:  # scipy raises what the bytes happen to lead to
        raise DataError(f"{path}: cannot be read as a .mat file ({type(error).__name__})") from None
    if keypoints.ndim != 3 or sorted(keypoints.shape[:2]) != sorted((3, count)):
        shape = "x".join(map(str, keypoints.shape))
        raise DataError(
            f"{path}: keypoints of {shape} do not fit skeleton {skeleton}: 3x{count}xN or {count}x3xN is required"
        )
    original = keypoints.shape[0] == 3
    values = keypoints.transpose(2, 1, 0) if original else keypoints.transpose(2, 0, 1)
    out = values.astype(np.float32)
    flag = values[..., 2] > 0
    out[..., 2] = np.where(flag, 1, 2) if original else np.where(flag, 2, 0)
    out[~np.isfinite(values[..., :2]).all(axis=-1)] = 0
    out[out[..., 2] == 0] = 0
    return out, original
