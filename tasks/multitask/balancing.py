"""How the losses of several heads become one: fixed weights, or weights that follow from what is trained.

Every method works on one loss per head, as a step gives them; a head that has no label in a step is left out of it.
Nothing here is random: where a method needs an order, it follows from the number of the step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from visionkit.errors import UsageError, suggest

Balance = Literal["fixed", "uncertainty", "gradnorm", "dwa"]


def build_balance(name: str, heads: Sequence[str], options: Mapping[str, Any] | None = None) -> Balancer:
    """The method of that name.

    Raises:
        UsageError: Unknown name or option.
    """
    kinds: dict[str, type[Balancer]] = {
        "fixed": Balancer,
        "uncertainty": Uncertainty,
        "gradnorm": GradNorm,
        "dwa": WeightAverage,
    }
    if name not in kinds:
        allowed = get_args(Balance)
        raise UsageError(f"model.balance {name!r}: allowed are {', '.join(allowed)}{suggest(name, allowed)}")
    given = dict(options or {})
    known = kinds[name].options
    for key, value in given.items():
        if key not in known:
            message = f"allowed are {', '.join(known)}" if known else "it has none"
            raise UsageError(f"model.balance_options.{key}: {name} has no such option; {message}{suggest(key, known)}")
        if float(value) <= 0:
            raise UsageError(f"model.balance_options.{key} {value}: above 0")
    return kinds[name](heads, **given)


class Balancer(nn.Module):
    """Adds the heads' losses as they are: their fixed weights are in them already.

    Args:
        heads: Their names.

    Attributes:
        options: Names of what its constructor takes beside the heads.
        needs_features: It asks for gradients at the features that the heads share.
    """

    options: tuple[str, ...] = ()
    needs_features = False

    def __init__(self, heads: Sequence[str]) -> None:
        super().__init__()
        self.heads = tuple(heads)

    def forward(self, losses: Mapping[str, Tensor], features: Sequence[Tensor] = ()) -> dict[str, Tensor]:
        """The weighted loss of each head, to be added up.

        Args:
            losses: Losses of each head that has one in this step; scalars.
            features: What the heads read, where `needs_features`.
        """
        return dict(losses)

    def end_epoch(self) -> None:
        """Called when an epoch of training has ended."""

    def weights(self) -> dict[str, Tensor]:
        """The weight of each head as it stands, for the log; nothing where weights are fixed."""
        return {}


class Uncertainty(Balancer):
    """Homoscedastic uncertainty (Kendall et al., 2018): each loss divided by a variance that is trained with the rest.

    With s the logarithm of the variance a loss L counts exp(-s) L + s / 2, the form of the paper for classes.

    Args:
        heads: Their names.
    """

    def __init__(self, heads: Sequence[str]) -> None:
        super().__init__(heads)
        self.log_variance = nn.Parameter(torch.zeros(len(heads)))

    def forward(self, losses: Mapping[str, Tensor], features: Sequence[Tensor] = ()) -> dict[str, Tensor]:
        out = {}
        for name, loss in losses.items():
            s = self.log_variance[self.heads.index(name)]
            out[name] = (-s).exp() * loss + s / 2
        return out

    def weights(self) -> dict[str, Tensor]:
        return dict(zip(self.heads, (-self.log_variance.detach()).exp(), strict=True))


class GradNorm(Balancer):
    """Gradients of equal size, but larger where a head lags behind (Chen et al., 2018).

    The size of a head's gradient is taken at the features that all heads read, where it costs a pass through the head
    alone, in place of the last shared weights. The weights follow by the gradient of the paper's loss and are brought
    back to a sum of the number of heads.

    Args:
        heads: Their names.
        alpha: How strongly heads that lag are helped.
        lr: Learning rate of the weights.
    """

    options = ("alpha", "lr")
    needs_features = True

    weight: Tensor
    first: Tensor

    def __init__(self, heads: Sequence[str], alpha: float = 1.5, lr: float = 0.025) -> None:
        super().__init__(heads)
        self.alpha, self.lr = float(alpha), float(lr)
        self.register_buffer("weight", torch.ones(len(heads)))
        self.register_buffer("first", torch.zeros(len(heads)))

    def forward(self, losses: Mapping[str, Tensor], features: Sequence[Tensor] = ()) -> dict[str, Tensor]:
        if self.training and torch.is_grad_enabled():
            self._follow(losses, features)
        return {name: self.weight[self.heads.index(name)].clone() * loss for name, loss in losses.items()}

    def _follow(self, losses: Mapping[str, Tensor], features: Sequence[Tensor]) -> None:
        wanted = [each for each in features if each.requires_grad]
        norms, values, there = (torch.zeros_like(self.weight) for _ in range(3))
        for name, loss in losses.items():
            if not wanted or not loss.requires_grad:
                continue
            number = self.heads.index(name)
            parts = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
            squares = [part.float().square().sum() for part in parts if part is not None]
            norms[number] = torch.stack(squares).sum().sqrt() if squares else 0.0
            values[number], there[number] = loss.detach(), 1.0
        packed = mean_over_ranks(torch.stack([norms, values, there]))
        norms, values, there = packed[0], packed[1], packed[2]
        fraction = there.clamp(min=1e-12)
        norms, values, there = norms / fraction, values / fraction, (there > 0).float()
        self.first.copy_(torch.where((self.first == 0) & (there > 0), values, self.first))
        count = there.sum().clamp(min=1)
        rate = torch.where(there > 0, values / self.first.clamp(min=1e-12), torch.zeros_like(values))
        rate = rate / (rate.sum() / count).clamp(min=1e-12)
        sizes = self.weight * norms
        wanted_size = (sizes * there).sum() / count * rate.clamp(min=1e-12) ** self.alpha
        step = self.lr * (sizes - wanted_size).sign() * norms / (norms * there).sum().clamp(min=1e-12) * count
        weight = torch.where(there > 0, (self.weight - step).clamp(min=1e-3), self.weight)
        self.weight.copy_(weight * len(self.heads) / weight.sum())

    def weights(self) -> dict[str, Tensor]:
        return dict(zip(self.heads, self.weight, strict=True))


class WeightAverage(Balancer):
    """Dynamic weight averaging (Liu et al., 2019): more weight where the mean loss of an epoch fell least.

    Args:
        heads: Their names.
        temperature: Large ones make the weights equal.
    """

    options = ("temperature",)

    weight: Tensor
    past: Tensor
    sums: Tensor

    def __init__(self, heads: Sequence[str], temperature: float = 2.0) -> None:
        super().__init__(heads)
        self.temperature = float(temperature)
        self.register_buffer("weight", torch.ones(len(heads)))
        self.register_buffer("past", torch.zeros(2, len(heads)))  # means of the last epoch and of the one before
        self.register_buffer("sums", torch.zeros(2, len(heads)))  # of this epoch: losses, steps

    def forward(self, losses: Mapping[str, Tensor], features: Sequence[Tensor] = ()) -> dict[str, Tensor]:
        if self.training:
            for name, loss in losses.items():
                self.sums[:, self.heads.index(name)] += torch.stack([loss.detach().float(), loss.new_ones(())])
        return {name: self.weight[self.heads.index(name)].clone() * loss for name, loss in losses.items()}

    def end_epoch(self) -> None:
        sums = mean_over_ranks(self.sums)
        mean = torch.where(sums[1] > 0, sums[0] / sums[1].clamp(min=1e-12), self.past[0])
        if bool((self.past[0] > 0).all()):
            falls = mean / self.past[0]
            self.weight.copy_(len(self.heads) * (falls / self.temperature).softmax(dim=0))
        self.past.copy_(torch.stack([mean, self.past[0]]))
        self.sums.zero_()

    def weights(self) -> dict[str, Tensor]:
        return dict(zip(self.heads, self.weight, strict=True))


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean over all processes; the same tensor where there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        values = values.clone()
        torch.distributed.all_reduce(values)
        values = values / torch.distributed.get_world_size()
    return values


def project_conflicts(gradients: Sequence[Sequence[Tensor | None]], step: int) -> list[Tensor | None]:
    """Gradient surgery (PCGrad; Yu et al., 2020): of two gradients that point against each other, each loses that part.

    Args:
        gradients: For each head its gradient at every shared parameter, None where it does not reach.
        step: Number of the step, from which the order follows that the paper draws.

    Returns:
        The sum of the projected gradients at every parameter.
    """
    dots = torch.stack([torch.stack([_dot(a, b) for b in gradients]) for a in gradients])
    count = len(gradients)
    rng = np.random.Generator(np.random.Philox(key=step))
    # A projected gradient is a sum of the given ones; its coefficients are all that has to be worked out.
    parts = torch.eye(count, dtype=dots.dtype, device=dots.device)
    for head in range(count):
        for other in rng.permutation(count).tolist():
            if other == head:
                continue
            against = (parts[head] @ dots[:, other]).clamp(max=0)
            parts[head, other] -= against / dots[other, other].clamp(min=1e-30)
    coefficients = parts.sum(dim=0)
    out: list[Tensor | None] = []
    for row in zip(*gradients, strict=True):
        there = [c.to(g.dtype) * g for c, g in zip(coefficients, row, strict=True) if g is not None]
        out.append(torch.stack(there).sum(dim=0) if there else None)
    return out


def _dot(a: Sequence[Tensor | None], b: Sequence[Tensor | None]) -> Tensor:
    parts = [(x.double() * y.double()).sum() for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    return torch.stack(parts).sum() if parts else torch.zeros((), dtype=torch.float64)
