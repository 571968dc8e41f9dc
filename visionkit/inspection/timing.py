"""Latency and peak memory of a network, measured."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

RUNS, SECONDS = 30, 5.0
"""Passes that are timed, and the time after which no further one begins."""


@dataclass(frozen=True)
class Timing:
    """What passes of one image took.

    Attributes:
        device: "cpu" with its threads, or the name of the GPU.
        runs: Number of passes that were timed, after two that were not.
        milliseconds: Median of one pass.
        quartiles: First and third quartile.
        peak_bytes: Peak memory: of the process on the CPU (0 where the system does not state it), of all tensors on a
            GPU, weights included.
    """

    device: str
    runs: int
    milliseconds: float
    quartiles: tuple[float, float]
    peak_bytes: int

    def row(self) -> dict[str, str]:
        """The values as text."""
        return {
            "device": self.device,
            "runs": str(self.runs),
            "median": f"{self.milliseconds:.2f} ms",
            "quartiles": f"{self.quartiles[0]:.2f} to {self.quartiles[1]:.2f} ms",
            "peak memory": f"{self.peak_bytes / 2**20:,.0f} MiB",
        }


def time_network(network: nn.Module, shapes: Sequence[tuple[int, ...]], device: str = "cpu") -> Timing:
    """Times single images in evaluation mode and 32 bit.

    Args:
        network: The network with weights; it is moved to the device.
        shapes: Shapes of its inputs, with a batch of one.
        device: "cpu" or "cuda".
    """
    on_gpu = device.startswith("cuda")
    network = network.to(device).eval()
    given = [torch.randn(shape, device=device) for shape in shapes]
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    times: list[float] = []
    end = 0.0
    with torch.inference_mode():
        for number in range(RUNS + 2):
            begin = time.perf_counter()
            network(*given)
            if on_gpu:
                torch.cuda.synchronize(device)
            now = time.perf_counter()
            end = end or now + SECONDS
            if number > 1:
                times.append(1e3 * (now - begin))
            if now > end and times:
                break
    low, median, high = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
    name = torch.cuda.get_device_name(device) if on_gpu else f"cpu, {torch.get_num_threads()} threads"
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else _peak_of_process()
    return Timing(name, len(times), median, (low, high), peak)


def _peak_of_process() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
