"""Three detectors on one backbone in the same minutes: FCOS, Faster R-CNN and D-FINE on drawn scenes and two real sets.

`python -m benchmarks.detectors_compared --data FOLDER --out detectors.jsonl [--minutes 10] [--seeds 0 1 2]`

The backbone is `tf_efficientnet_lite0` with the ImageNet weights that an installed package brings. All networks have
the same input size, augmentation and batches; those with anchors or points read maps of strides 4, 8 and 16, D-FINE
of 8, 16 and 32. Each trains for the same time by the clock (`max_time`, so the schedule ends with it; run it on a
machine that does nothing else) at a rate that was set beforehand by common practice. What is quoted is AP50, measured
once, on the test part, with the weights of the last step. Finished cells are kept; a rerun skips them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

BACKBONE = "tf_efficientnet_lite0"
SETS = ("scenes", "bccd", "penn_fudan")

ARMS: dict[str, dict[str, float]] = {
    "fcos": {"lr": 1e-3, "clip": 5.0},
    "faster_rcnn": {"lr": 1e-3, "clip": 5.0},
    "dfine": {"lr": 5e-4, "clip": 0.1},
}
"""Learning rate of AdamW and the norm that gradients are clipped to; D-FINE's as published but for the batch size."""


def cell(prepared: Any, arm: str, seed: int, max_time: str, epochs: int | None = None) -> dict[str, Any]:
    """One training and what was measured.

    Args:
        prepared: The set, see `benchmarks.sets.Prepared`.
        arm: One of `ARMS`.
        seed: Seed of weights, order and augmentation.
        max_time: Time of the training.
        epochs: Epochs in place of the time.
    """
    from lightning import seed_everything

    from benchmarks.experiments import measure
    from visionkit.optim import OptimConfig

    seed_everything(seed, verbose=False)
    optim = OptimConfig(lr=ARMS[arm]["lr"], backbone_lr_scale=0.3, weight_decay=0.05, warmup=0.1)
    task = prepared.build(BACKBONE, architecture=arm, optim=optim, pretrained=True)
    length: dict[str, Any] = {"max_time": max_time} if epochs is None else {"epochs": epochs}
    return measure(prepared, task, seed, trainer={"gradient_clip_val": ARMS[arm]["clip"]}, **length)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the cells that are missing and prints the table."""
    from benchmarks import experiments, sets

    parser = experiments.options(__doc__, SETS, list(ARMS))
    parser.add_argument("--minutes", type=float, default=10.0, help="time of each training (default: 10)")
    given = parser.parse_args(argv)

    def one(name: str, prepared: Any, arm: str, seed: int) -> dict[str, Any]:
        return cell(prepared, arm, seed, f"{60 * given.minutes:g}s", given.epochs)

    ready = {"scenes": sets.scenes, "bccd": sets.bccd, "penn_fudan": sets.penn_fudan}
    experiments.run_matrix(given, ready, one)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
