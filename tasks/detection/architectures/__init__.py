"""The architectures of detection, one per file; `pyproject.toml` registers them."""
