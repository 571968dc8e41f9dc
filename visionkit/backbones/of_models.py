"""What a MODEL stands for where a backbone is needed: a network by its name, or the backbone of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from visionkit.backbones.hub_names import hub_backbone
from visionkit.errors import CheckpointError, UsageError
from visionkit.model_files import HUB, public_name


def backbone_of(model: str) -> tuple[str, dict[str, Any]]:
    """Name of a backbone, and the arguments of `Backbone` that bring its weights.

    Args:
        model: `timm:resnet18`, `resnet18` or a network of the hub (`hf-hub:user/name`), whose public weights are taken;
            or a checkpoint, a run, or a bundle, here or on the hub.

    Raises:
        UsageError: A trained model that has no backbone, or whose images have other channels than videos.
        CheckpointError: The model cannot be opened.
        EnvironmentFault: It is on the hub and cannot be brought.
    """
    public = public_name(model)
    if _is_network(model, public):
        return public[1] if public and public[0] == "timm" else model, {"pretrained": True}
    from visionkit.checkpoint import read_model
    from visionkit.hub import local

    path = local(model)
    stored = read_model(path)
    name = stored.config.get("backbone")
    if not isinstance(name, str):
        raise UsageError(
            f"{model}: a model of {stored.task} without a backbone; give one on a backbone, or a network's name such "
            "as timm:resnet18"
        )
    channels = (stored.config.get("input") or {}).get("channels", 3)
    if channels not in (1, 3):
        raise UsageError(f"{model}: its images have {channels} channels, and those of a video have 3")
    return name, {"weights": str(path), "in_chans": channels}


def _is_network(model: str, public: tuple[str, str] | None) -> bool:
    """Whether a network is named: any word that is no path is, so what is misspelled is met by the nearest name."""
    if public is None:
        is_path = Path(model).exists() or bool(set(model) & set("/\\")) or model.endswith(".ckpt")
        return not is_path
    if public[0] != HUB:
        return public[0] == "timm"
    try:
        return hub_backbone(model) is not None
    except CheckpointError:  # a bundle
        return False
