"""A training, as the command line and Python begin it: one function, so both give the same run.

The command line builds task, data and trainer from its options and yaml files, and calls `train`. From Python `fit`
does it all:

    from visionkit import fit, load
    run = fit(ClassificationTask("resnet18", classes=data.classes), data, run="runs/flowers", max_epochs=10)
    load(run.best)("photo.jpg")
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning import Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger

from visionkit.arguments import check_run_options
from visionkit.callbacks import Checkpointing, LRRangeTest, NoProfiler, default_callbacks
from visionkit.callbacks.loggers import track
from visionkit.callbacks.run_report import report_best
from visionkit.checkpoint import AtomicCheckpointIO, find_last
from visionkit.data import VisionDataModule
from visionkit.devices import started_devices, state_devices
from visionkit.durations import duration_text, seconds_of
from visionkit.elastic import join_restarted
from visionkit.errors import CheckpointError, UsageError
from visionkit.log_filters import hush_lightning
from visionkit.names import classes_differ
from visionkit.remembered import described
from visionkit.run_report import summary
from visionkit.runs import CHECKPOINTS, has_checkpoint, is_first_rank, release, run_folder
from visionkit.task import VisionTask
from visionkit.trainer_options import check_trainer
from visionkit.warm_start import take_weights

TRAINER_DEFAULTS = {"log_every_n_steps": 20, "enable_model_summary": False, "use_distributed_sampler": False}
"""What a trainer of ours is built with unless somebody sets it."""


@dataclass(frozen=True)
class RunSettings:
    """What a run takes beside task, data and trainer.

    Attributes:
        folder: Folder of the run.
        ema: Decay of the weights' moving average; 0 is off.
        checkpoint_every: Also save every N steps; 0 saves at the end of each epoch alone.
        stop_after_nonfinite: Stop after that many NaN or infinite losses in a row; 0 is off.
        report: Write figures, tables and a summary into the folder.
        rank_timeout: Seconds after which a process that does not respond ends the others.
        command: The command line, for the model card.
        hang_timeout: Seconds without a step after which the process ends, see `HangWatch`; 0 is off.
        early_stopping: Stop after that many validations in a row without a better metric; 0 is off.
        max_time: Train for that time, see `visionkit.callbacks.time_budget`.
        find_lr: Find a learning rate in place of a training, see `visionkit.callbacks.lr_range`.
        auto_batch_size: Train with the largest batch that fits, see `visionkit.callbacks.batch_size`.
    """

    folder: Path
    ema: float = 0.0
    checkpoint_every: int = 0
    stop_after_nonfinite: int = 3
    report: bool = True
    rank_timeout: float = 1800.0
    command: str = ""
    hang_timeout: float = 0.0
    early_stopping: int = 0
    max_time: Any = None
    find_lr: bool = False
    auto_batch_size: bool = False


@dataclass(frozen=True)
class Run:
    """A training that has ended.

    Attributes:
        folder: What it left: config.yaml, checkpoints, metrics, report.
        best: The checkpoint that the monitored metric chose; None where none was saved.
        last: The newest checkpoint; None where none was saved.
        metrics: The last values that were measured, by name (`val/accuracy`).
        stopped_early: Why it ended before its time, in one sentence; empty where it did not.
    """

    folder: Path
    best: Path | None
    last: Path | None
    metrics: dict[str, float]
    stopped_early: str = ""


def fit(
    task: VisionTask,
    data: VisionDataModule,
    *,
    run: str | Path | None = None,
    max_epochs: int | None = None,
    max_time: str | timedelta | Mapping[str, float] | None = None,
    ckpt_path: str | Path | None = None,
    init_from: str | Path | None = None,
    seed: int = 0,
    find_lr: bool = False,
    auto_batch_size: bool = False,
    early_stopping: int = 0,
    ema: float = 0.0,
    checkpoint_every: int = 0,
    stop_after_nonfinite: int = 3,
    report: bool = True,
    rank_timeout: float = 1800.0,
    hang_timeout: float = 0.0,
    **trainer: Any,
) -> Run:
    """Trains a task on data, as `visionkit fit` does: same folder, same checkpoints, same report.

    Args:
        task: What is trained; it holds the weights of the last step afterwards (of the average, with `ema`).
        data: What it is trained on. Where it has no `input`, it takes the task's.
        run: Folder of the run; `runs/<task>-<time>` by default.
        max_epochs: Epochs of training; with `max_time` at most that many.
        max_time: Train for a time such as `10m` or `1h30m`: as many epochs as fit into it are chosen, so that the
            schedule of the learning rate ends with them.
        ckpt_path: Go on from a checkpoint of this run: `last`, `best`, or its path.
        init_from: Begin with the weights of a trained model, where they fit.
        seed: Random seed of the weights' order, shuffling, augmentation and dropout.
        find_lr: Train nothing: try growing learning rates, write `find_lr.png` and `find_lr.csv` into the run's folder,
            and return the suggestion as the metric `suggested_lr`. The task's weights stay as they are.
        auto_batch_size: Train with the largest batch that fits into memory, found before the first step; the learning
            rate is not changed.
        early_stopping: Stop after that many validations in a row without a better metric; 0 is off.
        ema: Decay of the weights' moving average; 0 is off.
        checkpoint_every: Also save every N steps, beside the end of each epoch.
        stop_after_nonfinite: Raise after that many NaN or infinite losses in a row; 0 is off.
        report: Write figures, tables and a summary into the run's folder.
        rank_timeout: Seconds after which a process that does not respond ends the others.
        hang_timeout: End the process after that many seconds without a step; 0 is off.
        **trainer: Options of Lightning's `Trainer`, such as `devices=4` or `precision="bf16-mixed"`.

    Returns:
        Where the results lie and what was measured.

    Raises:
        UsageError: A task or data that is no such object, options that contradict each other, or data with other
            classes than the task's.
        DataError: The data cannot be read.
        DivergenceError: The loss is not finite.

    Example:
        >>> run = fit(task, data, run="runs/flowers", max_epochs=10)
        >>> run.best
        PosixPath('runs/flowers/checkpoints/best-step000420-accuracy-0.9731.ckpt')
    """
    for name, value, base in (("task", task, VisionTask), ("data", data, VisionDataModule)):
        if not isinstance(value, base):
            kind = value.__name__ if isinstance(value, type) else repr(value)
            raise UsageError(f"fit: {name} is {kind}; give an object of a {base.__name__}, not its name or class")
    hush_lightning()
    check_run_options({"seed_everything": seed})
    seed_everything(seed, workers=True, verbose=False)
    _agree(task, data)
    trainer = {**TRAINER_DEFAULTS, **({} if max_epochs is None else {"max_epochs": max_epochs}), **trainer}
    max_time = None if max_time is None else duration_text(seconds_of(max_time, "max_time"), exact=True)
    check_trainer(trainer, learning=not find_lr, timed=max_time is not None)
    wanted = None if ckpt_path is None else str(ckpt_path)
    own: dict[str, Any] = {
        **({} if max_time is None else {"max_time": max_time}),
        "auto_batch_size": auto_batch_size,
        "early_stopping": early_stopping,
        "ema": ema,
        "checkpoint_every": checkpoint_every,
        "stop_after_nonfinite": stop_after_nonfinite,
        "report": report,
        "rank_timeout": rank_timeout,
        "hang_timeout": hang_timeout,
    }
    check_run_options(own)
    folder = run_folder(None if run is None else str(run), task.name, bool(wanted))
    settings = RunSettings(folder, **own, find_lr=find_lr)
    more = trainer.pop("callbacks", None) or []
    callbacks = more if isinstance(more, list) else [more]
    options = trainer_options(task, settings, trainer, _configuration(task, data, seed, trainer, own))
    defaults = options.pop("callbacks")
    try:
        options = {**trainer, **started_devices(trainer), **options, "callbacks": [*defaults, *callbacks]}
        built = Trainer(default_root_dir=str(folder), **options)
        found = resolve_checkpoint(wanted, folder) if wanted else None
        return train(built, task, data, settings, found, None if init_from is None else str(init_from))
    finally:
        release()


def trainer_options(
    task: VisionTask, settings: RunSettings, given: Mapping[str, Any], config: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What the trainer of a training gets beside what was asked for.

    Args:
        task: What is trained.
        settings: Settings of the run.
        given: Options of the trainer that somebody set.
        config: Written as `config.yaml` into the folder.

    Returns:
        Options of Lightning's `Trainer`; `callbacks` are ours alone and come before others.
    """
    bare = bool(given.get("barebones"))
    options: dict[str, Any] = {"log_every_n_steps": 0} if bare else {}
    if settings.find_lr:
        options = {"logger": False, "num_sanity_val_steps": 0, "max_epochs": 1}
    elif given.get("logger") in (None, True):
        options["logger"] = False if bare else CSVLogger(str(settings.folder), name="metrics")
    options["callbacks"] = default_callbacks(
        task,
        run=settings.folder,
        config=None if settings.find_lr else config,
        ema=settings.ema,
        checkpoint_every=settings.checkpoint_every,
        stop_after_nonfinite=settings.stop_after_nonfinite,
        hang_timeout=settings.hang_timeout,
        early_stopping=settings.early_stopping,
        max_time=None if settings.find_lr else settings.max_time,
        find_lr=settings.find_lr,
        auto_batch_size=settings.auto_batch_size,
        show_progress=given.get("enable_progress_bar") is not False and not bare and not settings.find_lr,
        save=given.get("enable_checkpointing") is not False and not bare,
        report=settings.report and not bare and not settings.find_lr,
        command=settings.command,
    )
    if given.get("profiler") is None and not bare:
        options["profiler"] = NoProfiler()
    plugins = given.get("plugins") or []
    options["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
    return options


def prepare(trainer: Any, rank_timeout: float, ckpt_path: Any = None) -> None:
    """Sets the time after which a silent process ends the others, and begins or goes on with the tracker's run.

    Args:
        trainer: Not used yet; what it computes on is printed where several processes are meant.
        rank_timeout: Rank timeout in seconds.
        ckpt_path: The checkpoint that training goes on from.
    """
    state_devices(trainer)
    if hasattr(trainer.strategy, "_timeout"):
        timeout = timedelta(seconds=rank_timeout)
        trainer.strategy._timeout = timeout
        device = "nccl" if trainer.strategy.root_device.type == "cuda" else "gloo"
        join_restarted(getattr(trainer.strategy, "process_group_backend", None) or device, timeout)
    track(trainer, ckpt_path)


def train(
    trainer: Any,
    task: VisionTask,
    data: VisionDataModule,
    settings: RunSettings,
    ckpt_path: Path | None = None,
    init_from: str | None = None,
    prepared: bool = False,
    **more: Any,
) -> Run:
    """Trains, and states where the result lies.

    Args:
        trainer: Trainer with the options of `trainer_options`.
        task: What is trained.
        data: What it is trained on.
        settings: Settings of the run.
        ckpt_path: The checkpoint to go on from.
        init_from: A trained model whose weights are the first ones, where nothing is gone on from.
        prepared: `prepare` was called already.
        **more: Further arguments of the trainer's `fit`.
    """
    if settings.find_lr and ckpt_path is not None:
        raise UsageError("find_lr tests the first steps of a training; give init_from in place of ckpt_path")
    if not prepared:
        prepare(trainer, settings.rank_timeout, ckpt_path)
    if init_from:
        # Of a training that goes on too: its optimizer was made for it.
        task.started_from = Path(init_from).name if Path(init_from).exists() else init_from
    if init_from and ckpt_path is None:
        new = take_weights(task, init_from)
        stated = f"{len(new)} tensors did not fit and are new, such as {new[0]}" if new else "all weights are taken"
        if trainer.is_global_zero:
            print(f"init_from {init_from}: {stated}", file=sys.stderr)
    trainer.fit(task, datamodule=data, ckpt_path=None if ckpt_path is None else str(ckpt_path), **more)
    for each in trainer.callbacks:
        if isinstance(each, LRRangeTest):
            rate = each.found.suggested if each.found is not None else None
            return Run(settings.folder, None, None, {} if rate is None else {"suggested_lr": rate})
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if value.numel() == 1}
    reason = summary.stopped_early(trainer) or ""
    if trainer.is_global_zero and reason:
        print(reason)
    if settings.report:
        report_best(trainer, task)
    saver = next((each for each in trainer.checkpoint_callbacks if isinstance(each, Checkpointing)), None)
    paths = (saver.best_model_path, saver.last_model_path) if saver is not None else ("", "")
    best, last = (Path(path) if path and Path(path).is_file() else None for path in paths)
    return Run(settings.folder, best, last, metrics, reason)


