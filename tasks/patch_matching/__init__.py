"""Patch matching: do two patches show the same point?"""

from tasks.patch_matching.task import PatchMatchingTask

__all__ = ["PatchMatchingTask"]
