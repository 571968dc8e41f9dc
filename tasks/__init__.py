"""One folder per task, the same file names in each: task, network, loss, postprocess."""
