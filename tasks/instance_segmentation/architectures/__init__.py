"""The architectures of instance segmentation, one per file; `pyproject.toml` registers them."""
