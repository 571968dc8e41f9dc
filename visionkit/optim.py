"""Optimizers and schedules: parameter groups, rate scales by depth, warm-up."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from visionkit.errors import UsageError, suggest

SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class OptimConfig:
    """How the weights are trained.

    Attributes:
        name: An optimizer of timm: `adamw`, `sgd` (Nesterov), `lamb`, `lion`, ...
        lr: Peak learning rate of the head, for the batch as it is: it is not scaled by the batch size.
        weight_decay: Not applied to biases, norms and what the backbone itself exempts.
        momentum: Where the optimizer has one.
        backbone_lr_scale: The backbone's rate is `lr` times this; 0 is the same as `freeze: backbone`. This and the
            three below are for a backbone that was trained before; one that begins with random weights is trained
            whole, at one rate.
        layer_decay: The learning rate of each layer of the backbone is smaller by this factor than that of the one
            above it (BEiT); 1 is off.
        freeze_stride: The layers up to the backbone's map of this stride keep their weights and statistics: 4 is the
            stem and the first stage of most networks, which half of a step goes into; 0 is off.
        freeze_norm: The backbone's batch norms keep their statistics, as small batches need; their weights are trained.
        freeze: `backbone` keeps the backbone's weights and statistics: a linear probe.
        schedule: `cosine`, `linear` or `constant` by the step; `torch:<class>` of torch.optim.lr_scheduler;
            `timm:<name>`.
        warmup: Steps of linear warm-up if at least 1, otherwise the fraction of all steps. For the three named
            schedules.
        final_lr_scale: What `cosine` and `linear` end at, as a fraction of the peak.
        optimizer_args: More keyword arguments of the optimizer.
        schedule_args: Keyword arguments of a torch or timm schedule.
        schedule_interval: Whether a torch or timm schedule counts steps or epochs.
    """

    name: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    backbone_lr_scale: float = 1.0
    layer_decay: float = 1.0
    freeze_stride: int = 0
    freeze_norm: bool = False
    freeze: Literal["none", "backbone"] = "none"
    schedule: str = "cosine"
    warmup: float = 0.05
    final_lr_scale: float = 0.0
    optimizer_args: dict[str, Any] = field(default_factory=dict)
    schedule_args: dict[str, Any] = field(default_factory=dict)
    schedule_interval: Literal["step", "epoch"] = "epoch"

    def __post_init__(self) -> None:
        if self.lr <= 0 or not math.isfinite(self.lr):
            raise UsageError(f"optim.lr {self.lr}: must be above 0")
        for name in ("weight_decay", "backbone_lr_scale", "warmup", "final_lr_scale"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"optim.{name} {value}: must be at least 0")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"optim.momentum {self.momentum}: allowed is from 0 to below 1")
        if not 0 < self.layer_decay <= 1:
            raise UsageError(f"optim.layer_decay {self.layer_decay}: allowed is above 0 and at most 1 (1 is off)")
        if self.freeze_stride < 0:
            raise UsageError(f"optim.freeze_stride {self.freeze_stride}: allowed is 0 (off) or a stride, such as 4")
        if self.schedule not in SCHEDULES and not self.schedule.startswith(("torch:", "timm:")):
            raise UsageError(
                f"optim.schedule {self.schedule!r}: allowed are {', '.join(SCHEDULES)}, torch:<class>, timm:<name>"
                f"{suggest(self.schedule, SCHEDULES)}"
            )


def for_random_weights(config: OptimConfig) -> OptimConfig:
    """The same without what only a backbone that was trained before can do with."""
    scale = 1.0 if config.backbone_lr_scale else 0.0  # 0 is a freeze that somebody asked for
    return replace(config, backbone_lr_scale=scale, layer_decay=1.0, freeze_stride=0, freeze_norm=False)


def parameter_groups(network: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Sorts the trainable parameters by rate and decay.

    Args:
        network: Network with a `backbone` whose `model` is timm's, where it has one.
        config: Scales and decay.

    Returns:
        Groups with `params`, `lr`, `weight_decay` and a `name` for logging (`backbone.3/no_decay`, `head`).
    """
    backbone: nn.Module | None = getattr(network, "backbone", None)
    model: nn.Module | None = getattr(backbone, "model", None)
    exempt = _exempt_names(model)
    layers, depth = _layer_ids(model) if model is not None and config.layer_decay < 1 else ({}, 0)
    groups: dict[tuple[str, float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        part, scale = "head", 1.0
        if name.startswith("backbone."):
            part, scale = "backbone", config.backbone_lr_scale
            inner = name.removeprefix("backbone.model.")
            if inner in layers:
                part, scale = f"backbone.{layers[inner]}", scale * config.layer_decay ** (depth - layers[inner])
            bare = inner in exempt
        else:
            bare = False
        no_decay = bare or parameter.ndim <= 1 or name.endswith(".bias")
        decay = 0.0 if no_decay else config.weight_decay
        groups[(part + ("/no_decay" if no_decay else ""), config.lr * scale, decay)].append(parameter)
    return [
        {"params": params, "lr": lr, "weight_decay": decay, "name": name}
        for (name, lr, decay), params in groups.items()
    ]


def _exempt_names(model: nn.Module | None) -> set[str]:
    listing = getattr(model, "no_weight_decay", None)
    return set(listing()) if callable(listing) else set()


def _layer_ids(model: nn.Module) -> tuple[dict[str, int], int]:
    from timm.models import group_parameters

    matcher = getattr(model, "group_matcher", None)
    if matcher is None:
        raise UsageError(
            f"optim.layer_decay: {type(model).__name__} does not distinguish its layers; leave layer_decay at 1"
        )
    ids = group_parameters(model, matcher(coarse=False), reverse=True)
    return ids, max(ids.values()) + 1


def build_optimizer(groups: Iterable[dict[str, Any]], config: OptimConfig) -> Optimizer:
    """An optimizer of timm's collection over the groups."""
    from timm.optim import create_optimizer_v2, list_optimizers

    names = [str(name) for name in list_optimizers()]
    if config.name not in names:
        raise UsageError(
            f"optim.name {config.name!r}: unknown optimizer{suggest(config.name, names)} (timm has {len(names)})"
        )
    params = [dict(group) for group in groups]
    if not params:
        raise UsageError("nothing to train: every parameter is frozen")
    optimizer: Optimizer = create_optimizer_v2(
        params,
        opt=config.name,
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        **config.optimizer_args,
    )
    return optimizer


def build_scheduler(
    optimizer: Optimizer, config: OptimConfig, total_steps: float, others: Mapping[str, OptimConfig] | None = None
) -> dict[str, Any] | None:
    """The schedule as Lightning takes it.

    Args:
        optimizer: Whose groups' rates are the peaks.
        config: Names the schedule.
        total_steps: Optimizer steps of the whole training; infinite where nothing but a time ends it.
        others: Where groups named `<key>.<...>` have one of the named schedules of their own.

    Returns:
        `scheduler`, `interval`, `frequency`; None for a constant rate without warm-up.
    """
    kind, _, name = config.schedule.partition(":")
    if kind in ("torch", "timm"):
        return _foreign_scheduler(optimizer, config, kind, name)
    if math.isinf(total_steps) and (kind != "constant" or 0 < config.warmup < 1 or others):
        raise UsageError(
            f"optim.schedule {config.schedule} with optim.warmup {config.warmup:g} needs the length of training: give "
            "trainer.max_epochs or trainer.max_steps, --max_time in place of trainer.max_time, or optim.schedule "
            "constant and optim.warmup 0"
        )
    warmup = _warmup(config, total_steps)
    if kind == "constant" and warmup == 0 and not others:
        return None
    factor: Any = _factor(config, total_steps)
    if others:
        names = [str(group.get("name", "")).partition(".")[0] for group in optimizer.param_groups]
        factor = [_factor(others.get(name, config), total_steps) for name in names]
    return {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, factor), "interval": "step", "frequency": 1}


def set_total_steps(scheduler: Any, total_steps: float) -> None:
    """Makes one of the named schedules end at another step; its warm-up and all other schedules stay as they are.

    Args:
        scheduler: Schedule of a training that goes on.
        total_steps: Optimizer steps of the whole training.
    """
    if isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):
        changed = [
            replace(each, total=max(1, total_steps)) if isinstance(each, _Factor) else each
            for each in scheduler.lr_lambdas
        ]
        scheduler.lr_lambdas = changed


