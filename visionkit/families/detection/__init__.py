"""What detectors share: boxes, anchors, selection, the two-stage network, and the base of their tasks.

Detection, instance segmentation and later the boxes of pose are built from these parts; what only one of them has lies
in its own folder of `tasks`.
"""
