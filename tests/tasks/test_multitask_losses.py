"""How the losses of several heads are added up: over processes, for heads without a label, and by gradient surgery."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tasks.multitask.loss import HeadLog, fair_fractions, untouched, with_pcgrad


def test_one_process_has_no_fractions():
    assert fair_fractions({"a": 3, "b": 0}, torch.device("cpu")) is None


@pytest.mark.parametrize(
    ("own", "other", "fractions"), [((3, 0), (1, 5), (1.5, 0)), ((1, 0), (0, 0), (2, 0)), ((2, 1), (2, 1), (1, 1))]
)
def test_a_process_counts_by_its_images_of_a_head(
    own: tuple[int, int], other: tuple[int, int], fractions: tuple[float, float], monkeypatch: pytest.MonkeyPatch
):
    """So that the mean over two processes is the mean over images."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.add_(torch.tensor(other)))
    found = fair_fractions(dict(zip("ab", own, strict=True)), torch.device("cpu"))
    assert found is not None and {name: float(value) for name, value in found.items()} == dict(
        zip("ab", fractions, strict=True)
    )


def test_a_head_without_a_label_costs_nothing_and_has_a_gradient():
    head, frozen = nn.Linear(2, 1), nn.Linear(2, 1).requires_grad_(False)
    zero: Any = untouched([head, frozen])
    assert float(zero.detach()) == 0
    zero.backward()
    assert all(p.grad is not None and (p.grad == 0).all() for p in head.parameters())
    assert all(p.grad is None for p in frozen.parameters())
    assert untouched([frozen]) == 0.0 and untouched([]) == 0.0


def gradients(losses: Any, weight: nn.Parameter, step: int = 0) -> tuple[float, list[float]]:
    loss = with_pcgrad(losses, [weight], step)
    return float(loss), torch.autograd.grad(loss, weight)[0].tolist()


def test_gradients_that_disagree_are_projected_and_the_loss_stays_the_sum():
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    losses = [(weight * torch.tensor([1.0, 0.0])).sum(), (weight * torch.tensor([-1.0, 1.0])).sum() + 5]
    value, found = gradients(losses, weight)
    # (1, 0) without its part along (-1, 1), and (-1, 1) without its part along (1, 0).
    assert value == pytest.approx(6) and found == pytest.approx([0.5, 1.5])


def test_gradients_that_agree_one_loss_and_frozen_weights_are_left_alone():
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    agree = [(weight * torch.tensor([1.0, 0.0])).sum(), (weight * torch.tensor([1.0, 1.0])).sum()]
    assert gradients(agree, weight) == (4.0, [2, 1])
    assert gradients([(weight * torch.tensor([1.0, 0.0])).sum()], weight) == (1.0, [1, 0])
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    assert float(with_pcgrad([torch.tensor(2.0), torch.tensor(3.0)], [frozen], 0)) == 5


def test_all_shared_weights_are_one_vector_whether_both_heads_read_them_or_one():
    shared, own = nn.Parameter(torch.tensor([1.0, 1.0])), nn.Parameter(torch.tensor([2.0]))
    nobody = nn.Parameter(torch.tensor([4.0]))
    losses = [(shared * torch.tensor([1.0, 0.0])).sum(), (shared * torch.tensor([-1.0, 1.0])).sum() + 3 * own.sum()]
    loss = with_pcgrad(losses, [shared, own, nobody], 0)
    assert float(loss) == pytest.approx(1 + 0 + 6)
    found = torch.autograd.grad(loss, [shared, own, nobody], allow_unused=True)
    # (1, 0, 0) and (-1, 1, 3), each without its part along the other.
    assert found[0].tolist() == pytest.approx([10 / 11, 1 + 1 / 11]) and found[1].tolist() == pytest.approx(
        [3 + 3 / 11]
    )
    assert found[2] is None


def test_what_every_process_knows_is_added_up(monkeypatch: pytest.MonkeyPatch):
    """This one knows head a, the other a and b."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)

    def gather(out: list[Any], own: Any) -> None:
        out[:] = [own, {"a": ({"box": 2.0, "class": 4.0}, 2.0), "b": ({"l1": 9.0}, 3.0)}]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    log = HeadLog()
    log.add({"a/box": torch.tensor(0.0)}, torch.tensor([7.0]))
    found = {name: float(value) for name, value in log.flush(reduce=True).items()}
    assert found == {
        "loss": pytest.approx(13 / 3 + 3), "a/loss": pytest.approx(13 / 3), "a/loss_box": 3.0,
        "a/loss_class": pytest.approx(4 / 3), "b/loss": 3.0,
    }  # fmt: skip
    assert log.running() == {"loss": 7.0, "a/loss": 7.0}, "a process shows its own running means"
