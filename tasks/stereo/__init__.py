"""Stereo: the disparity between the two images of a rectified pair."""

from tasks.stereo.task import StereoTask

__all__ = ["StereoTask"]
