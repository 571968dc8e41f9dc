"""One folder a task; the same file names inside each."""
