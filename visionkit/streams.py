"""Work on long streams: in batches, and ahead of who takes the results."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of that size; the last one may be shorter."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def ahead(work: Callable[[T], R], items: Iterable[T], num_workers: int, window: int) -> Iterator[R]:
    """`map(work, items)` by threads, at most `window` results ahead of who takes them."""
    if num_workers == 0:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="decode")
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_END = object()


def in_background(items: Iterable[T], depth: int, newest: bool = False) -> Generator[T, None, None]:
    """The items, made by a thread of their own, at most `depth` ahead of who takes them.

    Args:
        items: Made in that thread; what they raise is raised here.
        depth: Items that wait.
        newest: Of items that nobody takes in time the oldest is left out, as live images need.
    """
    waiting: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
    ended = threading.Event()

    def put(item: tuple[Any, BaseException | None], drops: bool = False) -> None:
        while not ended.is_set():
            with contextlib.suppress(queue.Full):
                return waiting.put(item, block=not drops, timeout=0.1)
            if drops:
                with contextlib.suppress(queue.Empty):
                    waiting.get_nowait()

    def work() -> None:
        try:
            for item in items:
                put((item, None), newest)
                if ended.is_set():
                    return
        except BaseException as error:  # raised again where the items are taken
            put((None, error))
        put((_END, None))

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        ended.set()
        thread.join(timeout=5)
