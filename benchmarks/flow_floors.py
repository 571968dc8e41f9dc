"""Models of optical flow beside what needs no training, on the same pairs.

`python -m benchmarks.flow_floors MODEL [MODEL ...] [--pairs 50] [--size 128 192] [--root FOLDER] [--out results.json]`

Beside the models stand a motion of zero, OpenCV's DIS (medium) and Farneback. All are measured on drawn pairs of the
test split of `PairSceneData` and, with `--root`, on all pairs of a folder that `FlowData` reads: end-point error in
pixels of the file over all known pixels, bad1, bad3, bad5 and Fl, and the seconds of a pair on one CPU thread.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.pair_floors import Estimate, compare, parser_of, served
from visionkit.types import Sample


def floors() -> dict[str, Estimate]:
    """What needs no training, by name."""
    from visionkit.families.matching.classical import classical_flow

    return {
        "zero": lambda first, second: np.zeros((2, *first.shape[:2]), np.float32),
        "Farneback": lambda first, second: classical_flow(first, second, "farneback"),
        "DIS": lambda first, second: classical_flow(first, second, "dis"),
    }


def drawn(count: int, size: tuple[int, int]) -> Sequence[Sample]:
    """Drawn pairs of the test split."""
    from datamodules.pair_scenes import PairSceneData
    from visionkit.synthetic import ClipSettings

    clip = ClipSettings(size=size, speed=0.03, camera_speed=0.15)
    return PairSceneData("flow", eval_count=count, clip=clip).samples("test")


def of_folder(root: str) -> Sequence[Sample]:
    """All pairs of a folder."""
    from datamodules.flow_data import FlowData

    return FlowData(root, val_fraction=0.0, test_fraction=1.0).samples("test")


def measured(estimate: Estimate, samples: Sequence[Sample]) -> dict[str, float]:
    """The measures over all pairs, and the seconds of each."""
    import torch

    from tasks.optical_flow.metrics import FlowMeasures
    from visionkit.inputs import last_frame

    metric, seconds = FlowMeasures(), 0.0
    for sample in samples:
        first, second = (last_frame(sample.inputs[name]).read() for name in ("first", "second"))
        start = time.perf_counter()
        found = estimate(first, second)
        seconds += time.perf_counter() - start
        known: Any = sample.target
        flow, valid = np.asarray(known["flow"]), np.asarray(known["valid"])
        error, length = np.hypot(*(found - flow)), np.hypot(*flow)
        hidden = torch.as_tensor(np.asarray(known["occluded"]))[None] if "occluded" in known else None
        given = [torch.from_numpy(each)[None] for each in (error, length, valid)]
        metric.update(given[0], given[1], given[2], hidden)
    values = {name: float(value) for name, value in metric.compute().items()}
    return {**values, "seconds": seconds / len(samples)}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints one table per set of pairs."""
    given = parser_of(__doc__, "FlowData").parse_args(argv)
    methods = floors() | {path: served(path, "first", "second") for path in given.models}
    sets = {"drawn pairs": drawn(given.pairs, tuple(given.size))} if given.pairs else {}
    if given.root:
        sets[given.root] = of_folder(given.root)
    compare(methods, sets, measured, given.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
