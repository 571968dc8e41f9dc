"""Two machines in one: network namespaces with an address each, joined by a cable."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

from tests.real_data import ROOT

ADDRESSES = ("10.77.0.1", "10.77.0.2")


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


@contextlib.contextmanager
def two_machines() -> Iterator[tuple[str, str]]:
    """Names of two network namespaces, joined by a cable between their interfaces `eth0`.

    Raises:
        OSError: This system gives none.
    """
    if shutil.which("ip") is None or os.geteuid() != 0:
        raise OSError("they need root and the program ip")
    names = tuple(f"visionkit-{os.getpid()}-{number}" for number in range(2))
    try:
        for name in names:
            ip("netns", "add", name)
        ip("-n", names[0], "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                ip("-n", name, "link", "set", link, "up")
        yield names[0], names[1]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def environment(**more: str) -> dict[str, str]:
    """Environment of a process of a machine."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}
