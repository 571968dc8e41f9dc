"""What `visionkit analyze` states about a model on a split, beyond its metrics: where it is wrong, and how.

A task names its `Analysis` (`VisionTask.analysis`), which gets every image with its prediction and its truth, and keeps
what its tables need. `Collected` ranks the images and groups them by what is known of them; `write_report` puts all of
it into a folder.
"""
