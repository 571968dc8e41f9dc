"""What an analysis of poses takes of each image: people in file pixels, crops of one image put together."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tasks.pose.metrics import image_id, truth_of
from visionkit.analysis.base import Case, Row
from visionkit.families.keypoints.analysis import KeypointAnalysis
from visionkit.families.keypoints.oks import PoseResults


class PoseAnalysis(KeypointAnalysis):
    """That of keypoints, from predictions as they are served."""

    def row(self, case: Case) -> Row:
        target, prediction = case.target, case.prediction
        poses: Any = prediction
        sure = float(target["found"]) if "found" in target else 1.0
        scores = poses.scores.astype(np.float64) * sure
        keep = scores > 0 if "found" in target else np.ones(len(scores), dtype=bool)
        number = image_id(case.name)
        found = PoseResults(np.full(int(keep.sum()), number), poses.keypoints[keep].astype(np.float64), scores[keep])
        known = target["file_keypoints"] if "file_keypoints" in target else case.known["keypoints"]
        keypoints = torch.as_tensor(np.asarray(known, dtype=np.float64)).reshape(-1, len(self.skeleton), 3)
        return self.row_of(found, truth_of(target, keypoints, case.name))
