"""The memory of a server: what a network has let go is taken again, by whichever thread, and not cleared again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from tests.real_data import ROOT
from ui.server import allocator

CODE = """
import resource, sys, threading
from ui.server.allocator import keep_memory
print("set", keep_memory() if sys.argv[1] == "kept" else None)
import numpy as np

def work():
    for _ in range(5):
        blocks = [np.ones(number * 10**6) for number in (1, 2, 3, 4)]  # 8 to 32 MB, as the layers of a network
        del blocks

def round():
    for _ in range(8):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

round()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
round()
print("faults", resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, **environment: str) -> tuple[str, int]:
    """What `keep_memory` reports, and pages that the system had to clear for memory that was in use before."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    given = {**clean, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-c", CODE, how], env=given, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    return first, int(second.split()[1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_that_was_let_go_is_taken_again_by_other_threads() -> None:
    plain, kept = faults("plain"), faults("kept")
    assert kept[0] == "set True" and plain[0] == "set None"
    assert plain[1] > 10_000 and kept[1] < plain[1] / 20, (plain, kept)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_who_starts_the_server_may_set_it_otherwise() -> None:
    given = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    message, number = faults("kept", **given)
    assert message == "set True" and number > 10_000


class Library:
    """A C library that takes a block threshold up to a limit."""

    def __init__(self, limit: int) -> None:
        self.limit, self.taken = limit, []

    def mallopt(self, number: int, value: int) -> int:
        if number == allocator._MMAP and value > self.limit:
            return 0
        self.taken.append((number, value))
        return 1


@pytest.mark.parametrize(("limit", "blocks"), [(2**40, 64 * allocator.MB), (32 * allocator.MB, 32 * allocator.MB)])
def test_an_older_glibc_takes_the_smaller_threshold(limit: int, blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(limit)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.31"))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: library)
    assert allocator.keep_memory()
    assert library.taken == [(allocator._ARENAS, 1), (allocator._MMAP, blocks), (allocator._TRIM, allocator.KEPT)]
    library = Library(0)
    assert not allocator.keep_memory()
    assert library.taken == [(allocator._ARENAS, 1)], "after one that was refused nothing is set"


def test_another_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("asked"))
    assert not allocator.keep_memory()
