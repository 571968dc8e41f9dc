"""A batch whose loss is not finite is kept, and run again it gives the same."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch

from tasks.restoration import RestorationTask
from tests.contracts.cases import batch
from tests.tiny_training import tiny_task
from tests.visionkit.callbacks.test_callbacks import fit
from tests.visionkit.callbacks.test_divergence import nan_task
from ui.cli import main
from visionkit.callbacks import Checkpointing, Divergence
from visionkit.errors import CheckpointError, Diverged
from visionkit.replay import KEY, replay, save_batch


def restorer() -> RestorationTask:
    torch.manual_seed(0)
    return RestorationTask("dncnn", dncnn={"width": 4, "depth": 3}, input={"size": (64, 64), "bits": 32})


def kept(folder: Path, change: Any) -> str:
    """A batch of restoration that is changed before it is kept."""
    task = restorer()
    data: Any = batch(task)
    change(data)
    trainer: Any = SimpleNamespace(
        lightning_module=task, global_step=7, current_epoch=1, precision="32-true", global_rank=0, world_size=1
    )
    return save_batch(trainer, data, 3, folder, 11, with_weights=True)


def test_a_batch_that_gives_nan_gives_it_again(tmp_path: Path, capsys: Any) -> None:
    def unknown(data: Any) -> None:
        data["target"]["clean"] = data["target"]["clean"].float()
        data["target"]["clean"][0, 0, 5, 5] = torch.nan

    path = kept(tmp_path, unknown)
    assert Path(path).name == "nonfinite-step000007.ckpt"
    with pytest.raises(Diverged, match=r"is nan again; first not finite: the output of loss \(RestorationLoss\)"):
        replay(path)
    assert "step 7, epoch 2, batch 4: images image-0, image-1" in capsys.readouterr().out
    assert main(["fit", "--replay", path]) == 6
    assert "first not finite" in capsys.readouterr().err


def test_the_first_layer_that_is_not_finite_is_named(tmp_path: Path) -> None:
    def endless(data: Any) -> None:
        data["inputs"]["image"] = data["inputs"]["image"].float()
        data["inputs"]["image"][0, 0, 5, 5] = torch.inf

    with pytest.raises(Diverged, match=r"the output of normalize \(Normalize\), from input that is not finite"):
        replay(kept(tmp_path, endless))


def test_a_training_keeps_its_first_bad_batch_with_the_weights_before_it(tmp_path: Path, capsys: Any) -> None:
    lightning.seed_everything(0, verbose=False)
    saver = Checkpointing(tmp_path / "checkpoints", "val/top1", every_n_train_steps=1)
    with pytest.raises(Diverged, match=r"--replay .*nonfinite-step000003\.ckpt runs them again"):
        fit(tmp_path, [Divergence(1, tmp_path), saver], nan_task({3}))
    path = tmp_path / "nonfinite-step000003.ckpt"
    stored, last = (torch.load(each, weights_only=True) for each in (path, tmp_path / "checkpoints" / "last.ckpt"))
    assert last["global_step"] == 3
    # Statistics of batch norms have seen the batch; weights have not.
    weights = {name for name, _ in tiny_task().named_parameters()}
    assert all(torch.equal(stored["state_dict"][name], last["state_dict"][name]) for name in weights)
    assert len(stored[KEY]["id"]) == len(stored[KEY]["inputs"]["image"])
    assert replay(path) == 0, "this loss was made NaN from outside"
    assert "the loss is finite" in capsys.readouterr().out


def test_what_holds_no_batch_is_refused(tmp_path: Path, capsys: Any) -> None:
    from visionkit.checkpoint import save_checkpoint

    save_checkpoint(tiny_task(), tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="no batch is kept in it"):
        replay(tmp_path / "a.ckpt")
    assert main(["fit", "--replay", "a.ckpt", "--ema", "0.9"]) == 2
    assert "leave --ema out" in capsys.readouterr().err
