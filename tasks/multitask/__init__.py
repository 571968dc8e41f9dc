"""One backbone, many heads: several tasks answered from one pass."""

from tasks.multitask.task import MultiTask

__all__ = ["MultiTask"]
