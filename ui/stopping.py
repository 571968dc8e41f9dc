"""Ctrl-C and SIGTERM as exceptions, so that what was made so far is closed and kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from visionkit.errors import Interrupted, Terminated, VisionKitError
from visionkit.wording import counted


class Stop:
    """Whether a signal has asked for the end. Calling it raises what the signal raised, where that got lost."""

    def __init__(self) -> None:
        self._asked: VisionKitError | None = None
        self._held = False

    def __call__(self) -> None:
        if self._asked is not None:
            raise self._asked

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lets what it surrounds end before a signal does: files that belong together then end together."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self()

    def on_signal(self, number: int, frame: object) -> None:
        """Handles a signal."""
        error = Interrupted("interrupted") if number == signal.SIGINT else Terminated("terminated")
        self._asked = self._asked or error
        if not self._held:
            raise self._asked


@contextmanager
def stopped_by_signal() -> Iterator[Stop]:
    """Ends what it surrounds by `Interrupted` or `Terminated`.

    By default SIGTERM would end the process at once: a video would have no index and could not be played, what visitors
    sent would stay on the disk. An exception that is raised while an extension module is imported may be replaced by
    an ImportError or dropped: what is yielded keeps it.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield stop
        return
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # of a shell's background job, which Ctrl-C passes over
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, stop.on_signal) for number in numbers}
    try:
        yield stop
    except (Interrupted, Terminated):
        raise
    except BaseException:
        stop()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ended_after(error: BaseException, done: int, name: str) -> VisionKitError:
    """What ends a command whose results so far are kept.

    Args:
        error: `KeyboardInterrupt`, `Interrupted` or `Terminated`.
        done: Frames whose results are written.
        name: Name of the video.
    """
    kind, word = (Terminated, "terminated") if isinstance(error, Terminated) else (Interrupted, "interrupted")
    if not done:
        return kind(f"{word} before a frame of {name} was written")
    return kind(f"{word} after {counted(done, 'frame')} of {name}; what was done is kept")
