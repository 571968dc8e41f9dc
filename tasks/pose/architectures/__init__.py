"""The architectures of pose estimation; `pyproject.toml` registers them."""
