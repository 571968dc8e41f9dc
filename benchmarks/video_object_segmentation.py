"""Methods of video object segmentation on sequences of DAVIS: J, F, their decay, and frames per second.

`python -m benchmarks.video_object_segmentation --data DAVIS --out video_object_segmentation.jsonl [--sequences NAME]`

Both methods see by `tf_efficientnet_lite0`, whose weights are installed with visionkit, with their defaults, none
of which was chosen on DAVIS. OSVOS has no parent that saw DAVIS: it fine-tunes a U-Net on these weights. The
semi-supervised protocol leaves the first and the last frame out. Frames lie in memory; frames per second are those of
`update` alone, and seconds to begin those of `begin`, both by the processor's clock, in one thread. Finished cells are
kept; a rerun skips them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SHOWN = {"j_and_f": "J&F", "j_mean": "J", "j_decay": "J decay", "f_mean": "F", "f_decay": "F decay"}


def propagated(name: str, sequence: Any, most: int | None) -> dict[str, Any]:
    """The numbers of one sequence, those of DAVIS averaged over its objects."""
    import numpy as np
    from PIL import Image

    from visionkit.families.propagation.metrics import SequenceScores, combine
    from visionkit.families.propagation.propagator import make_propagator
    from visionkit.images import ImageSource

    frames = [ImageSource(path).read() for path in sequence.images[:most]]
    truth = [np.asarray(Image.open(path)) for path in sequence.masks[:most]]
    propagator = make_propagator(name, arguments={"steps": 2} if most and name == "osvos" else {})
    began = time.process_time()
    propagator.begin(frames[0], truth[0])
    begin = time.process_time() - began
    scores = SequenceScores(truth[0])
    began, seconds = time.process_time(), 0.0
    for number, frame in enumerate(frames[1:], start=1):
        began = time.process_time()
        found = propagator.update(frame)
        seconds += time.process_time() - began
        if number < len(frames) - 1:
            scores.add(found, truth[number])
    values = combine(list(scores.objects.values()))
    return {**values, "frames": len(frames), "begin": begin, "fps": (len(frames) - 1) / seconds}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the cells that are missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with JPEGImages and Annotations of DAVIS")
    parser.add_argument("--out", type=Path, required=True, help="file of finished cells, a line of json for each")
    parser.add_argument("--sequences", nargs="+", default=[], help="names of sequences (default: all)")
    parser.add_argument("--quick", action="store_true", help="show that it runs; its numbers carry no information")
    given = parser.parse_args(argv)
    import torch

    from benchmarks.experiments import finished, keep
    from datamodules.davis import davis_sequences
    from visionkit.families.propagation.propagator import propagator_names

    torch.set_num_threads(1)
    there = {(each["method"], each["sequence"]) for each in finished(given.out)}
    for sequence in davis_sequences(given.data, given.sequences):
        for name in propagator_names():
            if (name, sequence.name) not in there:
                values = propagated(name, sequence, 3 if given.quick else None)
                keep(given.out, {"method": name, "sequence": sequence.name, **values})
    report(finished(given.out))
    return 0


def report(cells: Sequence[dict[str, Any]]) -> None:
    """Prints a row per method, each sequence with the same weight."""
    columns = [*SHOWN.values(), "seconds to begin", "frames per second"]
    print(f"| method | {' | '.join(columns)} |\n" + "|---" * (len(columns) + 1) + "|")
    for name in dict.fromkeys(each["method"] for each in cells):
        own = [each for each in cells if each["method"] == name]
        means = [f"{statistics.fmean(each[key] for each in own):.3f}" for key in SHOWN]
        rest = [f"{statistics.fmean(each['begin'] for each in own):.0f}"]
        rest.append(f"{statistics.fmean(each['fps'] for each in own):.2f}")
        print(f"| {name} | {' | '.join([*means, *rest])} |")


if __name__ == "__main__":
    raise SystemExit(main())
