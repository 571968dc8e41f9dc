"""What a training states about its data before it starts: the worst of what the labels alone show."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from visionkit.callbacks.config_saver import ConfigSaver
from visionkit.checkup.examination import examine_labels
from visionkit.checkup.kinds import KINDS
from visionkit.checkup.text_report import grouped, one_line
from visionkit.data import Split, VisionDataModule
from visionkit.errors import VisionKitError
from visionkit.runs import CONFIG
from visionkit.wording import counted

log = logging.getLogger(__name__)

_MOST = 3  # lines
_REPORTED = frozenset({"absent-class", "degenerate-box", "box-outside-image", "box-beyond-image", "keypoint-at-origin"})
"""Kinds that readers and the summary of the data warn of themselves."""


def warn_before_training(data: VisionDataModule, splits: Sequence[Split]) -> None:
    """Warns of errors and warnings in the labels, a few lines at most, and names the command that finds the rest.

    Args:
        data: The data; where its trainer saves a configuration, the command takes that.
        splits: Splits that the training uses.
    """
    try:
        found = examine_labels(data, splits)
    except VisionKitError:
        return  # the training meets it and states it
    serious = [each for each in found.findings if each.severity != "note" and each.kind not in _REPORTED]
    groups = list(grouped(serious))
    for kind, split, some in groups[:_MOST]:
        log.warning("%s: %s in %s, such as %s", kind, counted(len(some), KINDS[kind].unit), split, one_line(some[0]))
    if groups:
        more = f"{len(groups) - _MOST} more kinds of findings; " if len(groups) > _MOST else ""
        saver = next((each for each in getattr(data.trainer, "callbacks", ()) if isinstance(each, ConfigSaver)), None)
        named = "" if saver is None else f" -c {saver.folder / CONFIG}"
        log.warning("%s`visionkit doctor%s` examines the data whole", more, named)
