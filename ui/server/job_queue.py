"""Where all work of the server is admitted: so many at a time, so many waiting, each with a time limit and counted."""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ui.inference import FrameSession, InferenceResult, Upload, explained, predict
from ui.model_registry import ModelRegistry
from ui.server.limits import Limits
from ui.server.metrics import Metrics
from visionkit.errors import CheckpointError, DataError, EnvironmentFault, UsageError, VisionKitError

if TYPE_CHECKING:
    import numpy as np

    from visionkit.images import ImageSource

T = TypeVar("T")


class Busy(EnvironmentFault):
    """As many wait as may."""


class TooSlow(EnvironmentFault):
    """The response took longer than the server allows."""


class JobQueue:
    """Runs work for visitors in threads of its own.

    A network that has begun cannot be interrupted. So whoever waits too long gets an error, and the seat stays taken
    until the network is done: no more than `concurrency` ever run.

    Args:
        model_registry: The models.
        limits: Limits of the server.
    """

    def __init__(self, model_registry: ModelRegistry, limits: Limits | None = None) -> None:
        self.model_registry, self.limits, self.metrics = model_registry, limits or Limits(), Metrics()
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._lock, self._waiting, self._running = threading.Lock(), 0, 0
        self._receiving = 0
        self._began = time.monotonic()
        for number in range(self.limits.concurrency):
            threading.Thread(target=self._work, name=f"job-queue-{number}", daemon=True).start()
        gauges: tuple[tuple[str, str, Callable[[], float]], ...] = (
            ("visionkit_workers", "Processes of the server.", lambda: 1),
            ("visionkit_running", "Requests that are being processed.", lambda: self.running),
            ("visionkit_waiting", "Requests that wait for their turn.", lambda: self.waiting),
            ("visionkit_models_loaded", "Models in memory.", lambda: len(list(model_registry))),
            ("visionkit_model_bytes", "Weights of the models in memory.", lambda: model_registry.size),
            ("visionkit_uptime_seconds", "Since the server began.", lambda: time.monotonic() - self._began),
            ("process_resident_memory_bytes", "Memory of the process.", _resident),
        )
        for name, message, read in gauges:
            self.metrics.gauge(name, message, read, largest=name == "visionkit_uptime_seconds")

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return self._waiting

    @property
    def running(self) -> int:
        """Requests that are being processed."""
        return self._running

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Admits a request while its body comes in: what is sent takes room on the disk long before it is work.

        Raises:
            Busy: As many are sent as may wait and run.
        """
        most = self.limits.queue + self.limits.concurrency
        with self._lock:
            if self._receiving >= most:
                raise Busy(f"{self._receiving} requests are being sent already, as many as may; try again in a moment")
            self._receiving += 1
        try:
            yield
        finally:
            with self._lock:
                self._receiving -= 1

    def ask(
        self,
        model: str | None,
        upload: Upload | ImageSource | None,
        detector: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        channel: str = "page",
        options: Mapping[str, Any] | None = None,
        strict: bool = False,
        frames: FrameSession | None = None,
        seconds: float | None = None,
        others: Mapping[str, Upload | ImageSource] | None = None,
    ) -> InferenceResult:
        """Handles one image, see `ui.inference.predict`.

        Args:
            model: Name of the one that responds.
            upload: The image.
            detector: Name of the one that finds boxes for it.
            progress: Called with the parts done and all of them.
            channel: See `run`.
            options: Options of the call.
            strict: Whether an option that the model does not know is refused; otherwise it is left out.
            frames: Frames of the video that the image is the next frame of.
            seconds: Its place in the video.
            others: The further inputs of a model that has several, by name.

        Raises:
            Busy: As many wait as may.
            TooSlow: No response in time.
            VisionKitError: No model or image, or one that cannot be used.
        """

        def work(check: Callable[[], None]) -> InferenceResult:
            def parts(done: int, total: int) -> None:
                check()
                if progress is not None:
                    progress(done, total)

            return predict(
                self.model_registry,
                model,
                upload,
                detector,
                parts,
                self.limits,
                options,
                strict,
                frames,
                seconds,
                others,
            )

        found = self.run(work, model, channel)
        labels = self._labels(model)
        self.metrics.observe(
            "visionkit_network_seconds", "Time in the network alone, by model.", found.network, **labels
        )
        if found.together > 1:
            self.metrics.count("visionkit_joined_total", "Requests that shared a pass with others.", **labels)
        return found

    def patiently(
        self,
        model: str | None,
        upload: Upload | ImageSource | None,
        channel: str,
        frames: FrameSession | None = None,
        seconds: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> InferenceResult:
        """As `ask`, for one image of many: where as many wait as may, it waits until there is room.

        Raises:
            Busy: There was no room for as long as a response may take.
            VisionKitError: As `ask`.
        """
        return self._with_patience(
            lambda: self.ask(model, upload, channel=channel, options=options, frames=frames, seconds=seconds)
        )

    def in_turn(self, work: Callable[[], T], channel: str) -> T:
        """Does one part of something long when it is its turn, as `patiently`; the work needs no model of the list.

        Raises:
            Busy: There was no room for as long as a response may take.
        """
        return self._with_patience(lambda: self.run(lambda check: work(), None, channel))

    def _with_patience(self, attempt: Callable[[], T]) -> T:
        end = time.monotonic() + self.limits.timeout
        while True:
            try:
                return attempt()
            except Busy:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def explain(self, model: str | None, upload: Upload | None, name: str | None) -> np.ndarray:
        """Why a class was served, see `ui.inference.explained`."""
        return self.run(
            lambda check: explained(self.model_registry, model, upload, name, self.limits), model, "explain"
        )

    def run(self, work: Callable[[Callable[[], None]], T], model: str | None, channel: str = "page") -> T:
        """Does something with a model when it is its turn.

        Args:
            work: Is given a function that raises `TooSlow` once nobody waits any more; long work calls it in between.
            model: For the metrics.
            channel: Where the request came from: "page", "program", "batch", "video", "explain", "people".
        """
        start = time.monotonic()
        try:
            result = self._admitted(work)
        except BaseException as error:
            reason = _reason(error)
            labels = self._labels(model)
            self.metrics.count("visionkit_failures_total", "Requests that failed.", reason=reason, **labels)
            raise
        finally:
            labels = self._labels(model)
            self.metrics.count("visionkit_requests_total", "Requests.", channel=channel, **labels)
            seconds = time.monotonic() - start
            self.metrics.observe("visionkit_request_seconds", "From request to response.", seconds, **labels)
        return result

    def _admitted(self, work: Callable[[Callable[[], None]], T]) -> T:
        with self._lock:
            if self._waiting >= self.limits.queue:
                raise Busy(f"{self._waiting} requests are waiting already, as many as may; try again in a moment")
            self._waiting += 1
        job = _Job(work, time.monotonic() + self.limits.timeout)
        self._jobs.put(job)
        try:
            result: T = job.future.result(self.limits.timeout)
        except Late:
            if job.future.done():  # the work itself ran into a time limit of somebody else's
                raise
            job.left = True
            raise _too_slow(self.limits.timeout) from None
        return result

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            with self._lock:
                self._waiting -= 1
                self._running += 1
            try:
                job.run(self.limits.timeout)
            finally:
                with self._lock:
                    self._running -= 1
            del job  # what it holds is not kept until the next one comes

    def _labels(self, model: str | None) -> dict[str, str]:
        """Labels of models that there are; what visitors make up is "unknown"."""
        loaded = self.model_registry.loaded((model or "").strip())
        if loaded is None:
            return {"model": "unknown", "task": "unknown"}
        return {"model": loaded.entry.name, "task": loaded.task}


class _Job:
    def __init__(self, work: Callable[[Callable[[], None]], Any], deadline: float) -> None:
        self.future: Future[Any] = Future()
        self.left = False
        self._work: Callable[[Callable[[], None]], Any] | None = work
        self._deadline = deadline
        self._context = contextvars.copy_context()  # gradio keeps there whose progress it is

    def run(self, seconds: float) -> None:
        def check() -> None:
            if self.left or time.monotonic() > self._deadline:
                raise _too_slow(seconds)

        work, self._work = self._work, None
        assert work is not None
        try:
            check()
            result = self._context.run(work, check)
        except BaseException as error:  # a worker must outlive whatever its work does
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


def _too_slow(seconds: float) -> TooSlow:
    return TooSlow(f"no response within {seconds:g} seconds; give a smaller image, or try again when fewer people ask")


def _reason(error: BaseException) -> str:
    for kind, reason in (
        (Busy, "busy"),
        (TooSlow, "timeout"),
        (DataError, "image"),
        (UsageError, "usage"),
        (CheckpointError, "model"),
        (VisionKitError, "environment"),
    ):
        if isinstance(error, kind):
            return reason
    return "defect"


def _resident() -> float:
    """Bytes of the process in memory; 0 where the system does not state."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  (read at every scrape)
            pages = int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    import resource

    return float(pages * resource.getpagesize())
