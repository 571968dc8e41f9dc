"""Super-resolution: enlarging images with networks that restore detail."""

from tasks.super_resolution.task import SuperResolutionTask

__all__ = ["SuperResolutionTask"]
