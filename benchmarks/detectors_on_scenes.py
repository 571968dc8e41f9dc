"""Five detectors learn drawn scenes from scratch on one core: AP50 on scenes they have not seen, and the CPU minutes.

Each is trained and tested by the command line as a user would, with configs/experiment/scenes_detection.yaml or
scenes_instance_segmentation.yaml. Run as `python -m benchmarks.detectors_on_scenes --out results.json [NAME ...]`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("fcos", "retinanet", "ssd", "faster_rcnn", "mask_rcnn")
_LEVELS = {"strides": [4, 8, 16, 32], "neck_channels": 64}
_PROPOSALS = {"pre_nms_top_n": 300, "post_nms_top_n": 100, "train_pre_nms_top_n": 300, "train_post_nms_top_n": 100}
_SAMPLES = {"rpn_batch_size_per_image": 128, "box_batch_size_per_image": 64}
ARGUMENTS: dict[str, dict[str, object]] = {
    "fcos": {},  # those of the yaml
    "retinanet": {**_LEVELS, "extra_levels": "none", "convs": 2, "anchor_scale": 3},
    "ssd": {**_LEVELS, "levels": 4},
    "faster_rcnn": {**_LEVELS, "hidden": 256, "canonical_box_size": 112, "anchor_scale": 4, **_PROPOSALS, **_SAMPLES},
}
WANTED = 0.9
"""AP50 on held-out scenes: of boxes, and of masks too where they are trained."""


def train(name: str, folder: Path, more: list[str]) -> dict[str, float]:
    """One detector: its test figures and what they took."""
    from ui.cli import main

    experiment = "scenes_instance_segmentation" if name == "mask_rcnn" else "scenes_detection"
    options = ["-c", str(ROOT / "configs" / "experiment" / f"{experiment}.yaml"), *more]
    if name != "mask_rcnn":
        options += ["--model.architecture", name]
        options += [f"--model.{name}.{key}={value}" for key, value in ARGUMENTS[name].items()]
    began, run = time.process_time(), folder / name
    if status := main(["fit", *options, "--run", str(run)]):
        raise SystemExit(status)
    minutes = (time.process_time() - began) / 60
    results = folder / f"{name}.json"
    ckpt = str(run / "checkpoints" / "last.ckpt")
    if status := main(["test", "-c", str(run / "config.yaml"), "--ckpt_path", ckpt, "--results", str(results)]):
        raise SystemExit(status)
    metrics = json.loads(results.read_text(encoding="utf-8"))["metrics"]
    shown = {key.removeprefix("test/"): value for key, value in metrics.items() if "ap" in key}
    return {"cpu_minutes": minutes, **shown}


def run(names: list[str], out: Path | None, more: list[str]) -> int:
    """Trains one after the other; the status is 0 where each reaches what is required."""
    message: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            message[name] = train(name, Path(folder), more)
            kinds = ("box_ap50", "mask_ap50") if name == "mask_rcnn" else ("box_ap50",)
            figures = ", ".join(f"{kind} {message[name][kind]:.3f}" for kind in kinds)
            print(f"{name}: {figures} in {message[name]['cpu_minutes']:.1f} CPU minutes", flush=True)
            if out is not None:
                out.write_text(json.dumps(message, indent=2) + "\n", encoding="utf-8")
    reached = [figures["box_ap50"] >= WANTED for figures in message.values()]
    print(f"{sum(reached)} of {len(reached)} reach AP50 {WANTED:g}")
    return 0 if all(reached) else 1


def main() -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="which; all by default")
    parser.add_argument("--out", type=Path, help="file for the figures")
    given, more = parser.parse_known_args()
    return run(given.names or list(NAMES), given.out, more)


if __name__ == "__main__":
    sys.exit(main())
