"""Restoration: denoising, deblurring, deblocking and inpainting."""

from tasks.restoration.task import RestorationTask

__all__ = ["RestorationTask"]
