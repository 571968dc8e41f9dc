"""Depth and the motion of the camera, learned from video without labels."""
