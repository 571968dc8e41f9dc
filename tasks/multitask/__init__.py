"""One backbone, many heads: several tasks predicted from one pass."""

from tasks.multitask.task import MultiTask

__all__ = ["MultiTask"]
