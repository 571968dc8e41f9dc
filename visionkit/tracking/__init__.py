"""Following objects through a video: trackers behind `Tracker.update`, files of tracks, and how tracks are measured.

A tracker is one file here and one entry point of the group `visionkit.trackers`; see `visionkit.tracking.tracker`.
"""
