"""Pose estimation: keypoints of people, hands, animals, on any timm backbone and any skeleton."""

from tasks.pose.task import PoseTask

__all__ = ["PoseTask"]
