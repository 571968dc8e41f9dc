"""Silence for libraries that print, log and warn thousands of lines which help nobody."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from functools import cache

_NOISE = re.compile(
    r"Tip:|TPU available|HPU available|Seed set to|litlogger|litmodels|GPU available|estimate number of stepping"
    r"|`Trainer.fit` stopped|Restored all states"
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Holds back everything that is printed, logged or warned inside the block; exceptions pass."""
    before = logging.root.manager.disable
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)


def hush_lightning() -> None:
    """Filters what Lightning says at every start and nobody can act on."""
    _hush_loggers()
    for message in (
        r".*module\(s\) in eval mode at the start of training",  # a frozen backbone is meant to be
        r".*You called `self.log\(.*but have no logger configured",
        r".*LeafSpec.* is deprecated",
        r".*It is recommended to use `self.log\(.*sync_dist=True\)`",  # ours are equal on every rank already
        r".*does not have many workers",  # decoding in the training process is a choice, and resumes exactly
        r".*is smaller than the logging interval",
        r".*Checkpoint directory .* exists and is not empty",
        r".*instantiate_classes.* was deprecated|.*JSONARGPARSE_DEPRECATION_WARNINGS",  # Lightning's call, not ours
        r".*You have overridden `transfer_batch_to_device`",
    ):
        warnings.filterwarnings("ignore", message)


@cache  # a logger keeps every filter that it is given
def _hush_loggers() -> None:
    for name in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.seed",
        "lightning.fabric.utilities.rank_zero",
    ):
        logging.getLogger(name).addFilter(lambda record: not _NOISE.search(record.getMessage()))
    logging.getLogger().addFilter(lambda record: "Images sizes do not match" not in record.getMessage())
