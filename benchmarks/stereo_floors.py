"""Models of stereo beside OpenCV's semi-global block matching, on the same pairs.

`python -m benchmarks.stereo_floors MODEL [MODEL ...] [--pairs 50] [--size 128 192] [--root FOLDER]
[--pair LEFT RIGHT DISPARITY] [--out results.json]`

All are measured on drawn pairs of the test split of `PairSceneData`, with `--root` on all pairs of a folder that
`StereoData` reads and with `--pair` on one: the measures of the task in pixels of the file over all measured pixels,
and the seconds of a pair on one CPU thread. Where block matching states nothing, the background beside the hole is
taken; `stated` is the fraction of the measured pixels where it states something.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.pair_floors import Estimate, compare, parser_of, served
from visionkit.images import ImageSource
from visionkit.types import Sample


def block_matching(max_disparity: int) -> Estimate:
    """Semi-global block matching on gray images; holes stay 0."""
    from visionkit.families.matching.classical_stereo import block_matching

    def estimate(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        ours, theirs = (ImageSource(image).read(1)[..., 0] for image in (left, right))
        return block_matching(ours, theirs, max_disparity)

    return estimate


def drawn(count: int, size: tuple[int, int]) -> Sequence[Sample]:
    """Drawn pairs of the test split."""
    from datamodules.pair_scenes import PairSceneData
    from visionkit.synthetic import ClipSettings

    return PairSceneData("disparity", eval_count=count, clip=ClipSettings(size=size), baseline=(0.1, 0.8)).samples(
        "test"
    )


def of_folder(root: str) -> Sequence[Sample]:
    """All pairs of a folder that states no splits."""
    from datamodules.stereo_data import StereoData

    return StereoData(root, val_every=0).samples("train")


def of_files(left: str, right: str, disparity: str) -> Sequence[Sample]:
    """One pair."""
    from datamodules.disparity_files import read_disparity

    target: Any = {"disparity": read_disparity(disparity)}
    return [Sample({"left": ImageSource(left), "right": ImageSource(right)}, target, left)]


def measured(estimate: Estimate, samples: Sequence[Sample]) -> dict[str, float]:
    """The measures over all pairs, and the seconds of each."""
    import torch

    from tasks.stereo.metrics import DisparityMeasures
    from visionkit.families.matching.classical_stereo import filled
    from visionkit.inputs import last_frame

    metric, seconds, stated, count = DisparityMeasures(), 0.0, 0, 0
    for sample in samples:
        left, right = (last_frame(sample.inputs[name]).read() for name in ("left", "right"))
        start = time.perf_counter()
        found = estimate(left, right)
        seconds += time.perf_counter() - start
        known: Any = sample.target
        truth = np.asarray(known["disparity"])
        there = truth > 0
        stated, count = stated + int((there & (found > 0)).sum()), count + int(there.sum())
        hidden = torch.as_tensor(np.asarray(known["occluded"])) if "occluded" in known else None
        metric.update(torch.from_numpy(filled(found)), torch.from_numpy(truth), torch.from_numpy(there), hidden)
    values = {name: float(value) for name, value in metric.compute().items()}
    return {**values, "stated": stated / max(count, 1), "seconds": seconds / len(samples)}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints one table per set of pairs."""
    parser = parser_of(__doc__, "StereoData")
    parser.add_argument("--pair", nargs=3, metavar=("LEFT", "RIGHT", "DISPARITY"), help="files of one pair")
    parser.add_argument("--max-disparity", type=int, default=64, help="of block matching (default: 64)")
    given = parser.parse_args(argv)
    methods = {"SGBM": block_matching(given.max_disparity)}
    methods |= {path: served(path, "left", "right") for path in given.models}
    sets = {"drawn pairs": drawn(given.pairs, tuple(given.size))} if given.pairs else {}
    if given.root:
        sets[given.root] = of_folder(given.root)
    if given.pair:
        sets[given.pair[0]] = of_files(*given.pair)
    compare(methods, sets, measured, given.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
