"""Instance segmentation: boxes with classes, and the outline of each object."""

from tasks.instance_segmentation.task import InstanceSegmentationTask

__all__ = ["InstanceSegmentationTask"]
