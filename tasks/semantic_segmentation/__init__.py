"""Semantic segmentation: which class does every pixel belong to?"""

from tasks.semantic_segmentation.task import SemanticSegmentationTask

__all__ = ["SemanticSegmentationTask"]
