"""What `visionkit evaluate` measures: predictions in files, of whatever program, against their ground truth."""
