"""What a benchmark ran on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path


def machine() -> dict[str, str]:
    """Processor, accelerator and versions."""
    import torch

    name = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux: the platform's own word will do
    out = {"cpu": f"{name}, {os.cpu_count()} cores", "threads": os.environ.get("OMP_NUM_THREADS", "?")}
    if torch.cuda.is_available():
        out["gpu"] = torch.cuda.get_device_name()
    out["python"] = platform.python_version()
    for package in ("torch", "torchvision", "lightning", "timm", "onnxruntime", "simplejpeg", "pillow"):
        out[package] = importlib.metadata.version(package)
    return out
