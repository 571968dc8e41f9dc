"""Trackers compared on what one detector finds in drawn clips, and what a tracker itself costs per frame.

`python -m benchmarks.tracking_on_clips --out tracking_on_clips.jsonl [--seeds 0 1 2]`

A Faster R-CNN on `tf_efficientnet_lite0` with ImageNet weights is trained on short drawn clips; then it runs once over
30 held-out clips of 40 frames, whose objects pass before and behind each other, and every tracker follows the same
detections with its own defaults. Hidden parts belong to the boxes; what is seen by less than a tenth is not counted.
All classes are counted together, as MOT15 does. Nothing was chosen on these clips. The cost is the tracker's own time
by the processor's clock in `update`, for objects that move steadily in 1280x720 pixels, one in ten detections missing;
one thread. Finished seeds are kept; a rerun skips them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TRACKERS = ("sort", "bytetrack", "ocsort")
SHOWN = {"hota": "HOTA", "deta": "DetA", "assa": "AssA", "mota": "MOTA", "idf1": "IDF1"}
SIZE = (96, 128)
CLIPS, LENGTH = 30, 40
TRAINED = {"count": 300, "length": 4, "epochs": 4}
OBJECTS = (20, 100)


def clip_data(count: int, length: int, **base: Any) -> Any:
    """Drawn clips with many objects that cross."""
    from datamodules.clip_data import ClipData
    from visionkit.synthetic import ClipSettings

    clip = ClipSettings(size=SIZE, length=length, objects=(4, 8), speed=0.04, noise=2.0)
    return ClipData(count=count, eval_count=CLIPS, clip=clip, extent="whole", **base)


def detector(seed: int, epochs: int, count: int) -> Any:
    """A detector that was trained on drawn clips."""
    import tempfile

    from lightning import seed_everything

    from benchmarks.experiments import QUIET
    from benchmarks.sets import DETECTORS
    from datamodules.augmentation import ObjectAugment
    from tasks.detection.task import DetectionTask
    from visionkit.geometry import InputSpec
    from visionkit.optim import OptimConfig
    from visionkit.training import fit

    seed_everything(seed, verbose=False)
    spec = InputSpec(size=SIZE, resize_mode="letterbox")
    data = clip_data(count, TRAINED["length"], input=spec, batch_size=8, seed=seed, augment=ObjectAugment())
    optim = OptimConfig(lr=1e-3, backbone_lr_scale=0.3, weight_decay=0.05, warmup=0.1)
    own: dict[str, Any] = {"architecture": "faster_rcnn", "faster_rcnn": DETECTORS["faster_rcnn"]}
    task = DetectionTask("tf_efficientnet_lite0", classes=data.classes, input=spec, optim=optim, pretrained=True, **own)
    options = {**QUIET, "limit_val_batches": 0, "gradient_clip_val": 5.0}
    with tempfile.TemporaryDirectory() as folder:
        fit(task, data, run=folder, seed=seed, report=False, max_epochs=epochs, **options)
    return task.eval()


def followed(task: Any, clips: int, length: int) -> dict[str, dict[str, float]]:
    """Measures of every tracker on what the detector finds in held-out clips."""
    from visionkit.predictor import Predictor
    from visionkit.tracking.protocols import PROTOCOLS
    from visionkit.tracking.track_evaluation import TrackEvaluation

    frames = clip_data(1, length).dataset("test")
    predictor = Predictor(task)
    evaluations = {name: TrackEvaluation(name, frames.truth, PROTOCOLS["mot15"]) for name in TRACKERS}
    for sample in frames[: clips * length]:
        found = predictor(sample.image)
        for each in evaluations.values():
            each.add(sample.sequence, sample.frame, found)
    return {name: dict(each.values()) for name, each in evaluations.items()}


def milliseconds(name: str, objects: int, frames: int) -> float:
    """Median time of `update` in milliseconds."""
    import numpy as np

    from visionkit.predictions import Detections
    from visionkit.tracking.tracker import make_tracker

    rng = np.random.default_rng(0)
    places, speeds = rng.uniform(0, 1, (objects, 2)) * (1160, 560), rng.uniform(-3, 3, (objects, 2))
    sides = rng.uniform(30, 120, (objects, 2))
    tracker, times = make_tracker(name), []
    for frame in range(frames):
        corners = places + frame * speeds + rng.normal(0, 1, places.shape)
        seen = rng.random(objects) > 0.1
        boxes, scores = np.concatenate([corners, corners + sides], axis=1)[seen], rng.uniform(0.3, 1, objects)[seen]
        found = Detections(("thing",), (720, 1280), boxes, scores, np.zeros(len(boxes)))
        began = time.process_time_ns()
        tracker.update(found)
        times.append((time.process_time_ns() - began) / 1e6)
    return statistics.median(times[frames // 5 :])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the seeds that are missing and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file of finished cells, a line of json for each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the detector's training")
    parser.add_argument("--quick", action="store_true", help="show that it runs; its numbers carry no information")
    given = parser.parse_args(argv)
    import warnings

    import torch

    from benchmarks.experiments import finished, keep

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    clips, length, epochs, count = (1, 3, 1, 3) if given.quick else (CLIPS, LENGTH, TRAINED["epochs"], TRAINED["count"])
    there = finished(given.out)
    for seed in given.seeds:
        if not any(each.get("seed") == seed for each in there):
            began = time.process_time()
            task = detector(seed, epochs, count)
            seconds = time.process_time() - began
            for name, values in followed(task, clips, length).items():
                keep(given.out, {"tracker": name, "seed": seed, "seconds": round(seconds, 1), "metrics": values})
    if not any("milliseconds" in each for each in there):
        for name in TRACKERS:
            for objects in OBJECTS:
                found = milliseconds(name, objects, 10 if given.quick else 500)
                keep(given.out, {"tracker": name, "objects": objects, "milliseconds": round(found, 4)})
    report(finished(given.out))
    return 0


def report(cells: Sequence[dict[str, Any]]) -> None:
    """Prints both tables."""
    print(f"| tracker | {' | '.join(SHOWN.values())} | IDs |\n" + "|---" * (len(SHOWN) + 2) + "|")
    for name in TRACKERS:
        own = [each["metrics"] for each in cells if each["tracker"] == name and "metrics" in each]
        means = [f"{100 * statistics.fmean(each[key] for each in own):.1f}" for key in SHOWN]
        print(f"| {name} | {' | '.join(means)} | {statistics.fmean(each['ids'] for each in own):.0f} |")
    print(
        f"\n| tracker | {' | '.join(f'{count} objects' for count in OBJECTS)} |\n" + "|---" * (len(OBJECTS) + 1) + "|"
    )
    for name in TRACKERS:
        times = [each["milliseconds"] for each in cells if each["tracker"] == name and "milliseconds" in each]
        print(f"| {name} | {' | '.join(f'{value:.2f} ms' for value in times)} |")


if __name__ == "__main__":
    raise SystemExit(main())
