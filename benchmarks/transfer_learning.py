"""Transfer learning, measured: from scratch, frozen, fine-tuned and with adapters, on six small real sets.

`python -m benchmarks.transfer_learning --data FOLDER --out transfer.jsonl [--only SET ...] [--seeds 0 1 2]`

The backbone is `tf_efficientnet_lite0` with the ImageNet weights that an installed package brings, so nothing is
downloaded. All modes of a set take the same number of steps on the same images at the same size; the head's learning
rate belongs to the set, that of pretrained weights is 3e-4. They were chosen with `--choose` on the parts of the
classification sets that are neither trained on nor quoted; the other sets take common ones. What is quoted is measured
once, on the test part, with the weights of the last step. `FOLDER` holds the sets as `classification/flowers17` and so
on, see `benchmarks.sets`. Finished cells are kept; a rerun skips them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BACKBONE = "tf_efficientnet_lite0"

MODES: dict[str, dict[str, Any]] = {
    "scratch": {"pretrained": False},
    "frozen": {"pretrained": True, "freeze": "backbone"},
    "fine-tuned": {"pretrained": True, "backbone_lr": 3e-4, "freeze_norm": True},
    "adapters": {"pretrained": True, "backbone_lr": 3e-4, "adapters": {"rank": 8, "alpha": 16.0}},
}
"""What differs between the modes; the head's rate is that of the set."""

OF_OPTIM = ("lr", "freeze", "freeze_norm")
"""The settings of a mode that belong to its optimizer."""

CHOICES: dict[str, list[dict[str, Any]]] = {
    "scratch": [{"lr": lr} for lr in (3e-3, 1e-2)],
    "frozen": [{"lr": lr} for lr in (3e-3, 1e-2, 3e-2)],
    "fine-tuned": [
        {"lr": 1e-3, "freeze_norm": True},
        {"lr": 3e-3, "freeze_norm": True},
        {"lr": 1e-2, "freeze_norm": True},
        {"lr": 3e-3, "freeze_norm": False},
    ],
    "adapters": [{"lr": 1e-2, "backbone_lr": lr} for lr in (3e-4, 1e-3, 3e-3)],
}
"""What `--choose` tries in place of a mode's own settings."""


def begun(prepared: Any, mode: str, seed: int, changed: Mapping[str, Any] | None = None) -> Any:
    """The task of one training.

    Args:
        prepared: The set, see `benchmarks.sets.Prepared`.
        mode: One of `MODES`.
        seed: Seed of weights, order and augmentation.
        changed: Settings in place of the mode's own.
    """
    from lightning import seed_everything

    from visionkit.backbones import AdapterConfig
    from visionkit.optim import OptimConfig

    settings = {"lr": prepared.lr, **MODES[mode], **(changed or {})}
    scale = settings.pop("backbone_lr", settings["lr"]) / settings["lr"]
    of_optim = {key: settings.pop(key) for key in OF_OPTIM if key in settings}
    if "adapters" in settings:
        settings["adapters"] = AdapterConfig(**settings["adapters"])
    optim = OptimConfig(weight_decay=0.05, warmup=0.1, backbone_lr_scale=scale, **of_optim)
    seed_everything(seed, verbose=False)
    return prepared.build(BACKBONE, optim=optim, **settings)


def cell(prepared: Any, mode: str, seed: int, changed: Mapping[str, Any] | None = None, **how: Any) -> dict[str, Any]:
    """One training, see `begun`, and what was measured, see `benchmarks.experiments.measure`."""
    from benchmarks.experiments import measure

    task = begun(prepared, mode, seed, changed)
    return {"mode": mode, "seed": seed, "lr": task.optim.lr, **measure(prepared, task, seed, **how)}


def choose(root: Path, out: Path, sets: Sequence[str], modes: Sequence[str]) -> None:
    """Measures each mode with each of `CHOICES` on the part of the sets that chooses."""
    from benchmarks.experiments import SETS, finished, keep

    there = [(each["set"], each["mode"], each["changed"]) for each in finished(out) if "changed" in each]
    for name in sets:
        prepared = SETS[name](root)
        for mode in modes:
            for changed in CHOICES[mode]:
                if (f"choose {name}", mode, changed) in there:
                    continue
                found = cell(prepared, mode, 100, changed, split="val")
                keep(out, {"set": f"choose {name}", "changed": changed, **found})
                print(f"{name}, {mode}, {changed}: {found['metric']} {found['value']:.4f}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the cells that are missing and prints the table."""
    from benchmarks import experiments

    parser = experiments.options(__doc__, list(experiments.SETS), list(MODES), "mode")
    parser.add_argument("--choose", action="store_true", help="only measure what each mode could be set to")
    given = parser.parse_args(argv)
    if given.choose:
        import torch

        torch.set_num_threads(given.threads)
        choose(given.data, given.out, given.only, given.modes)
        return 0
    changes = {} if given.epochs is None else {"epochs": given.epochs}

    def one(name: str, prepared: Any, mode: str, seed: int) -> dict[str, Any]:
        return cell(prepared, mode, seed, **changes)

    experiments.run_matrix(given, experiments.SETS, one, "mode")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
