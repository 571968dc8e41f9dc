"""The networks of optical flow, one per file; `pyproject.toml` registers them."""
