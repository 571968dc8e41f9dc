"""What mixing images is worth on small data: arms of augmentation for detection and instance segmentation.

`python -m benchmarks.augmentation_ablation --data FOLDER --out ablation.jsonl [--only SET ...] [--seeds 0 1 2]`

On `bccd` (detection, FCOS) the arms are a horizontal flip alone, mosaic, mosaic and mixup, and large-scale jitter; on
`nuclei` (instance segmentation, Mask R-CNN) parts of the images, flipped and turned, without and with copy-paste. The
backbone is `tf_efficientnet_lite0` with the ImageNet weights that an installed package brings. All arms of a set take
the same steps at the same rate; the last sixth of the epochs mixes nothing. What is quoted is measured once, on the
test part, with the weights of the last step; nothing was tuned for an arm. Finished cells are kept; a rerun skips them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

BACKBONE, RATE = "tf_efficientnet_lite0", 1e-3


def _bccd() -> dict[str, list[Any]]:
    from datamodules.augmentation import (
        LargeScaleJitter,
        MixUp,
        Mosaic,
        RandomHorizontalFlip,
        SanitizeBoundingBoxes,
    )

    behind = [RandomHorizontalFlip(), SanitizeBoundingBoxes(0.3)]
    return {
        "none": behind,
        "mosaic": [Mosaic(p=0.5), *behind],
        "mosaic+mixup": [Mosaic(p=0.5), MixUp(p=0.3), *behind],
        "large-scale jitter": [RandomHorizontalFlip(), LargeScaleJitter()],
    }


def _nuclei() -> dict[str, list[Any]]:
    from datamodules.augmentation import ObjectAugment

    side: dict[str, Any] = {"crop_size": (192, 192), "scale": (1, 1), "aspect_ratio": (1, 1), "quarter_turns": True}
    return {"none": [ObjectAugment(**side)], "copy-paste": [ObjectAugment(**side, copy_paste=0.5)]}


ARMS: dict[str, tuple[str, ...]] = {
    "bccd": ("none", "mosaic", "mosaic+mixup", "large-scale jitter"),
    "nuclei": ("none", "copy-paste"),
}
AUGMENT: dict[str, Callable[[], dict[str, list[Any]]]] = {"bccd": _bccd, "nuclei": _nuclei}


def cell(name: str, prepared: Any, arm: str, seed: int, epochs: int | None = None) -> dict[str, Any]:
    """One training and what was measured.

    Args:
        name: Name of the set.
        prepared: The set, see `benchmarks.sets.Prepared`.
        arm: One of its `ARMS`.
        seed: Seed of weights, order and augmentation.
        epochs: Epochs in place of the set's own.
    """
    from lightning import seed_everything

    from benchmarks.experiments import measure
    from visionkit.augmentation import composed
    from visionkit.optim import OptimConfig

    length = epochs or prepared.epochs
    augment = composed(AUGMENT[name]()[arm])
    closing = length // 6 if augment.mixes else 0
    changed = replace(prepared, data={**prepared.data, "augment": augment, "close_mosaic": closing})
    seed_everything(seed, verbose=False)
    optim = OptimConfig(lr=RATE, backbone_lr_scale=0.3, weight_decay=0.05, warmup=0.1)
    task = prepared.build(BACKBONE, optim=optim, pretrained=True)
    return measure(changed, task, seed, epochs=length, trainer={"gradient_clip_val": 5.0})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the cells that are missing and prints the table."""
    from benchmarks import experiments, sets

    every = list(dict.fromkeys(arm for arms in ARMS.values() for arm in arms))
    given = experiments.options(__doc__, list(ARMS), every).parse_args(argv)

    def one(name: str, prepared: Any, arm: str, seed: int) -> dict[str, Any]:
        return cell(name, prepared, arm, seed, given.epochs)

    ready = {"bccd": sets.bccd, "nuclei": sets.nuclei}
    experiments.run_matrix(given, ready, one, arms_of=lambda name: ARMS[name])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
