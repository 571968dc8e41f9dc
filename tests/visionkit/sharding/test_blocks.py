"""Which modules of a network are gathered one by one."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from tests.visionkit.backbones.families import CLASSIC, FAMILIES, KINDS, SLOW
from visionkit.backbones import Backbone
from visionkit.sharding.blocks import blocks_of, has_batch_norm, recompute


def names(network: nn.Module, least: int = 0) -> list[str]:
    known = {id(module): name for name, module in network.named_modules()}
    return [known[id(block)] for block in blocks_of(network, least)]


def backbone(name: str, size: int) -> Backbone:
    with torch.device("meta"):
        return Backbone(name, image_size=(size, size))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit_tiny_patch16_224", [f"model.blocks.{k}" for k in range(12)]),
        ("resnet18", [f"model.layer{k}.{j}" for k in range(1, 5) for j in range(2)]),
        ("convnext_atto", [f"model.stages.{k}.blocks.{j}" for k, n in enumerate((2, 2, 6, 2)) for j in range(n)]),
    ],
)
def test_blocks_are_layers_of_transformers_and_residual_blocks(name: str, expected: list[str]) -> None:
    assert names(backbone(name, 224)) == expected


def test_small_blocks_and_those_with_shared_weights_are_left_to_the_rest() -> None:
    class Block(nn.Module):
        def __init__(self, width: int, weight: nn.Parameter | None = None) -> None:
            super().__init__()
            self.linear = nn.Linear(width, width)
            if weight is not None:
                self.linear.weight = weight

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 4)
            self.layers = nn.Sequential(Block(4), Block(4, self.head.weight), Block(8), nn.GELU())

    assert names(Network()) == ["layers.0", "layers.2"] and names(Network(), 30) == ["layers.2"]


FAST = sorted(KINDS - SLOW)
EVERY = [
    pytest.param(name, size, id=family, marks=() if family in FAST else pytest.mark.slow)
    for family, (name, size) in {**FAMILIES, **{key: (value, 64) for key, value in CLASSIC.items()}}.items()
]


@pytest.mark.parametrize(("name", "size"), EVERY)
def test_every_block_is_called_as_a_module_and_no_block_is_inside_another(name: str, size: int) -> None:
    """A block is gathered when it is called; weights that its parent read without calling it would stay sharded."""
    network = backbone(name, size)
    blocks = blocks_of(network)
    inside = [id(module) for block in blocks for module in block.modules()]
    assert len(inside) == len(set(inside))
    calls: Counter[int] = Counter()
    for block in blocks:
        block.register_forward_hook(lambda module, *rest: calls.update([id(module)]))
    network.eval()(torch.zeros(1, 3, size, size, device="meta"))
    assert all(calls[id(block)] for block in blocks)


def test_activations_are_computed_again_with_the_same_gradients() -> None:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 4))
    image, gradients = torch.randn(8, 4, requires_grad=True), []
    runs: list[int] = []
    block[0].register_forward_hook(lambda *args: runs.append(1))
    for _ in range(2):
        torch.manual_seed(1)
        block.zero_grad()
        block(image).sum().backward()
        gradients.append(block[0].weight.grad.clone())  # type: ignore[union-attr, operator]
        recompute(block)
    assert len(runs) == 3 and torch.equal(*gradients)
    block.eval()(image)
    assert len(runs) == 4 and sorted(block.state_dict()) == ["0.bias", "0.weight", "2.bias", "2.weight"]


def test_batch_norm_is_found() -> None:
    assert has_batch_norm(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)))
    assert not has_batch_norm(nn.Sequential(nn.LayerNorm(1)))
