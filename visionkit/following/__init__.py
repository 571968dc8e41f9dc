"""Following one object whose box is given in the first frame: visual trackers, and how they are measured.

A tracker is one file here and one entry point of the group `visionkit.visual_trackers`; see
`visionkit.following.visual_tracker`.
"""
