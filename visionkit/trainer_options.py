"""The trainer's options: what Lightning leaves unchecked, and how long a training is."""

from __future__ import annotations

import math
import sys
from typing import Any

from visionkit.devices import check_devices
from visionkit.errors import UsageError
from visionkit.runs import is_first_rank

DEFAULT_EPOCHS = 30
"""Where nothing states how long to train; Lightning's own 1,000 is meant for nobody."""

_LEAST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "num_nodes": 1,
    "log_every_n_steps": 0,
    "reload_dataloaders_every_n_epochs": 0,
    "gradient_clip_val": 0,
    "num_sanity_val_steps": -1,
    "max_epochs": -1,
    "max_steps": -1,
    "min_epochs": 0,
    "min_steps": 0,
}


def check_trainer(options: Any, learning: bool, timed: bool = False) -> None:
    """Refuses values that Lightning takes and then fails at, and fills in the number of epochs.

    Args:
        options: The parsed `trainer` part of the configuration; changed in place.
        learning: It is to train.
        timed: The number of epochs is chosen by a time.

    Raises:
        UsageError: A value is out of range.
        EnvironmentFault: This machine lacks the device that is asked for.
    """
    if options.get("strategy") == "fsdp2":
        import visionkit.sharding.strategy  # noqa: F401  # registers it
    elif str(options.get("strategy")).startswith("fsdp"):
        raise UsageError(f"trainer.strategy {options.get('strategy')}: use fsdp2, or -c fsdp to see its options")
    check_devices(options)
    for name, least in _LEAST.items():
        value = options.get(name)
        if isinstance(value, (int, float)) and (math.isnan(value) or value < least):
            raise UsageError(f"trainer.{name} {value}: must be at least {least}")
    interval = options.get("val_check_interval")
    if isinstance(interval, (int, float)) and (math.isnan(interval) or interval <= 0):
        raise UsageError(
            f"trainer.val_check_interval {interval}: must be above 0, a fraction of an epoch or a number of steps; "
            "--trainer.limit_val_batches 0 leaves validation out"
        )
    if timed and options.get("max_time") is not None:
        raise UsageError("max_time and trainer.max_time are both given; leave trainer.max_time out")
    unlimited = not timed and options.get("max_steps") in (None, -1) and options.get("max_time") is None
    if learning and options.get("max_epochs") is None and unlimited and not options.get("fast_dev_run"):
        options["max_epochs"] = max(DEFAULT_EPOCHS, options.get("min_epochs") or 0)
        if is_first_rank():
            print(f"trainer.max_epochs is not given: training for {options['max_epochs']} epochs", file=sys.stderr)
