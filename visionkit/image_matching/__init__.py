"""Matching two photographs: keypoints, descriptors, mutual nearest neighbors, and a model of both views by RANSAC."""
