"""What tasks share that match the pixels of two images."""
