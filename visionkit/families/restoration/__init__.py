"""Image to image: residual networks, bicubic resampling and luma."""
