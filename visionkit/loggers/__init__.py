"""Weights & Biases through Lightning's logger: one run folder, one curve, nothing sent where no server responds.

wandb itself is imported here alone, when a run begins.
"""

from visionkit.loggers.content import LoggedImage, Rows, readable_config
from visionkit.loggers.continuing import CHECKPOINT_KEY, continue_from, trackers
from visionkit.loggers.tracker import WandbTracker
from visionkit.reachable import probe

__all__ = [
    "CHECKPOINT_KEY",
    "LoggedImage",
    "Rows",
    "WandbTracker",
    "continue_from",
    "probe",
    "readable_config",
    "trackers",
]
