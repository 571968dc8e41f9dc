"""Requests that wait for the same model and go through its network together."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from visionkit.predictor import Predictor
    from visionkit.results import Progress, Result

MOST = 8
"""Requests that go together; on a CPU more of them are no faster."""

LARGEST = 1_000_000
"""Pixels of an image that is joined: a larger one keeps the cores busy alone, and may be left between its tiles."""


class JoinedRequests:
    """Requests to one model. Whoever's turn it is takes those along that wait and ask for the same options.

    Nobody waits for others to come: while one batch is computed, the next one gathers. So a single request is as fast
    as without it, and many are as fast as their network is on a batch.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: list[_Request] = []

    def examine(
        self,
        predictor: Predictor,
        given: Any,
        options: Mapping[str, Any],
        turn: AbstractContextManager[Any],
        progress: Progress | None = None,
    ) -> Served:
        """Predicts on what one request gives.

        Args:
            predictor: The model.
            given: See `Predictor.examine`; its images can be read.
            options: Options of the call.
            turn: Entered while the model computes.
            progress: As of `Predictor.examine`; not called where others go along.

        Raises:
            VisionKitError: As of `Predictor.examine`; what is wrong with one request is no error of the others.
        """
        own = _Request(given, dict(options), progress)
        with self._guard:
            self._waiting.append(own)
        try:
            with turn:
                if own.outcome is None:
                    _run(predictor, self._taken(own))
        finally:
            with self._guard:
                if own in self._waiting:
                    self._waiting.remove(own)
        if isinstance(own.outcome, Exception):
            raise own.outcome
        assert own.outcome is not None
        return own.outcome

    def _taken(self, own: _Request) -> list[_Request]:
        """The request and those that go with it, the longest waiting first."""
        with self._guard:
            alike = [each for each in self._waiting if each is not own and each.options == own.options]
            taken = [own, *alike[: MOST - 1]]
            self._waiting = [each for each in self._waiting if each not in taken]
        return taken


class Served(NamedTuple):
    """What a request gets.

    Attributes:
        result: The result.
        network: Seconds in the network: its part of those of all that went together.
        seconds: Seconds in all, likewise.
        together: Requests that went together.
    """

    result: Result
    network: float
    seconds: float
    together: int


class _Request:
    def __init__(self, given: Any, options: dict[str, Any], progress: Progress | None) -> None:
        self.given, self.options, self.progress = given, options, progress
        self.outcome: Served | Exception | None = None


def _run(predictor: Predictor, taken: list[_Request]) -> None:
    start = time.perf_counter()
    try:
        if len(taken) == 1:
            found = [predictor.examine(taken[0].given, taken[0].progress, **taken[0].options)]
        else:
            found = predictor.examine_together([each.given for each in taken], **taken[0].options)
    except Exception as error:
        if len(taken) == 1:
            taken[0].outcome = error
        else:  # whose it is shows when each runs alone
            for each in taken:
                _run(predictor, [each])
        return
    seconds = time.perf_counter() - start
    for each, result in zip(taken, found, strict=True):
        assert result.times is not None
        count = len(taken)
        each.outcome = Served(result, result.times.network / count, seconds / count, count)
