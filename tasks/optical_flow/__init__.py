"""Optical flow: how far every pixel moves to the other image."""

from tasks.optical_flow.task import OpticalFlowTask

__all__ = ["OpticalFlowTask"]
