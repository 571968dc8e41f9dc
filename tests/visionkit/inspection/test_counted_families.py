"""Parameters and multiply-adds of many families, compared with fvcore, and with itself where it is installed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.visionkit.backbones.families import FAMILIES
from tests.visionkit.inspection.counted_families import ATTENTION, COUNTED
from visionkit.backbones import backbone_facts
from visionkit.backbones.build import build_model
from visionkit.inspection import inspect_network

SIZES = dict(FAMILIES.values())
FAST = ("test_byobnet", "test_convnext", "test_resnet", "test_vit", "regnetx_002", "pvt_v2_b0")


def _built(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    facts, size = backbone_facts(name), (SIZES[name], SIZES[name])
    arguments = {"img_size": size} if facts.fixed_input_size and size != facts.train_size else {}
    return build_model(name, arguments, None).eval(), (1, facts.channels, *size)


def _check(name: str) -> None:
    with torch.device("meta"):
        network, shape = _built(name)
        report = inspect_network(network, [torch.zeros(shape)])
    assert (report.parameters, report.multiply_adds) == COUNTED[name][:2]
    assert report.parameters == sum(each.numel() for each in network.parameters())


@pytest.mark.parametrize("name", FAST)
def test_some_families(name: str) -> None:
    _check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTED)
def test_all_families(name: str) -> None:
    _check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTED)
def test_fvcore_counts_the_same(name: str) -> None:
    """With attention that is not fused, since fvcore does not know torch's."""
    fvcore = pytest.importorskip("fvcore.nn", reason="an oracle that is installed by hand: pip install fvcore")
    from timm.layers import set_fused_attn

    set_fused_attn(False)
    try:
        network, shape = _built(name)
    finally:
        set_fused_attn(True)
    analysis = fvcore.FlopCountAnalysis(network, torch.zeros(shape)).unsupported_ops_warnings(False)
    counted = analysis.uncalled_modules_warnings(False).tracer_warnings("none").by_operator()
    total = sum(counted[kind] for kind in ("conv", "linear", "matmul", "einsum", "bmm", "addmm"))
    parameters, multiply_adds, difference, why = COUNTED[name]
    assert fvcore.parameter_count(network)[""] == parameters
    assert total == pytest.approx(multiply_adds - (0 if why == ATTENTION else difference), abs=64)
