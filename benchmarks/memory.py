"""What some work takes in memory at its highest, as Linux counts it for this process.

`ru_maxrss` will not do: a process inherits that of the one which started it.
"""

from __future__ import annotations

from pathlib import Path


def held(field: str = "VmRSS") -> float:
    """MB of this process: now (`VmRSS`), or at its highest (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


class Growth:
    """How much this process grows from here on."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5", "ascii")  # the peak begins again
        self.before = held()

    def peak(self) -> float:
        """MB more than at the start, at the highest moment since."""
        return held("VmHWM") - self.before
