"""Weights & Biases through Lightning's logger: one run folder, one curve, nothing sent where no server answers.

wandb itself is imported when a run begins, by `visionkit.tracking.tracker` alone.
"""

from visionkit.tracking.content import Picture, Rows, readable_config
from visionkit.tracking.server import probe
from visionkit.tracking.tracker import CHECKPOINT_KEY, WandbTracker, continue_from, trackers

__all__ = [
    "CHECKPOINT_KEY",
    "Picture",
    "Rows",
    "WandbTracker",
    "continue_from",
    "probe",
    "readable_config",
    "trackers",
]
