"""Object detection: boxes with classes."""

from tasks.detection.task import DetectionTask

__all__ = ["DetectionTask"]
