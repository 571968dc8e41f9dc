"""What `visionkit evaluate` measures: predictions that lie in files, of whatever program, against their ground truth."""
