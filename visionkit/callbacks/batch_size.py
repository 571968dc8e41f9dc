"""`--auto_batch_size`: the largest batch that fits into memory, found before the first step."""

from __future__ import annotations

import gc
import itertools
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.memory import is_oom_error

from visionkit.callbacks.config_saver import ConfigSaver
from visionkit.callbacks.hints import FEW_STEPS
from visionkit.callbacks.trial_steps import to_device, without_trace
from visionkit.errors import EnvironmentFault
from visionkit.wording import counted

LARGEST = 1024
"""No batch is larger; at an unchanged learning rate larger ones train less per image."""

_GPU_FRACTION = 0.85
"""Fraction of a GPU's memory that a batch may take; others of the same size may need more."""

_CPU_FRACTION = 0.25
"""Fraction of the free memory of the machine that a batch may take on the CPU."""


class AutoBatchSize(Callback):
    """Doubles the batch size, from a small one on, until it no longer fits, and trains with the last one that did.

    An epoch keeps at least `FEW_STEPS` steps. On a GPU a batch is tried and may fail; on the CPU nothing is tried that
    would need more than a quarter of the free memory, by what half of it needed. The size is in the checkpoint and in
    `config.yaml`, so the run can be continued and repeated with it.

    Attributes:
        size: What was chosen; None before.
    """

    def __init__(self) -> None:
        self.size: int | None = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        stored = checkpoint.get("callbacks", {}).get(self.state_key) or {}
        if trainer.state.fn == "fit":
            self.size = data.batch_size = stored.get("size") or data.batch_size
            self._record(trainer, data.batch_size)

    def state_dict(self) -> dict[str, Any]:
        return {"size": self.size}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.size is not None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        given = data.batch_size
        self.size, reason = largest_batch(trainer, data)
        data.batch_size = self.size
        if self.size != given:
            _reload(trainer)
        self._record(trainer, self.size)
        if trainer.is_global_zero:
            changed = f"was {given}" if self.size != given else "as given"
            fits = f"batch size {self.size} fits (data.batch_size, {changed}); {reason}"
            print(f"--auto_batch_size: {fits}; the learning rate is unchanged", file=sys.stderr, flush=True)

    def _record(self, trainer: Trainer, size: int) -> None:
        """The configuration of the run states the size, so that it is not searched for again."""
        for each in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(each, ConfigSaver):
                each.config["auto_batch_size"] = False
                if "data" in each.config:
                    each.config["data"].setdefault("init_args", {})["batch_size"] = size


def largest_batch(trainer: Trainer, data: Any) -> tuple[int, str]:
    """Searches for the largest batch size, and leaves no trace in the task.

    Args:
        trainer: Trainer of a training that has begun, before its first step.
        data: Its data module.

    Returns:
        The size, and why no larger one was taken.

    Raises:
        EnvironmentFault: Not even the smallest fits.
    """
    given = size = int(data.batch_size)
    memory = _Memory(trainer)
    if trainer.strategy.reduce_boolean_decision(not memory.known, all=False):
        return given, "the free memory of this machine cannot be measured"
    while size >= 4 and size % 2 == 0:  # batch norm needs two
        size //= 2
    images = len(data.train_dataloader().sampler)
    most = max(given, min(LARGEST, images // FEW_STEPS))
    found = 0
    with without_trace(trainer):
        try:
            while True:
                data.batch_size = size
                fits = memory.fits(data, min(size, images))
                if not trainer.strategy.reduce_boolean_decision(fits):
                    reason = f"{size} does not"
                    break
                found, size = size, 2 * size
                if size > most:
                    small = f"{size} would leave an epoch of {counted(images, 'image')} fewer than {FEW_STEPS} steps"
                    reason = small if size <= LARGEST else f"{LARGEST} is the limit"
                    break
                if not trainer.strategy.reduce_boolean_decision(memory.allows_double()):
                    reason = f"{size} might need more than a quarter of the free memory"
                    break
        finally:
            data.batch_size = given
    if not found:
        raise EnvironmentFault(f"--auto_batch_size: not even {size} images fit into memory; use smaller images")
    return found, reason


class _Memory:
    """What batches need: tried on a GPU, measured and foreseen on the CPU."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.device = trainer, trainer.strategy.root_device
        self.free = _CPU_FRACTION * free_memory()
        self._before = _resident()
        self.needed = 0
        self.known = self.device.type == "cuda" or (self.free > 0 and self._before > 0)

    def fits(self, data: Any, size: int) -> bool:
        """Whether two steps on one batch of that size can be taken."""
        loader = data.train_dataloader()
        if loader.sampler.scales is not None:  # the largest of the sizes has to fit
            loader.sampler.scales = (loader.sampler.scales[1],) * 2
        dataset, order = loader.dataset, itertools.islice(iter(loader.sampler), size)
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        try:
            with _Peak() as peak:
                batch = to_device(self.trainer, loader.collate_fn([dataset[item] for item in order]))
                for _ in range(2):
                    self._step(batch)
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError | MemoryError) or is_oom_error(error):
                return False
            raise
        self.needed = max(self.needed, peak.largest - self._before)
        if self.device.type != "cuda":
            return True
        total = torch.cuda.get_device_properties(self.device).total_memory
        return torch.cuda.max_memory_reserved(self.device) <= _GPU_FRACTION * total

    def _step(self, batch: Any) -> None:
        """A step of this process alone: another one may have no memory for it, and would be waited for."""
        task = self.trainer.lightning_module
        task.zero_grad()
        with self.trainer.precision_plugin.train_step_context():
            loss: Any = task.training_step(batch, 0)
        loss.backward()
        for optimizer in self.trainer.optimizers:
            getattr(optimizer, "optimizer", optimizer).step()  # its state takes memory too

    def allows_double(self) -> bool:
        """Whether a batch of twice the size may be tried."""
        return self.device.type == "cuda" or 2 * self.needed <= self.free


def _reload(trainer: Trainer) -> None:
    """Makes the loader of the training and, for the number of its batches, the schedule again."""
    fit_loop = trainer.fit_loop
    if fit_loop._data_fetcher is not None:
        fit_loop._data_fetcher.teardown()
    fit_loop._combined_loader = None
    fit_loop.setup_data()
    trainer.strategy.setup_optimizers(trainer)


def free_memory() -> float:
    """Bytes of memory that this machine, or the container, has left; 0 where it is not known."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return 0.0
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / f"memory.{name}").read_text(encoding="ascii").strip() for name in ("max", "current"))
        return float(min(free, max(0, int(limit) - int(used))))
    except (OSError, ValueError):  # no limit
        return float(free)


def _resident() -> int:
    """Bytes of memory that this process holds; 0 where it is not known."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
    except (OSError, ValueError, IndexError):
        return 0


class _Peak:
    """The most memory that this process held within a block, read every few milliseconds."""

    def __enter__(self) -> _Peak:
        self.largest, self._ends = _resident(), False
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._ends:
            self.largest = max(self.largest, _resident())
            time.sleep(0.002)

    def __exit__(self, *args: object) -> None:
        self._ends = True
        self._thread.join()
        self.largest = max(self.largest, _resident())
