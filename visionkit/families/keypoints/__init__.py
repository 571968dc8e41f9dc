"""Keypoints: skeletons by the names of their keypoints, heatmaps, and OKS."""
