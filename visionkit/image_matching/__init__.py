"""Matching two photographs: keypoints, descriptors, mutual nearest neighbors, and a model of both views by RANSAC."""

CLASSIC_RATIO, MODEL_RATIO = 0.8, 0.95
"""Largest usual ratio of a match's cost to that of the next best: of SIFT and ORB (Lowe, 2004), and of a network."""
