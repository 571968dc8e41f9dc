"""Silence for libraries that print, log and warn thousands of lines which help nobody."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from functools import cache

_NOISE = re.compile(r"Tip:|litlogger|litmodels")


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
    """Leaves out what Lightning states at every start and nobody can act on; other warnings become one line each."""
    _hush_loggers()
    warnings.formatwarning = _one_line
    for message in (
        r".*module\(s\) in eval mode at the start of training",  # a frozen backbone is meant to be
        r".*You called `self.log\(.*but have no logger configured",
        r".*You are trying to `self.log\(\)` but `Trainer\(barebones",
        r".*LeafSpec.* is deprecated",
        r".*It is recommended to use `self.log\(.*sync_dist=True\)`",  # ours are equal on every rank already
        r".*does not have many workers",  # decoding in the training process is a choice, and resumes exactly
        r".*is smaller than the logging interval",
        r".*Checkpoint directory .* exists and is not empty",
        r".*instantiate_classes.* was deprecated|.*JSONARGPARSE_DEPRECATION_WARNINGS",  # Lightning's call, not ours
        r"\s*Unable to serialize instance",  # a default of a callback that the configuration leaves out
        r".*You have overridden `transfer_batch_to_device`",
    ):
        warnings.filterwarnings("ignore", message)


def _one_line(message: Warning | str, category: type[Warning], *place: object, **more: object) -> str:
    """A warning without the file and line of the library that it comes from."""
    return f"warning: {' '.join(str(message).split())}\n"


@cache  # a logger keeps every filter that it is given
def _hush_loggers() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.callbacks.early_stopping").setLevel(logging.INFO)  # why a training ended
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_news)
    logging.getLogger().addFilter(lambda record: "Images sizes do not match" not in record.getMessage())


def _is_news(record: logging.LogRecord) -> bool:
    return not _NOISE.search(record.getMessage())
