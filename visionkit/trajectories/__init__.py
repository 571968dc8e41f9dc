"""Trajectories of a camera: files, alignment of an estimate with the truth, and the errors that the field states.

Everything is numpy, so a task that estimates poses measures by the same code as `visionkit evaluate trajectory`.
"""
