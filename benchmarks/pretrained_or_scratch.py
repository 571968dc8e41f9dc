"""The configurations of four tasks as they are, for a fixed time, from public weights and from random ones.

`python -m benchmarks.pretrained_or_scratch --data FOLDER --out results.json [--max_time 10m] [--only TASK ...]`

Each set is trained with `visionkit fit -c TASK --data ... --max_time TIME` and nothing else, and once more with
`--model.pretrained false`. Both run at once, on one thread each, so they have the same machine. What is quoted is
measured on images that neither chose an epoch by; `FOLDER` holds the sets under the names below.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.sets import CAMVID_CLASSES

SETS: dict[str, tuple[str, list[str], str]] = {
    "classification": ("classification/flowers17", ["--data", "FolderData"], "top1"),
    "detection": ("detection/bccd_voc", ["--data", "VocData"], "box_ap50"),
    "semantic_segmentation": (
        "semantic_segmentation/camvid_subset",
        [
            *("--data", "LabelMapData", "--data.images", "{split}", "--data.labels", "{split}annot"),
            *("--data.ignore", "[11]", "--data.classes"),
            f"[{','.join(CAMVID_CLASSES)}]",
        ],
        "mean_iou",
    ),
    "pose": (
        "pose/coco_val2017_person",
        [
            *("--data", "CocoKeypointData", "--data.labels", "person_keypoints.json", "--data.images", "images"),
            *("--data.val_fraction", "0.1", "--data.test_fraction", "0.1"),
        ],
        "ap",
    ),
}
"""By task: folder of the set, what states how it is laid out, and the metric that is quoted."""

ARMS = {"pretrained": [], "scratch": ["--model.pretrained", "false"]}


def visionkit(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """The command line on one thread, as a process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("ab") as out:
        return subprocess.Popen([sys.executable, "-m", "ui.cli", *arguments], stdout=out, stderr=out, env=environment)


def measure(task: str, data: Path, time: str, runs: Path) -> dict[str, dict[str, Any]]:
    """Trains and measures both arms of one task."""
    folder, layout, _ = SETS[task]
    given = ["-c", task, *layout, "--data.root", str(data / folder), "--max_time", time]
    begun = {
        arm: visionkit(["fit", *given, *more, "--run", str(runs / task / arm)], runs / f"{task}_{arm}.log")
        for arm, more in ARMS.items()
    }
    found: dict[str, dict[str, Any]] = {}
    for arm, process in begun.items():
        run = runs / task / arm
        if process.wait():
            raise SystemExit(f"{task}, {arm}: training failed, see {runs / f'{task}_{arm}.log'}")
        # Where the set has no test split, the last checkpoint, which nothing chose, is measured on the other one.
        verb = "validate" if task == "classification" else "test"
        weights = run / "checkpoints" / "last.ckpt" if verb == "validate" else run
        results = runs / f"{task}_{arm}.json"
        arguments = [verb, "-c", str(run / "config.yaml"), "--ckpt_path", str(weights), "--results", str(results)]
        if visionkit(arguments, runs / f"{task}_{arm}.log").wait():
            raise SystemExit(f"{task}, {arm}: cannot be measured, see {runs / f'{task}_{arm}.log'}")
        stated = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        metrics = json.loads(results.read_text(encoding="utf-8"))["metrics"]
        found[arm] = {"metrics": metrics, "epochs": stated.get("epochs"), "steps": stated.get("steps")}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pretrained_or_scratch", description=__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path, help="finished tasks are kept; a rerun skips them")
    parser.add_argument("--max_time", default="10m")
    parser.add_argument("--only", nargs="+", choices=[*SETS], default=[*SETS])
    args = parser.parse_args()
    done: dict[str, Any] = json.loads(args.out.read_text(encoding="utf-8")) if args.out.is_file() else {}
    for task in args.only:
        if task not in done:
            with tempfile.TemporaryDirectory() as runs:
                done[task] = measure(task, args.data, args.max_time, Path(runs))
            args.out.write_text(json.dumps(done, indent=1), encoding="utf-8")
    print("| task | metric | from public weights | epochs | from scratch | epochs |\n|---|---|---|---|---|---|")
    for task, arms in done.items():
        metric = SETS[task][2]
        cells = [
            cell
            for arm in ARMS
            for cell in (
                f"{next(value for key, value in arms[arm]['metrics'].items() if key.endswith(f'/{metric}')):.3f}",
                str(arms[arm]["epochs"]),
            )
        ]
        print(f"| {task} | {metric} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
