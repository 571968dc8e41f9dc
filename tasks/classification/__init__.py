"""Image classification, single-label and multi-label, on any timm backbone."""

from tasks.classification.task import ClassificationTask

__all__ = ["ClassificationTask"]
