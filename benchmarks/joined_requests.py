"""How many requests a server handles when 32 ask at once, with and without going through the network together.

`python -m benchmarks.joined_requests MODEL [--size 224] [--requests 32] [--rounds 5]`

Both arms run in this process through the queue of the server, with 16 threads; one of them joins requests and the other
does not, in turns. Their predictions are compared first. Images per second, the median of the rounds, and the ratio;
and the same by the time of the processor, which states it where other programs run beside it too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoint or bundle")
    parser.add_argument("--size", type=int, default=224, help="sides of the images (default: 224)")
    parser.add_argument("--requests", type=int, default=32, help="requests at once (default: 32)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of both arms (default: 5)")
    given = parser.parse_args(argv)
    import torch
    from PIL import Image

    from ui.inference import Upload
    from ui.model_registry import ModelRegistry
    from ui.server.allocator import keep_memory
    from ui.server.job_queue import JobQueue
    from ui.server.limits import Limits

    keep_memory()  # as a server does
    torch.set_num_threads(1)
    model = Path(given.model).resolve()
    registry = ModelRegistry(model.parent)
    queue = JobQueue(registry, Limits(concurrency=16, queue=given.requests))
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.requests) as pool:
        uploads = []
        for number in range(given.requests):
            path = Path(folder, f"{number}.jpg")
            Image.fromarray(rng.integers(0, 256, (given.size, given.size, 3), dtype=np.uint8)).save(path)
            uploads.append(Upload(str(path), path.name))

        def at_once(most: int) -> tuple[float, list[Any], float, float]:
            with mock.patch("ui.joined_requests.MOST", most):
                start, used = time.perf_counter(), time.process_time()
                found = list(pool.map(lambda upload: queue.ask(model.name, upload, channel="program"), uploads))
                seconds, used = time.perf_counter() - start, time.process_time() - used
            predictions, together = [each.prediction for each in found], sum(each.together for each in found)
            return given.requests / seconds, predictions, together, 1000 * used / given.requests

        at_once(1)  # loads the model
        alone, joined = at_once(1), at_once(8)
        differences = [one.difference(other).largest for one, other in zip(alone[1], joined[1], strict=True)]
        print(f"largest difference of predictions {max(differences):.2g}, {joined[2] / given.requests:.1f} together")
        rates: dict[int, list[float]] = {1: [], 8: []}
        costs: dict[int, list[float]] = {1: [], 8: []}
        for number in range(given.rounds):
            for most in (1, 8) if number % 2 else (8, 1):
                rate, *_, cost = at_once(most)
                rates[most].append(rate)
                costs[most].append(cost)
    one, many = (statistics.median(rates[most]) for most in (1, 8))
    ratio = statistics.median(b / a for a, b in zip(rates[1], rates[8], strict=True))
    print(f"one by one {one:.1f} images/s, together {many:.1f} images/s, ratio {ratio:.2f}")
    one, many = (statistics.median(costs[most]) for most in (1, 8))
    ratio = statistics.median(a / b for a, b in zip(costs[1], costs[8], strict=True))
    print(f"processor: one by one {one:.2f} ms per image, together {many:.2f} ms, ratio {ratio:.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
