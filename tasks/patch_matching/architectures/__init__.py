"""The architectures of patch matching, one file per family; `pyproject.toml` registers them."""
