"""Monocular depth: how far is every pixel?"""

from tasks.depth.task import DepthTask

__all__ = ["DepthTask"]
