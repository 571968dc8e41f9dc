"""Visual trackers on sequences of OTB, each followed once from its first true box on, and frames per second.

`python -m benchmarks.visual_tracking --data OTB --out visual_tracking.jsonl [--backbones NAME ...]`

HCF sees by `tf_efficientnet_lite0`, whose weights are installed with visionkit, unless other backbones are named; KCF
sees pixels. Defaults throughout, which were chosen on drawn objects that move over photographs, not on these sequences.
The frames lie in memory; frames per second are those of `update` alone by the processor's clock, in one thread.
Finished cells are kept; a rerun skips them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EMBEDDED = "tf_efficientnet_lite0"
SHOWN = {"precision_20": "precision at 20 px", "success_auc": "success AUC", "mean_overlap": "mean overlap"}


def followed(tracker: Any, sequence: Any, most: int | None) -> dict[str, Any]:
    """The measures of one sequence, and how many frames of it were followed per second."""
    import numpy as np

    from visionkit.following.one_pass import measure
    from visionkit.images import ImageSource

    frames = [ImageSource(path).read() for path in sequence.images[:most]]
    tracker.begin(frames[0], sequence.corners[0])
    boxes = [tracker.box]
    began = time.process_time()
    boxes += [tracker.update(frame).box for frame in frames[1:]]
    seconds = time.process_time() - began
    corners = np.array(boxes)
    predicted = np.concatenate([corners[:, :2] + 1, corners[:, 2:] - corners[:, :2]], axis=1)
    values = measure(sequence.boxes[: len(frames)], predicted, name=sequence.name).values()
    return {**values, "frames": len(frames), "fps": (len(frames) - 1) / seconds}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the cells that are missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a sequence of OTB, or a folder of them")
    parser.add_argument("--out", type=Path, required=True, help="file of finished cells, a line of json for each")
    parser.add_argument("--backbones", nargs="+", default=[EMBEDDED], help="backbones that HCF sees by")
    parser.add_argument("--quick", action="store_true", help="show that it runs; its numbers carry no information")
    given = parser.parse_args(argv)
    import torch

    from benchmarks.experiments import finished, keep
    from visionkit.following.otb_files import find_truth, read_sequence
    from visionkit.following.visual_tracker import make_visual_tracker

    torch.set_num_threads(1)
    arms = [("kcf", None), *(("hcf", f"timm:{name}") for name in given.backbones)]
    there = {(each["tracker"], each["model"], each["sequence"]) for each in finished(given.out)}
    sequences = [read_sequence(name, path) for name, path in find_truth(given.data).items()]
    for name, model in arms:
        missing = [each for each in sequences if (name, model, each.name) not in there]
        tracker = make_visual_tracker(name, model=model) if missing else None
        for each in missing:
            values = followed(tracker, each, 3 if given.quick else None)
            keep(given.out, {"tracker": name, "model": model, "sequence": each.name, **values})
    report(finished(given.out))
    return 0


def report(cells: Sequence[dict[str, Any]]) -> None:
    """Prints a row per tracker, each sequence with the same weight."""
    print(f"| tracker | {' | '.join(SHOWN.values())} | frames per second |\n" + "|---" * (len(SHOWN) + 2) + "|")
    for arm in dict.fromkeys((each["tracker"], each["model"]) for each in cells):
        own = [each for each in cells if (each["tracker"], each["model"]) == arm]
        means = [f"{statistics.fmean(each[key] for each in own):.3f}" for key in SHOWN]
        name = arm[0].upper() + (f" on {arm[1].removeprefix('timm:')}" if arm[1] else "")
        print(f"| {name} | {' | '.join(means)} | {statistics.fmean(each['fps'] for each in own):.0f} |")


if __name__ == "__main__":
    raise SystemExit(main())
