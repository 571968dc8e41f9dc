"""The cache of public weights: what lies in it is used without asking the network anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""The files that hold the weights in a repository of the hub, the preferred first."""


def cached_weights(cfg: Any) -> Path | None:
    """The file with public weights, where it is at hand: the hub's cache (`HF_HOME`) or torch's (`TORCH_HOME`).

    Args:
        cfg: Timm's `PretrainedCfg`.
    """
    if cfg.file:
        return Path(cfg.file)
    if cfg.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        repository, _, revision = cfg.hf_hub_id.partition("@")
        for file in (cfg.hf_hub_filename,) if cfg.hf_hub_filename else HUB_FILES:
            cached = try_to_load_from_cache(repository, file, revision=revision or None)
            if isinstance(cached, str):
                return Path(cached)
    elif cfg.url:
        target = torch_folder() / torch_file(cfg.url)[1]
        if target.is_file():
            return target
    return None


def torch_folder() -> Path:
    """Where torch keeps weights that were downloaded from a plain address."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def torch_file(url: str | tuple[str, str]) -> tuple[str, str]:
    """Address and filename in the cache of weights behind a plain address."""
    return url if isinstance(url, tuple) else (url, Path(urlparse(url).path).name)