def _warmup(config: OptimConfig, total_steps: float) -> int:
    return int(config.warmup * total_steps if 0 < config.warmup < 1 else config.warmup)


def _factor(config: OptimConfig, total_steps: float) -> _Factor:
    return _Factor(config.schedule, _warmup(config, total_steps), max(1, total_steps), config.final_lr_scale)


@dataclass(frozen=True)
class _Factor:
    """Rate as a fraction of its peak, by step; a class rather than a closure, so that it can be pickled."""

    kind: str
    warmup: int
    total: float
    final: float

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        if self.kind == "constant":
            return 1.0
        done = min(1.0, (step - self.warmup) / max(1, self.total - self.warmup))
        left = 1.0 - done if self.kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
        return self.final + (1.0 - self.final) * left


def _foreign_scheduler(optimizer: Optimizer, config: OptimConfig, kind: str, name: str) -> dict[str, Any]:
    scheduler: Any
    if kind == "torch":
        known = [n for n, c in vars(torch.optim.lr_scheduler).items() if isinstance(c, type) and not n.startswith("_")]
        if name not in known:
            raise UsageError(
                f"optim.schedule torch:{name}: torch.optim.lr_scheduler has no such class{suggest(name, known)}"
            )
        build: Any = getattr(torch.optim.lr_scheduler, name)
        arguments = config.schedule_args
    else:
        from timm.scheduler import create_scheduler_v2

        if name.startswith("plateau"):
            raise UsageError("optim.schedule timm:plateau: take torch:ReduceLROnPlateau, which is given the metric")

        def build(optimizer: Optimizer, **kwargs: Any) -> Any:
            return create_scheduler_v2(optimizer, sched=name, **kwargs)[0]

        arguments = {"step_on_epochs": config.schedule_interval == "epoch", **config.schedule_args}
    try:
        scheduler = build(optimizer, **arguments)
    except (TypeError, AssertionError) as error:
        raise UsageError(
            f"optim.schedule {config.schedule} with schedule_args {config.schedule_args}: {error}"
        ) from error
    if scheduler is None:
        raise UsageError(f"optim.schedule timm:{name}: timm has no such schedule")
    return {"scheduler": scheduler, "interval": config.schedule_interval, "frequency": 1}
