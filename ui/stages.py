"""What a long command is doing, on the standard error: a live line in a terminal, lines now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from visionkit.durations import duration_text

FIRST, NEXT = 2.0, 10.0
"""Seconds after which a stage is named where nobody watches a terminal, and between two lines about it."""


@contextmanager
def stages(first: float = FIRST, following: float = NEXT) -> Iterator[Callable[..., None]]:
    """Reports the stages of a piece of work; whatever ends within `first` seconds is not reported.

    The lines come from a thread of their own, since a single stage can take minutes inside a library. They go to the
    standard error as it is now, although that library may be silenced meanwhile.

    Args:
        first: Seconds until a stage is named.
        following: Seconds between two lines about one stage.

    Yields:
        The function that names the stage: its name, and where it is known how many of how many parts are done.
    """
    out = sys.stderr
    if out.isatty():
        with _live() as shown:
            yield shown
        return
    now: list[tuple[str, int, int, float]] = []
    ended = threading.Event()

    def begin(stage: str, done: int = 0, total: int = 0) -> None:
        started = now[-1][3] if now and now[-1][0] == stage else time.monotonic()
        now[:] = [(stage, done, total, started)]

    def watch() -> None:
        due, known = first, ""
        while not ended.wait(0.1):
            if not now:
                continue
            stage, done, total, started = now[-1]
            due, known = (due, known) if stage == known else (first, stage)
            if (lasted := time.monotonic() - started) < due:
                continue
            counted = f": {done} of {total}{_left(done, total, lasted)}" if total else ""
            since = f", {lasted:.0f} s so far" if due > first else ""
            print(f"visionkit: {stage}{counted}{since} ...", file=out, flush=True)
            due = lasted + following

    thread = threading.Thread(target=watch, name="stages", daemon=True)
    thread.start()
    try:
        yield begin
    finally:
        ended.set()
        thread.join()


def _left(done: int, total: int, lasted: float) -> str:
    """The time that the rest of the parts takes at the pace so far; empty before it can be judged."""
    if not 0 < done < total or lasted < 1:
        return ""
    return f", about {duration_text(lasted / done * (total - done))} left"


@contextmanager
def _live() -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    # Neither stream is taken over: whoever silences a library does that.
    shown = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = shown.add_task("")
    begun: dict[str, float] = {}

    def begin(stage: str, done: int = 0, total: int = 0) -> None:
        left = _left(done, total, time.monotonic() - begun.setdefault(stage, time.monotonic()))
        shown.update(task, description=f"{stage}: {done} of {total}{left}" if total else stage)

    with shown:
        yield begin
