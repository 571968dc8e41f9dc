"""Readers of label formats, one module a format; they know no task."""
