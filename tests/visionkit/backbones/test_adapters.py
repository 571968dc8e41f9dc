"""Low-rank adapters of single networks; every task is tried in the contracts."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests import tiny_training
from tests.contracts.cases import batch, build
from visionkit.backbones import AdapterConfig, Backbone
from visionkit.backbones.adapters import merged_state
from visionkit.checkpoint import save_checkpoint
from visionkit.errors import CheckpointError, UsageError
from visionkit.optim import OptimConfig
from visionkit.warm_start import take_weights


def adapted(name: str, **options: object) -> Backbone:
    torch.manual_seed(0)
    backbone = Backbone(name)
    backbone.adapt(AdapterConfig(**options))  # type: ignore[arg-type]
    for key, parameter in backbone.named_parameters():
        if key.endswith("adapter_up"):
            nn.init.normal_(parameter, std=0.1)
    return backbone


def of(backbone: nn.Module, kind: type[nn.Module]) -> set[str]:
    return {name for name, each in backbone.named_modules() if isinstance(each, kind)}


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext", "test_nfnet"])
def test_the_weight_is_the_sum_and_merged_it_computes_the_same(name: str) -> None:
    backbone = adapted(name, rank=3, alpha=6.0).eval()
    plain = Backbone(name).eval()
    state = backbone.state_dict()
    plain.load_state_dict(merged_state(state))
    image = torch.randn(2, 3, 64, 64) if name != "test_vit" else torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        assert torch.allclose(backbone(image).final, plain(image).final, atol=1e-4, rtol=1e-4)
    key = next(key for key in state if key.endswith("adapter_up")).removesuffix("adapter_up")
    change = 2.0 * state[f"{key}adapter_up"] @ state[f"{key}adapter_down"]
    assert torch.allclose(
        merged_state(state)[f"{key}weight"], state[f"{key}weight"] + change.view_as(state[f"{key}weight"])
    )


def test_layers_are_chosen_and_depthwise_ones_are_left_out() -> None:
    every = {key.removesuffix(".adapter_up") for key in adapted("test_vit").state_dict() if key.endswith("adapter_up")}
    linear = adapted("test_vit", layers="linear").state_dict()
    assert every - {key.removesuffix(".adapter_up") for key in linear if key.endswith("adapter_up")} == {
        "model.patch_embed.proj"
    }
    efficient = Backbone("test_efficientnet")
    depthwise = {name for name, each in efficient.named_modules() if isinstance(each, nn.Conv2d) and each.groups > 1}
    efficient.adapt(AdapterConfig())
    names = {name for name, each in efficient.named_modules() if hasattr(each, "adapter_up")}
    assert (
        depthwise and not names & depthwise and names | depthwise == of(efficient, nn.Conv2d) | of(efficient, nn.Linear)
    )


def test_a_narrow_layer_has_the_rank_that_it_can_have() -> None:
    sides = {
        tuple(each.adapter_up.shape)
        for each in adapted("test_efficientnet", rank=12).modules()
        if hasattr(each, "adapter_up")
    }
    assert min(rank for _, rank in sides) < 12 == max(rank for _, rank in sides)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank 0: must be at least 1"),
        ({"alpha": 0.0}, "alpha 0: must be above 0"),
        ({"layers": "attention"}, "layers 'attention': allowed are all, linear, convolution"),
        ({"rank": 5000}, r"rank 5000: larger than every layer of backbone 'test_resnet'; allowed are 1 to \d+"),
        ({"layers": "linear"}, "has no such layer that is trained; take convolution"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        adapted("test_resnet", **options)


def test_a_frozen_backbone_has_no_use_for_them() -> None:
    for optim in (OptimConfig(freeze="backbone"), OptimConfig(backbone_lr_scale=0)):
        with pytest.raises(UsageError, match=r"model\.adapters: optim\.freeze backbone"):
            build("classification", adapters=AdapterConfig(rank=2), optim=optim)


def test_adapters_are_trained_in_all_layers_at_the_rate_of_the_backbone() -> None:
    optim = OptimConfig(lr=1e-2, backbone_lr_scale=0.1, layer_decay=0.5, freeze_stride=4)
    task = build("classification", adapters=AdapterConfig(rank=2), optim=optim)
    task.started_from = "public weights"
    task.setup("fit")
    groups = task.parameter_groups()
    rates = {group["name"].split("/")[0]: group["lr"] for group in groups}
    assert rates == {"backbone": pytest.approx(1e-3), "head": 1e-2}
    trained = sum(len(group["params"]) for group in groups)
    adapters = [name for name, _ in task.named_parameters() if "adapter_" in name]
    assert trained == len(adapters) + len(list(task.network.head.parameters()))


def test_random_weights_are_noted_and_pretrained_ones_are_not(caplog: pytest.LogCaptureFixture) -> None:
    task = build("classification", adapters=AdapterConfig(rank=2))
    task.setup("fit")
    assert "no pretrained weights" in caplog.text
    caplog.clear()
    task.source = "somewhere"
    task.setup("fit")
    assert not caplog.text


def test_what_is_frozen_stays_so_through_setup_and_modes() -> None:
    task = build("classification", adapters=AdapterConfig(rank=2))
    task.setup("fit")
    trained = {name for name, p in task.network.named_parameters() if p.requires_grad}
    assert all("adapter_" in name or name.startswith("head.") for name in trained)
    norms = [each for each in task.train().network.backbone.modules() if isinstance(each, nn.BatchNorm2d)]
    assert norms and not any(each.training for each in norms)
    assert task.network.head.training and task.network.backbone.training


def test_weights_begin_with_a_model_with_adapters_and_one_without(tmp_path: object) -> None:
    source = build("classification", adapters=AdapterConfig(rank=2)).eval()
    for key, parameter in source.named_parameters():
        if key.endswith("adapter_up"):
            nn.init.normal_(parameter, std=0.1)
    save_checkpoint(source, tmp_path / "a.ckpt")  # type: ignore[operator]
    data = batch(source)
    with torch.no_grad():
        expected = source.run(data).logits
        for arguments in ({}, {"adapters": AdapterConfig(rank=3)}):
            task = build("classification", **arguments).eval()
            assert take_weights(task, str(tmp_path / "a.ckpt")) == []  # type: ignore[operator]
            assert torch.allclose(task.run(data).logits, expected, atol=1e-5)
        own = build("classification", weights=str(tmp_path / "a.ckpt")).eval()  # type: ignore[operator]
        features = [each.network.backbone(torch.ones(1, 3, 64, 64)).final for each in (own, source)]
        assert torch.allclose(*features, atol=1e-4)


def test_a_copy_is_a_network_of_its_own() -> None:
    backbone = adapted("test_resnet").eval()
    other = copy.deepcopy(backbone)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = backbone(image).final
        for parameter in other.parameters():
            parameter.zero_()
        assert torch.equal(backbone(image).final, before)


def test_a_training_with_adapters_goes_on_bit_for_bit(tmp_path: object) -> None:
    def task() -> object:
        torch.manual_seed(3)
        return tiny_training.tiny_task(adapters=AdapterConfig(rank=2))

    whole, parts = tmp_path / "whole", tmp_path / "parts"  # type: ignore[operator]
    tiny_training.train(whole, task=task(), max_epochs=2)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="killed"):
        tiny_training.train(parts, task=task(), max_epochs=2, extra=[tiny_training.Killed(7)])  # type: ignore[arg-type]
    tiny_training.train(parts, task=task(), max_epochs=2)  # type: ignore[arg-type]
    assert tiny_training.end_state(whole) == tiny_training.end_state(parts)


def test_an_adapter_that_does_not_fit_its_weight_is_refused_before_it_is_multiplied() -> None:
    """Two long vectors would make a matrix of gigabytes."""
    state = {
        "layer.weight": torch.zeros(4, 4),
        "layer.adapter_down": torch.zeros(1, 10**6),
        "layer.adapter_up": torch.zeros(10**6, 1),
        "layer.adapter_scale": torch.ones(()),
    }
    with pytest.raises(CheckpointError, match=r"layer: its adapter does not fit its weight \(4, 4\)"):
        merged_state(state)
