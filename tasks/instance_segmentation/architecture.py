"""What an architecture of instance segmentation is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor

from tasks.instance_segmentation.postprocess import FoundMasks
from visionkit.families.detection.architecture import DetectionArchitecture
from visionkit.families.detection.select import Thresholds


class MaskArchitecture(DetectionArchitecture):
    """One network that finds boxes and masks: a frozen dataclass whose fields are its arguments."""

    @abstractmethod
    def decode(  # type: ignore[override]  # its task needs masks too
        self,
        network: Any,
        outputs: Any,
        limits: Thresholds,
        threshold: float,
        second: Callable[..., Tensor] | None = None,
    ) -> list[FoundMasks]:
        """Boxes and small masks in input pixels, highest-scoring first.

        Args:
            network: Network that `build` made.
            outputs: What it returned.
            limits: Which boxes are returned.
            threshold: A pixel belongs to an object above it.
            second: The engine of the second stage, in place of the network's own.
        """
