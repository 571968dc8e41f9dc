"""The networks of optical flow: torchvision's RAFT, both correlations, any backbone, and overfitting four pairs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tasks.optical_flow import OpticalFlowTask
from tasks.optical_flow.architectures.raft import RAFT
from tasks.optical_flow.architectures.raft_update import upsample_convex
from tasks.optical_flow.public import with_weights
from visionkit.checkpoint import load_task
from visionkit.engines import OnnxEngine, TorchEngine
from visionkit.errors import CheckpointError, EnvironmentFault, UsageError
from visionkit.export import write_graph
from visionkit.geometry import InputSpec
from visionkit.optim import OptimConfig, build_optimizer

TINY: dict[str, dict[str, Any]] = {
    "flownet_s": {"width": 0.0625, "batch_norm": True},
    "flownet_c": {"width": 0.0625, "batch_norm": True, "max_displacement": 4},
    "raft": {
        "backbone": "test_resnet",
        "features": 32,
        "hidden": 16,
        "motion": 16,
        "levels": 2,
        "iterations": 3,
        "eval_iterations": 3,
    },
}
MOVES = ((-2, 0), (1, 3), (3, -1), (0, -4))


def pairs() -> tuple[Tensor, Tensor, Tensor]:
    """Four smooth textures that wrap around, moved by `MOVES` (columns, rows); and their flow."""
    noise = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    first = torch.nn.functional.interpolate(noise, size=(64, 64), mode="bicubic").clamp(0, 1) * 255
    second = torch.stack([image.roll((y, x), dims=(1, 2)) for image, (x, y) in zip(first, MOVES, strict=True)])
    flow = torch.tensor(MOVES, dtype=torch.float32)[:, :, None, None].expand(-1, -1, 64, 64)
    return first.byte(), second.byte(), flow


@pytest.mark.parametrize("name", ["flownet_s", "flownet_c", pytest.param("raft", marks=pytest.mark.slow)])
def test_every_network_overfits_four_pairs(name: str) -> None:
    torch.manual_seed(0)
    task = OpticalFlowTask(name, **{name: TINY[name]}, optim=OptimConfig(lr=3e-3, weight_decay=0.0)).train()
    first, second, flow = pairs()
    target = {"flow": flow, "valid": torch.ones(4, 64, 64, dtype=torch.bool)}
    optimizer = build_optimizer(task.parameter_groups(), task.optim)
    for _ in range(100):
        loss = sum(task.losses(task(first, second), target).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = task.eval().decode(task(first, second)).flow
    error = (found - flow).square().sum(dim=1).sqrt().mean(dim=(1, 2))
    assert error.max() < 1.0, "of motions of two to four pixels"


@pytest.fixture(scope="module")
def theirs() -> Any:
    """Torchvision's RAFT with random weights and statistics."""
    from torchvision.models.optical_flow import raft_large

    torch.manual_seed(0)
    model = raft_large().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def test_raft_is_torchvisions(theirs: Any) -> None:
    """With sides whose eighth is odd, so pooling drops a row."""
    task = with_weights(OpticalFlowTask, "raft_large", theirs.state_dict())
    assert sum(each.numel() for each in task.network.parameters()) == 5_257_536
    images = torch.randint(0, 256, (2, 1, 3, 136, 144), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        expected = theirs(*(images / 127.5 - 1), num_flow_updates=3)[-1]
        for mode in ("full", "lookup"):
            changed = dataclasses.replace(task.architecture, eval_iterations=3, correlation=mode)
            task.network.settings = changed
            found = task(*images).flow
            assert expected.abs().mean() > 0.1 and (found - expected).abs().max() < 1e-4, mode


def test_public_weights_are_loaded_by_name(theirs: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(EnvironmentFault, match=r"raft_large: its public weights .* cannot be downloaded"):
        load_task("torchvision:raft_large")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(theirs.state_dict(), tmp_path / "hub" / "checkpoints" / "raft_large_C_T_SKHT_V2-ff5fadd5.pth")
    task = load_task("torchvision:raft_large")
    assert task.name == "optical_flow"
    assert torch.equal(task.network.mask_predictor.conv.bias, theirs.mask_predictor.conv.bias)
    with pytest.raises(CheckpointError, match="not the weights of torchvision:raft_large: Missing key"):
        with_weights(OpticalFlowTask, "raft_large", {})
    with pytest.raises(UsageError, match="did you mean 'raft_large'"):
        OpticalFlowTask.from_public("torchvision", "raft_larg")


def test_convex_upsampling_by_hand() -> None:
    flow = torch.zeros(1, 2, 2, 2)
    flow[0, 0] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    weights = torch.full((1, 9, 8, 8, 2, 2), -1e4)
    weights[:, 4] = 0  # each of its own
    weights[:, 5, 7, 7, 0, 0] = 0  # the last pixel of the first block: half of the right neighbor
    found = upsample_convex(flow, weights.reshape(1, 9 * 64, 2, 2))
    assert found.shape == (1, 2, 16, 16) and not found[0, 1].any()
    assert found[0, 0, 0, 0] == 8 and found[0, 0, 0, 8] == 16 and found[0, 0, 15, 15] == 32
    assert found[0, 0, 7, 7] == 12


@pytest.mark.parametrize("backbone", ["test_convnext", "mobilenetv4_conv_small_050"])
def test_raft_on_backbones(backbone: str) -> None:
    settings = RAFT(backbone=backbone, **{k: v for k, v in TINY["raft"].items() if k != "backbone"})
    network = settings.build(None, 3).train()
    outputs = network(torch.rand(1, 3, 64, 128), torch.rand(1, 3, 64, 128))
    assert len(outputs.estimates) == 3 and outputs.flow.shape == (1, 2, 64, 128)
    assert len(network.eval()(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)).estimates) == 1


def test_a_frozen_norm_keeps_its_statistics_in_training() -> None:
    network: Any = RAFT(freeze_norm=True, iterations=1).build(None, 3).train()
    norm = network.context_encoder.convnormrelu[1]
    assert not norm.training and network.training
    assert RAFT(pretrained=True, backbone="tf_efficientnet_lite0").stored().pretrained is False


def test_where_a_backbone_began_is_stated_and_16_bits_are_close() -> None:
    torch.manual_seed(0)
    settings = {**TINY["raft"], "backbone": "tf_efficientnet_lite0", "pretrained": True}
    task = OpticalFlowTask("raft", raft=settings).eval()
    assert "apache-2.0" in task.started_from and task.config["raft"]["pretrained"] is False
    first, second, _ = (each[:1] for each in pairs())
    whole, half = (TorchEngine(task, precision=each)(first, second).flow for each in ("float32", "bfloat16"))
    assert half.dtype == torch.float32 and (half - whole).abs().max() < 0.1 * whole.abs().max()


@pytest.mark.parametrize("given", [{"levels": 5}, {"radius": 0}, {"iterations": 0}, {"correlation": "all"}])
def test_arguments_that_cannot_be(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"raft|correlation"):
        OpticalFlowTask("raft", raft=given)


def test_an_image_of_one_value_has_finite_flow() -> None:
    task = OpticalFlowTask("raft", raft=TINY["raft"], input=InputSpec((64, 64), "native", divisor=64, fill=None)).eval()
    image = torch.full((1, 3, 64, 64), 7, dtype=torch.uint8)
    assert np.isfinite(task(image, image).flow.detach().numpy()).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flownet_c", "raft"])
def test_exported_graphs_agree(name: str, tmp_path: Path) -> None:
    """At other sizes than that of the example, and for another batch."""
    torch.manual_seed(0)
    spec = InputSpec((64, 128), "native", divisor=64, fill=None)
    task = OpticalFlowTask(name, **{name: TINY[name]}, input=spec).eval()
    write_graph(task, tmp_path / "a.onnx")
    engine = OnnxEngine(tmp_path / "a.onnx", task.outputs, inputs=task.inputs)
    images = torch.randint(0, 256, (2, 1, 3, 128, 192), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        ours = task(*images).flow
    assert (engine(*images).flow - ours).abs().max() < 1e-4 * max(1.0, float(ours.abs().max()))
