"""Backbones that are named by a repository of the hub: `hf-hub:timm/resnet18.a1_in1k`, `hf-hub:user/name`.

Only the name of the architecture and what the weights expect are taken from its `config.json`, as timm writes it. A
checkpoint stores the architecture, so it is built again without the hub.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from timm.models import PretrainedCfg, is_model

from visionkit.errors import CheckpointError
from visionkit.hub import Repository, weights_file
from visionkit.model_files import HUB, public_name

CONFIG = "config.json"


@dataclass(frozen=True)
class HubBackbone:
    """A repository that holds a network of timm.

    Attributes:
        architecture: The network, as timm names it.
        weights: The file, in the hub's cache.
        cfg: What its weights expect: timm's `PretrainedCfg`.
    """

    architecture: str
    weights: Path
    cfg: PretrainedCfg


@functools.lru_cache(maxsize=16)
def hub_backbone(name: str) -> HubBackbone | None:
    """The network behind a name of the hub, brought into its cache; None for any other name.

    Raises:
        CheckpointError: The repository holds no network of timm.
        EnvironmentFault: It is not in the cache and the hub cannot be reached.
        UsageError: No such repository, or it may not be read.
    """
    public = public_name(name)
    if public is None or public[0] != HUB:
        return None
    weights = weights_file(Repository.of(public[1]))
    path = weights.with_name(CONFIG)
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{name}: it has no {CONFIG} as timm writes it, so its network is not known") from error
    architecture = facts.get("architecture") if isinstance(facts, dict) else None
    if not isinstance(architecture, str) or "." in architecture or not is_model(architecture):
        raise CheckpointError(f"{name}: its {CONFIG} names no network of timm (architecture: {str(architecture)[:60]})")
    return HubBackbone(architecture, weights, _cfg(name, facts.get("pretrained_cfg")))


def architecture_of(name: str) -> str:
    """The network that a backbone's name stands for: the name itself, unless it is one of the hub."""
    found = hub_backbone(name)
    return name if found is None else found.architecture


def _cfg(name: str, stated: Any) -> PretrainedCfg:
    known = {each.name for each in fields(PretrainedCfg)} - {"url", "file", "state_dict", "hf_hub_id", "custom_load"}
    pairs = stated.items() if isinstance(stated, Mapping) else ()
    given: dict[str, Any] = {
        key: tuple(each) if isinstance(each, list) else each for key, each in pairs if key in known
    }
    try:
        cfg = PretrainedCfg(**given)
        numbers = (*cfg.input_size, *cfg.mean, *cfg.std, cfg.crop_pct)
        sound = all(isinstance(each, (int, float)) and 0 <= each < math.inf for each in numbers)
        if (
            len(cfg.input_size) != 3
            or not sound
            or not all(1 <= side <= 4096 for side in cfg.input_size)
            or 0 in cfg.std
        ):
            raise ValueError("input_size, mean, std or crop_pct")
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: its {CONFIG} states no input that a network could have ({error})") from error
    return cfg
