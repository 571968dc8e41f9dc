"""Aggregating proposals of other frames (SELSA) against the same detector on single frames, on drawn clips.

`python -m benchmarks.video_detection --out video_detection.jsonl [--seeds 0 1 2]`

Both are a Faster R-CNN on `tf_efficientnet_lite0` with ImageNet weights, trained for the same number of steps, at the
same rate and on the same frames, of drawn clips whose frames are exposed for up to one and a half frames and whose
objects pass before and behind each other. The one that aggregates takes two frames of the same clip at random into each
step, so its steps pass three times as many frames through the network. Held-out clips are measured frame by frame: with
the 8 frames before (as a session over a video does) or with 8 frames spread over the whole clip, and each with Seq-NMS
behind it. The numbers of frames were set beforehand; nothing was chosen on these clips. Finished cells are kept; a
rerun skips them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SIZE = (96, 128)
TRAINED = {"count": 150, "length": 8, "epochs": 4}
CLIPS, LENGTH = 30, 20
IN_TRAINING, IN_USE, AGGREGATED = 2, 8, 40
ARMS = ("single", "aggregated")
SHOWN = {
    "box_ap50": "AP50",
    "box_ap": "AP",
    "voc_ap50_slow": "slow",
    "voc_ap50_medium": "medium",
    "voc_ap50_fast": "fast",
}


def clip_data(count: int, length: int, **base: Any) -> Any:
    """Drawn clips with blur and occlusion."""
    from datamodules.clip_data import ClipData
    from visionkit.synthetic import ClipSettings

    clip = ClipSettings(size=SIZE, length=length, objects=(4, 7), speed=0.06, blur=1.5, noise=3.0)
    return ClipData(count=count, eval_count=CLIPS, clip=clip, **base)


def detector(arm: str, seed: int, epochs: int, count: int) -> Any:
    """A detector of one arm, trained."""
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
    aggregates = arm == "aggregated"
    frames: dict[str, Any] = {}
    if aggregates:
        frames = {"reference_frames": IN_TRAINING, "eval_reference_frames": IN_USE}
    spec = InputSpec(size=SIZE, resize_mode="letterbox", **frames)
    data = clip_data(count, TRAINED["length"], input=spec, batch_size=8, seed=seed, augment=ObjectAugment())
    optim = OptimConfig(lr=1e-3, backbone_lr_scale=0.3, weight_decay=0.05, warmup=0.1)
    own = {**DETECTORS["faster_rcnn"], "aggregate": AGGREGATED if aggregates else 0}
    built: dict[str, Any] = {"classes": data.classes, "input": spec, "optim": optim, "pretrained": True}
    task = DetectionTask("tf_efficientnet_lite0", architecture="faster_rcnn", faster_rcnn=own, **built)
    options = {**QUIET, "limit_val_batches": 0, "gradient_clip_val": 5.0}
    with tempfile.TemporaryDirectory() as folder:
        fit(task, data, run=folder, seed=seed, report=False, max_epochs=epochs, **options)
    return task.eval()


def spread(task: Any, samples: Sequence[Any]) -> list[Any]:
    """Predictions on the frames of a clip with reference frames of the whole clip, each described once."""
    import torch

    from visionkit.families.detection.aggregation import References
    from visionkit.preprocess import Preprocessor

    prepare, network, found = Preprocessor(task.input), task.network, []
    with torch.inference_mode():
        shown = [prepare(sample.changed(target={})) for sample in samples]
        images = [task.normalize(each["inputs"]["image"][None]) for each in shown]
        places = [int((k + 0.5) * len(samples) / IN_USE) for k in range(IN_USE)]
        references = References.joined([network.described(network(images[place])) for place in places])
        for image, each in zip(images, shown, strict=True):
            found += task.restore(task.decode(network(image, references)), [each["geometry"]])
    return found


def measured(task: Any, arm: str, clips: int, length: int) -> dict[str, dict[str, float]]:
    """Measures on held-out clips by how they were predicted."""
    from visionkit.families.detection.coco_eval import DetectionMetrics
    from visionkit.predictor import Predictor
    from visionkit.tracking.rescoring import seq_nms

    frames, predictor = clip_data(1, length).dataset("test"), Predictor(task)
    names = ("single",) if arm == "single" else ("before", "sequence")
    metrics = {f"{name}{end}": DetectionMetrics(len(task.classes)) for name in names for end in ("", " + seq-nms")}
    for clip in range(clips):
        samples = frames[clip * length : (clip + 1) * length]
        targets = [{**each.target, "file_boxes": each.target["boxes"]} for each in samples]
        for name in names:
            if name == "sequence":
                found = spread(task, samples)
            else:
                session = predictor.session()
                found = [session.step(each.image) for each in samples]
            metrics[name].update(found, targets)
            metrics[f"{name} + seq-nms"].update(seq_nms(found), targets)
    values = {name: each.compute() for name, each in metrics.items()}
    return {name: {key: float(each[key]) for key in SHOWN} for name, each in values.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the cells that are missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file of finished cells, a line of json for each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="show that it runs; its numbers carry no information")
    given = parser.parse_args(argv)
    import warnings

    import torch

    from benchmarks.experiments import finished, keep

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    clips, length, epochs, count = (1, 3, 1, 2) if given.quick else (CLIPS, LENGTH, TRAINED["epochs"], TRAINED["count"])
    for seed in given.seeds:
        for arm in ARMS:
            if any((each["arm"], each["seed"]) == (arm, seed) for each in finished(given.out)):
                continue
            began = time.process_time()
            task = detector(arm, seed, epochs, count)
            seconds = round(time.process_time() - began, 1)
            cell = {"arm": arm, "seed": seed, "seconds": seconds, "metrics": measured(task, arm, clips, length)}
            keep(given.out, cell)
            print(cell, flush=True)
    report(finished(given.out))
    return 0


def report(cells: Sequence[dict[str, Any]]) -> None:
    """Prints the means over the seeds, and for AP50 those of each seed."""
    print(f"| predicted | {' | '.join(SHOWN.values())} | AP50 by seed |\n" + "|---" * (len(SHOWN) + 2) + "|")
    for name in dict.fromkeys(name for each in cells for name in each["metrics"]):
        own = [each["metrics"][name] for each in cells if name in each["metrics"]]
        means = [_mean([each[key] for each in own]) for key in SHOWN]
        seeds = ", ".join(f"{100 * each['box_ap50']:.1f}" for each in own)
        print(f"| {name} | {' | '.join(means)} | {seeds} |")


def _mean(values: Sequence[float]) -> str:
    """The mean in percent; a speed that no object of the clips has is measured as -1."""
    return f"{100 * statistics.fmean(values):.1f}" if min(values) >= 0 else "none"


if __name__ == "__main__":
    raise SystemExit(main())
