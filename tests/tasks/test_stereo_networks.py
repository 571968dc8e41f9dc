"""The networks of stereo: each one overfits four pairs, and its exported graph states what it states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tasks.stereo import StereoTask
from visionkit.engines import OnnxEngine
from visionkit.export import write_graph
from visionkit.geometry import InputSpec
from visionkit.optim import OptimConfig, build_optimizer

SHIFTS = (2, 4, 7, 9)

TINY: dict[str, dict[str, Any]] = {
    "psmnet": {"max_disparity": 16, "width": 8, "blocks": (1, 1, 1, 1), "channels": 8},
    "psmnet_small": {"max_disparity": 16, "width": 8, "blocks": (1, 1, 1, 1), "channels": 8},
    "timm_cost_volume": {"max_disparity": 16, "backbone": "test_resnet", "channels": 8},
    "mc_cnn_fast": {"max_disparity": 12, "width": 8, "layers": 3, "pairs": 256},
    "mc_cnn_accurate": {"max_disparity": 12, "width": 8, "layers": 3, "hidden": 2, "units": 16, "pairs": 256},
}


def pairs() -> tuple[Tensor, Tensor, Tensor]:
    """Four textures that wrap around, seen `SHIFTS` pixels further to the left by the right camera."""
    noise = torch.rand(4, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    left = torch.nn.functional.interpolate(noise, size=(32, 48), mode="bicubic").clamp(0, 1) * 255
    right = torch.stack([image.roll(-shift, dims=2) for image, shift in zip(left, SHIFTS, strict=True)])
    disparity = torch.tensor(SHIFTS, dtype=torch.float32)[:, None, None].expand(-1, 32, 48)
    return left.byte(), right.byte(), disparity


# PSMNet itself is its small network with more of the same.
@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=pytest.mark.slow) if each == "psmnet" else each for each in TINY]
)
def test_every_network_overfits_four_pairs(name: str) -> None:
    torch.manual_seed(0)
    task = StereoTask(name, **{name: TINY[name]}, optim=OptimConfig(lr=5e-3, weight_decay=0.0)).train()
    left, right, disparity = pairs()
    optimizer = build_optimizer(task.parameter_groups(), task.optim)
    losses = []
    for _ in range(60):
        loss = sum(task.losses(task(left, right), {"disparity": disparity}).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0], "the matching of random networks is not far off where textures are rich"
    with torch.no_grad():
        found = task.eval().decode(task(left, right))
    error = (found - disparity).abs()[:, :, max(SHIFTS) :].mean(dim=(1, 2))  # what lies left of it is not seen twice
    assert error.max() < 1.0, f"of disparities of two to nine pixels: {error.tolist()}"


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_exported_graphs_agree(name: str, tmp_path: Path) -> None:
    """At other sizes than that of the example, and for another batch; no graph samples a grid of five dimensions."""
    import onnx

    torch.manual_seed(0)
    spec = InputSpec((32, 64), "native", divisor=16, fill=None)
    task = StereoTask(name, **{name: TINY[name]}, input=spec).eval()
    write_graph(task, tmp_path / "a.onnx")
    assert not any(node.op_type == "GridSample" for node in onnx.load(tmp_path / "a.onnx").graph.node)
    engine = OnnxEngine(tmp_path / "a.onnx", task.outputs, inputs=task.inputs)
    images = torch.randint(0, 256, (2, 1, 3, 48, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        ours, theirs = task.decode(task(*images)), task.decode(engine(*images))
    assert (theirs - ours).abs().max() < 1e-3
