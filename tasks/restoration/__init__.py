"""Restoration: denoising, deblurring, deblocking and inpainting."""
