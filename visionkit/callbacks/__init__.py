"""What goes on beside the steps of a training, one file each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionkit.callbacks.batch_size import AutoBatchSize
from visionkit.callbacks.by_image import ByImage
from visionkit.callbacks.checkpointing import Checkpointing
from visionkit.callbacks.config_saver import ConfigSaver
from visionkit.callbacks.divergence import Divergence
from visionkit.callbacks.early_stopping import early_stop
from visionkit.callbacks.ema import EMA
from visionkit.callbacks.fast_hooks import NoProfiler, without_empty_hooks
from visionkit.callbacks.feature_statistics import FeatureStatisticsCollector
from visionkit.callbacks.hang_watch import HangWatch
from visionkit.callbacks.hints import Hints
from visionkit.callbacks.interruption import Interruption
from visionkit.callbacks.lr_range import LRRangeTest
from visionkit.callbacks.monitors import CheckMonitors
from visionkit.callbacks.progress import Bar, Lines, progress
from visionkit.callbacks.resharding import Resharding
from visionkit.callbacks.run_report import RunReport
from visionkit.callbacks.seeding import Seeding
from visionkit.callbacks.shared_buffers import SharedBuffers
from visionkit.callbacks.starting_point import StartingPoint
from visionkit.callbacks.time_budget import TimeBudget
from visionkit.callbacks.unfreezing import Unfreezing
from visionkit.runs import CHECKPOINTS

if TYPE_CHECKING:
    from lightning import Callback

    from visionkit.task import VisionTask

__all__ = [
    "EMA",
    "AutoBatchSize",
    "Bar",
    "ByImage",
    "CheckMonitors",
    "Checkpointing",
    "ConfigSaver",
    "Divergence",
    "FeatureStatisticsCollector",
    "HangWatch",
    "Hints",
    "Interruption",
    "LRRangeTest",
    "Lines",
    "NoProfiler",
    "Resharding",
    "RunReport",
    "Seeding",
    "SharedBuffers",
    "StartingPoint",
    "TimeBudget",
    "Unfreezing",
    "default_callbacks",
    "progress",
]


def default_callbacks(
    task: VisionTask,
    *,
    run: str | Path,
    config: Mapping[str, Any] | None = None,
    ema: float = 0.0,
    checkpoint_every: int = 0,
    stop_after_nonfinite: int = 3,
    hang_timeout: float = 0.0,
    early_stopping: int = 0,
    max_time: Any = None,
    find_lr: bool = False,
    auto_batch_size: bool = False,
    seed: int | None = None,
    show_progress: bool = True,
    report: bool = True,
    command: str = "",
    save: bool = True,
) -> list[Callback]:
    """What every training needs: exact resume, a clean end, the best and the last checkpoint.

    Args:
        task: Names the metric that chooses the best.
        run: Folder of the run; checkpoints go into `checkpoints` inside it.
        config: Written as `config.yaml` and logged.
        ema: Decay of the weights' moving average; 0 is off.
        checkpoint_every: Also save every N steps; 0 is off.
        stop_after_nonfinite: Stop after that many NaN or infinite losses in a row; 0 is off.
        hang_timeout: End the process after that many seconds without a step, see `HangWatch`; 0 is off.
        early_stopping: Stop after that many validations in a row without a better metric; 0 is off.
        max_time: Train for that time, see `TimeBudget`.
        find_lr: Find a learning rate in place of a training, see `LRRangeTest`.
        auto_batch_size: Train with the largest batch that fits, see `AutoBatchSize`.
        seed: Random seed of dropout and mixup; the data module's by default.
        show_progress: A bar in a terminal, lines elsewhere.
        report: Write figures and a summary into the folder, see `RunReport`.
        command: The command line, for the model card.
        save: Keep checkpoints.

    Returns:
        In the order that they have to run in: the average is taken before it is saved, a loss is judged before either.
    """
    metric, mode = task.monitor
    callbacks: list[Callback] = [Seeding(seed)]
    if auto_batch_size:
        callbacks.append(AutoBatchSize())
    callbacks += [Resharding(), SharedBuffers()]
    if find_lr:
        callbacks.append(LRRangeTest(run, command))
    if max_time is not None:
        callbacks.append(TimeBudget(max_time, reported=report))
    if stop_after_nonfinite:
        callbacks.append(Divergence(stop_after_nonfinite, run if save else None))
    if hang_timeout:
        callbacks.append(HangWatch(hang_timeout))
    if ema:
        callbacks.append(EMA(ema))
    if config is not None:
        callbacks.append(ConfigSaver(run, config))
    if report:
        callbacks.append(RunReport(run, command, config))
    callbacks += [
        FeatureStatisticsCollector(),
        Interruption(),
        StartingPoint(),
        Hints(),
        CheckMonitors(),
        *([progress()] if show_progress else []),
        *([early_stop(metric, mode, early_stopping)] if early_stopping else []),
        *([Checkpointing(Path(run) / CHECKPOINTS, metric, mode, checkpoint_every)] if save else []),
    ]
    return without_empty_hooks(callbacks)
