"""The moving average, number by number, without a trainer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import LightningModule

from visionkit.callbacks.ema import EMA
from visionkit.errors import UsageError


class One(LightningModule):
    """A weight, a float buffer, a count, and a buffer that no checkpoint holds."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0]))
        self.register_buffer("running", torch.tensor([2.0]))
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("passing", torch.tensor([4.0]), persistent=False)

    def become(self, value: float) -> None:
        with torch.no_grad():
            self.weight.fill_(value)
            self.running.fill_(2 * value)


def begin(ema: EMA, fn: str = "fit") -> tuple[Any, One]:
    trainer, module = SimpleNamespace(global_step=0, state=SimpleNamespace(fn=fn)), One()
    ema.on_fit_start(trainer, module)
    ema.on_train_start(trainer, module)
    return trainer, module


def step(ema: EMA, trainer: Any, module: One, value: float) -> None:
    module.become(value)
    trainer.global_step += 1
    ema.on_train_batch_end(trainer, module, None, None, 0)


@pytest.mark.parametrize("warm_up", [True, False])
@pytest.mark.parametrize("decay", [0.15, 0.9])
def test_the_average_is_the_formula_and_takes_the_place_of_the_weights(decay: float, warm_up: bool) -> None:
    ema = EMA(decay, warm_up)
    trainer, module = begin(ema)
    expected = 1.0
    for n, value in enumerate((5.0, 3.0, 8.0), 1):
        step(ema, trainer, module, value)
        ema.on_train_batch_end(trainer, module, None, None, 0)  # a batch whose gradients are only accumulated
        kept = min(decay, (1 + n) / (10 + n)) if warm_up else decay
        expected = kept * expected + (1 - kept) * value
        ema.on_validation_epoch_start(trainer, module)
        ema.on_validation_epoch_start(trainer, module)  # a second time changes nothing
        assert module.weight.item() == pytest.approx(expected)
        assert module.count.item() == 3 and module.passing.item() == 4
        ema.on_validation_epoch_end(trainer, module)
        assert module.weight.item() == value and module.running.item() == 2 * value
    ema.on_train_end(trainer, module)
    ema.on_fit_end(trainer, module)
    assert module.weight.item() == pytest.approx(expected)


def test_validation_alone_changes_no_weights() -> None:
    ema = EMA(0.5)
    trainer, module = begin(ema)
    step(ema, trainer, module, 9.0)
    trainer.state.fn = "validate"
    ema.on_validation_epoch_start(trainer, module)
    assert module.weight.item() == 9
    ema.on_validation_epoch_end(trainer, module)
    assert module.weight.item() == 9


@pytest.mark.parametrize("in_module", [True, False])
def test_a_checkpoint_holds_both_and_goes_on_with_both(in_module: bool) -> None:
    ema = EMA(0.5, warm_up=False)
    trainer, module = begin(ema)
    step(ema, trainer, module, 3.0)  # the average is 2
    if in_module:
        ema.on_validation_epoch_start(trainer, module)
    checkpoint: dict[str, Any] = {"state_dict": {key: value.clone() for key, value in module.state_dict().items()}}
    ema.on_save_checkpoint(trainer, module, checkpoint)
    assert checkpoint["state_dict"]["weight"].item() == 2 and checkpoint["current_model_state"]["weight"].item() == 3
    assert checkpoint["state_dict"]["count"].item() == checkpoint["current_model_state"]["count"].item() == 3
    assert checkpoint["averaging_state"] == {"updates": 1, "decay": 0.5}

    other, again = EMA(0.5, warm_up=False), One()
    trainer = SimpleNamespace(global_step=1, state=SimpleNamespace(fn="fit"))
    again.load_state_dict(checkpoint["state_dict"])
    other.on_load_checkpoint(trainer, again, checkpoint)
    other.on_fit_start(trainer, again)
    other.on_train_start(trainer, again)
    assert again.weight.item() == 3 and other.updates == 1
    other.on_train_batch_end(trainer, again, None, None, 0)  # the step that was saved does not count twice
    step(other, trainer, again, 6.0)
    other.on_train_end(trainer, again)
    assert again.weight.item() == 4


def test_a_checkpoint_without_an_average_is_reported_and_one_to_validate_is_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ema, module = EMA(), One()
    trainer = SimpleNamespace(global_step=0, state=SimpleNamespace(fn="validate"))
    ema.on_load_checkpoint(trainer, module, {"state_dict": {}})
    assert not caplog.records
    trainer.state.fn = "fit"
    ema.on_load_checkpoint(trainer, module, {"state_dict": {}})
    assert "without averaging" in caplog.text
    checkpoint: dict[str, Any] = {"state_dict": {}}
    ema.on_save_checkpoint(trainer, module, checkpoint)
    assert checkpoint == {"state_dict": {}}, "nothing was averaged yet"
    ema.on_fit_end(trainer, module)
    assert module.weight.item() == 1


def test_the_decay_is_between_0_and_1_and_999_thousandths_by_default() -> None:
    assert EMA().decay == 0.999 and EMA().warm_up
    for decay in (0.0, 1.0, -0.1):
        with pytest.raises(UsageError, match="ema"):
            EMA(decay)
