"""The batch whose loss was not finite, kept in a file, and run again to find where it begins."""

from __future__ import annotations

import contextlib
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from visionkit.checkpoint_files import AtomicCheckpointIO, read_checkpoint
from visionkit.errors import CheckpointError, Diverged, EnvironmentFault
from visionkit.model_files import find_checkpoint
from visionkit.wording import epoch_text

if TYPE_CHECKING:
    from lightning import Trainer

    from visionkit.task import VisionTask

KEY = "replay"
"""Key of such a file beside those of a checkpoint."""


def save_batch(trainer: Trainer, batch: Any, number: int, folder: Path, random_seed: int, with_weights: bool) -> str:
    """Writes a batch into a run's folder, as a checkpoint with the batch in it.

    Args:
        trainer: Within a training.
        batch: The batch on its device.
        number: Its number in the epoch, from 0.
        folder: Folder of the run.
        random_seed: What the generators were seeded with before it.
        with_weights: The weights are those before the step of this batch, and are kept too; otherwise a replay takes
            the last checkpoint of the run.

    Returns:
        Path of the file; empty where it could not be written, which must not hide why the training ends.
    """
    module: Any = trainer.lightning_module
    kept = {key: _on_cpu(batch[key]) for key in ("inputs", "target")}
    checkpoint: dict[str, Any] = {"global_step": trainer.global_step, "epoch": trainer.current_epoch}
    if with_weights:
        checkpoint["state_dict"] = {name: value.detach().cpu() for name, value in module.state_dict().items()}
    module.on_save_checkpoint(checkpoint)
    checkpoint[KEY] = {
        **kept,
        "id": list(batch.get("id", ())),
        "batch": number,
        "random_seed": random_seed,
        "precision": str(trainer.precision),
    }
    rank = f"-rank{trainer.global_rank}" if trainer.world_size > 1 else ""
    path = folder / f"nonfinite-step{trainer.global_step:06}{rank}.ckpt"
    try:
        AtomicCheckpointIO().save_checkpoint(checkpoint, path)
    except (EnvironmentFault, OSError, RuntimeError) as error:
        print(f"visionkit: the batch could not be kept: {error}", file=sys.stderr)
        return ""
    return str(path)


def replay(path: str | Path) -> int:
    """Runs a kept batch again as its training step did, and reports where NaN or infinity begins.

    Args:
        path: What `save_batch` wrote.

    Returns:
        0 where the loss is finite now.

    Raises:
        CheckpointError: It is no such file, or the weights for it are not there any more.
        Diverged: The loss is not finite.
    """
    path = Path(path)
    checkpoint = read_checkpoint(path)
    kept = checkpoint.get(KEY)
    if not isinstance(kept, dict) or not {"inputs", "target", "precision", "random_seed"} <= kept.keys():
        raise CheckpointError(f"{path}: no batch is kept in it; give a file nonfinite-step*.ckpt of a run's folder")
    task, source = _task(path, "state_dict" in checkpoint)
    named = ", ".join(map(str, kept["id"][:4])) or "(unnamed)"
    place = f"{epoch_text(checkpoint['epoch'])}, batch {kept['batch'] + 1}"
    print(f"step {checkpoint['global_step']}, {place}: images {named}")
    print(f"weights: {source}")
    for generator in (torch.manual_seed, random.seed):
        generator(kept["random_seed"])
    np.random.seed(kept["random_seed"] & 0xFFFF_FFFF)  # noqa: NPY002  # as in training, see `Seeding`
    batch: Any = {"inputs": kept["inputs"], "target": kept["target"], "id": kept["id"]}
    task.train()
    first: list[str] = []
    with _autocast(kept["precision"]), _watched(task, first):
        batch = task.train_batch(batch)
        terms = {name: float(value) for name, value in task.training_losses(batch).items()}
    loss = sum(terms.values())
    print("loss: " + ", ".join(f"{name} {value:.6g}" for name, value in terms.items()))
    if math.isfinite(loss):
        print("the loss is finite: it came from the weights of its own step, or from the device")
        return 0
    broken = [name for name, value in terms.items() if not math.isfinite(value)]
    where = first[0] if first else f"the loss itself ({', '.join(broken)}): all outputs of the network are finite"
    raise Diverged(f"the loss of this batch is {loss:g} again; first not finite: {where}")


def _task(path: Path, has_weights: bool) -> tuple[VisionTask, str]:
    from visionkit.checkpoint import load_task

    if has_weights:
        return load_task(path), "those before this step"
    last = find_checkpoint(path.parent, "last")
    return load_task(last), f"those of {last}, since a device is read when its step is over"


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_on_cpu(each) for each in value]
    return value


def _autocast(precision: str) -> contextlib.AbstractContextManager[Any]:
    if not precision.endswith("-mixed"):
        return contextlib.nullcontext()
    return torch.autocast("cpu", torch.bfloat16 if precision.startswith("bf16") else torch.float16)


@contextlib.contextmanager
def _watched(task: VisionTask, first: list[str]) -> Iterator[None]:
    """Notes the first layer whose output is not finite."""

    def look(name: str, layer: nn.Module) -> Any:
        def hook(_: nn.Module, given: Any, output: Any) -> None:
            if first or _is_finite(output):
                return
            origin = "from finite input" if _is_finite(given) else "from input that is not finite"
            first.append(f"the output of {name} ({type(layer).__name__}), {origin}")

        return layer.register_forward_hook(hook)

    layers = [(name, layer) for name, layer in task.named_modules() if name and not list(layer.children())]
    handles = [look(name, layer) for name, layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_finite, value))
    return True
