"""What the heads' losses need to be added up: a gradient for every weight, fair fractions over processes, a log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tasks.multitask.balancing import project_conflicts
from visionkit.term_log import TermLog


def fair_fractions(counts: Mapping[str, int], device: torch.device) -> dict[str, Tensor] | None:
    """What each head's loss is multiplied by, so that the mean over processes is the mean over images.

    A process that has more images with a label for a head counts more; one that has none does not count.

    Args:
        counts: Images of this process with a label, for every head of the model in a fixed order.
        device: Where the losses are.

    Returns:
        Nothing where there is one process.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    own = torch.tensor(list(counts.values()), dtype=torch.float32, device=device)
    total = own.clone()
    torch.distributed.all_reduce(total)
    fractions = own * torch.distributed.get_world_size() / total.clamp(min=1)
    return dict(zip(counts, fractions, strict=True))


def untouched(modules: Iterable[nn.Module]) -> Tensor | float:
    """A zero that depends on every weight of these modules.

    A head without a label in a step must give the other processes a gradient all the same, or they wait for ever.
    """
    parts = [p.sum() for module in modules for p in module.parameters() if p.requires_grad]
    return 0.0 * torch.stack([part.float() for part in parts]).sum() if parts else 0.0


def with_pcgrad(losses: Sequence[Tensor], shared: Sequence[nn.Parameter], step: int) -> Tensor:
    """A loss with the gradients of all heads' sum, but at the shared weights with those of gradient surgery.

    The difference is added as a term that is linear in the shared weights and has the value 0, so whatever happens to
    gradients behind (averaging over processes, accumulation, clipping) goes on as ever.

    Args:
        losses: Losses of each head, weighted.
        shared: Weights that all heads read.
        step: See `project_conflicts`.
    """
    total = torch.stack(list(losses)).sum()
    trained = [p for p in shared if p.requires_grad]
    if len(losses) < 2 or not trained:
        return total
    gradients = [torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True) for loss in losses]
    wanted = project_conflicts(gradients, step)
    correction = total.new_zeros(())
    for parameter, goal, row in zip(trained, wanted, zip(*gradients, strict=True), strict=True):
        if goal is not None:
            plain = torch.stack([part for part in row if part is not None]).sum(dim=0)
            correction = correction + (parameter * (goal - plain).detach()).sum()
    return total + (correction - correction.detach())


class HeadLog(TermLog):
    """Sums the losses of every head on the device, each over the steps in which it had one.

    Terms are named `<head>/<term>`. Everything is its own but the type, by which steps that are tried are taken back.
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[dict[str, Tensor], float]] = {}  # type: ignore[assignment]
        self._flushed: _Sums = {}  # type: ignore[assignment]

    def add(self, terms: Mapping[str, Tensor], values: Tensor, weights: Mapping[str, float] | float = 1.0) -> None:
        """Adds one step's terms; `values` are the same numbers stacked, detached."""
        seen = set()
        for name, value in zip(terms, values, strict=True):
            head, _, term = name.partition("/")
            weight = weights if isinstance(weights, (int, float)) else weights[head]
            sums, total = self._sums.get(head, ({}, 0.0))
            sums[term] = sums.get(term, torch.zeros_like(value)) + weight * value
            self._sums[head] = (sums, total + (0.0 if head in seen else weight))
            seen.add(head)

    def flush(self, reduce: bool = False) -> dict[str, Tensor]:
        """Means since the last flush: `loss` of all heads, `<head>/loss`, and `<head>/loss_<term>` where several.

        Args:
            reduce: Add up over all processes first; a process may know heads that another one does not.
        """
        plain, self._sums = self._plain(), {}
        self._flushed = _merged([self._flushed, plain])
        if reduce and torch.distributed.is_available() and torch.distributed.is_initialized():
            gathered: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(gathered, plain)
            plain = _merged(gathered)
        return {name: torch.tensor(value) for name, value in _means(plain).items()}

    def begin_epoch(self) -> None:
        """Starts the running means again."""
        self._flushed = {}

    def running(self) -> dict[str, float]:
        """Means since the epoch began, under the names of `flush`; waits for the device."""
        return _means(_merged([self._flushed, self._plain()]))

    def _plain(self) -> _Sums:
        return {
            head: ({term: float(value) for term, value in terms.items()}, weight)
            for head, (terms, weight) in self._sums.items()
        }


_Sums = dict[str, tuple[dict[str, float], float]]
"""By head: the sum of each term, and the weight of all."""


def _means(sums: _Sums) -> dict[str, float]:
    out: dict[str, float] = {}
    for head, (terms, weight) in sums.items():
        means = {term: value / weight for term, value in terms.items()}
        out[f"{head}/loss"] = sum(means.values())
        if len(means) > 1:
            out |= {f"{head}/loss_{term}": value for term, value in means.items()}
    return {"loss": sum(value for name, value in out.items() if name.endswith("/loss")), **out} if out else {}


def _merged(parts: Sequence[_Sums]) -> _Sums:
    total: _Sums = {}
    for each in parts:
        for head, (terms, weight) in each.items():
            known, sum_ = total.get(head, ({}, 0.0))
            total[head] = (
                {t: known.get(t, 0.0) + v for t, v in {**dict.fromkeys(known, 0.0), **terms}.items()},
                sum_ + weight,
            )
    return dict(sorted(total.items()))