def resolve_checkpoint(checkpoint: str, run: Path) -> Path | None:
    """`last` is the newest whole checkpoint of the run, `best` the one that the monitored metric chose.

    A run without any checkpoint has no `last`: the same words then begin a run and, started again, go on with it.

    Raises:
        CheckpointError: There is none of that name.
    """
    folder = run / CHECKPOINTS
    if checkpoint == "last":
        found = find_last(folder)
        if found is None and has_checkpoint(run):
            raise CheckpointError(f"{folder}: no checkpoint here is whole; begin again in another --run")
        if found is None and is_first_rank():
            print(f"--ckpt_path last: {run} has no checkpoint yet; training begins", file=sys.stderr)
        return found
    if checkpoint == "best":
        best = sorted(folder.glob("best*.ckpt"), key=lambda path: path.stat().st_mtime)
        if not best:
            raise CheckpointError(f"{folder}: no best checkpoint here yet")
        return best[-1]
    if not Path(checkpoint).exists():
        raise CheckpointError(f"{checkpoint}: no such checkpoint; allowed are a file, last and best")
    return Path(checkpoint)


def _agree(task: VisionTask, data: VisionDataModule) -> None:
    """What task and data share is the task's where the data leaves it out, and the same otherwise."""
    if data.input is None:
        data.input = task.input
    elif replace(data.input, white=None) != replace(task.input, white=None):
        raise UsageError("data.input differs from the task's; leave it out, and the data takes the task's")
    if task.classes and not data.classes:
        data.classes = task.classes
    if task.classes and tuple(data.classes) != task.classes:
        differ = classes_differ(task.classes, tuple(data.classes))
        raise UsageError(differ.replace("the checkpoint", "the task").replace("train again or give", "give"))


def _configuration(
    task: VisionTask, data: VisionDataModule, seed: int, trainer: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """The run as a configuration of the command line, as far as it can be written down."""
    model = {"class_path": f"{type(task).__module__}.{type(task).__qualname__}", "init_args": task.config}
    out: dict[str, Any] = {"seed_everything": seed, **own, "model": model}
    for name, value in (("data", data), ("trainer", dict(trainer))):
        try:
            out[name] = described(value)
        except TypeError:  # built with objects that have no plain form
            continue
    if "data" in out:  # linked: the command line takes them from the model
        for name in ("input", "classes"):
            out["data"]["init_args"].pop(name, None)
    return out
