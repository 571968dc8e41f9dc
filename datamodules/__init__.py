"""Readers of label formats, one module per format; they know no task."""
