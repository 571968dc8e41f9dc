"""The frames of one video in order: where the camera is by now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from visionkit.predictions import CameraMotion
from visionkit.session import Session

if TYPE_CHECKING:
    from visionkit.inputs import Given
    from visionkit.predictor import Predictor
    from visionkit.results import Progress, Result


class MotionSession(Session):
    """Adds up the motions of the frames of a video."""

    def __init__(self, predictor: Predictor, **options: Any) -> None:
        super().__init__(predictor, **options)
        self._pose: np.ndarray | None = None

    def examine(self, image: Given, time: float | None = None, progress: Progress | None = None) -> Result:
        result = super().examine(image, time, progress)
        found = result.prediction
        assert isinstance(found, CameraMotion)
        if self._pose is None:  # before the first frame there is none that it could have moved from
            self._pose = np.eye(4)
            return result._replace(prediction=replace(found, motion=np.eye(4), pose=self._pose))
        self._pose = self._pose @ found.motion
        return result._replace(prediction=replace(found, pose=self._pose))
