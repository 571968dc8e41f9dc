"""A checkpoint of another network than the one that goes on is refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contracts.cases import build
from visionkit.backbones import AdapterConfig
from visionkit.checkpoint import save_checkpoint
from visionkit.checkpoint_files import misfit, read_checkpoint
from visionkit.errors import CheckpointError

PLAIN: dict[str, Any] = {}
ADAPTED = {"adapters": AdapterConfig(rank=2)}


@pytest.mark.parametrize(
    ("stored", "asked", "words"),
    [
        (PLAIN, ADAPTED, r"it lacks network.backbone.*adapter_.*different now: model.adapters"),
        (ADAPTED, PLAIN, r"it has unknown network.backbone.*adapter_.*different now: model.adapters"),
        (ADAPTED, {"adapters": AdapterConfig(rank=1)}, r"instead of .*different now: model.adapters"),
        (PLAIN, {"drop_path": 0.1}, ""),
    ],
)
def test_settings_that_change_the_network_are_named(
    stored: dict[str, Any], asked: dict[str, Any], words: str, tmp_path: Path
) -> None:
    save_checkpoint(build("classification", **stored), tmp_path / "a.ckpt")
    task, checkpoint = build("classification", **asked), read_checkpoint(tmp_path / "a.ckpt")
    if not words:
        task.on_load_checkpoint(checkpoint)
        return
    with pytest.raises(CheckpointError, match=words) as caught:
        task.on_load_checkpoint(checkpoint)
    assert "with --init_from" in str(caught.value)


def test_what_does_not_fit_is_named() -> None:
    two = {"a": torch.zeros(2), "b": torch.zeros(3)}
    assert misfit(two, dict(two)) == ""
    assert misfit(two, {"a": torch.zeros(2)}) == "it lacks b"
    assert misfit({"a": torch.zeros(2)}, two) == "it has unknown b"
    assert misfit(two, {**two, "b": torch.zeros(4)}) == "b is (4,) instead of (3,)"
    assert misfit({}, {str(k): torch.zeros(1) for k in range(6)}) == "it has unknown 0, 1, 2, 3 and 2 more"
