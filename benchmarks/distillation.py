"""Distillation, measured: a small student from scratch without a teacher, and with one of features, logits or both.

`python -m benchmarks.distillation --data FOLDER --out distillation.jsonl --teachers FOLDER [--only SET ...]`

The teacher of a set is `tf_efficientnet_lite0` fine-tuned on it as in `benchmarks.transfer_learning`, but longer; the
student is `mobilenetv3_small_050` with random weights. All arms take the same number of steps at the same rate, and
what is quoted is measured once, on the test part, with the weights of the last step. Nothing was tuned for an arm: the
weights of the losses are 1, the temperature is that of Hinton et al. for small networks. Finished cells are kept; a
rerun skips them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

STUDENT = "mobilenetv3_small_050"
SETS = {"flowers17": 40, "cifar10": 12, "camvid": 64}
"""Epochs of the student on each set."""

ARMS: dict[str, dict[str, float] | None] = {
    "no teacher": None,
    "features": {"features": 1.0, "logits": 0.0},
    "logits": {"features": 0.0, "logits": 1.0},
    "both": {"features": 1.0, "logits": 1.0},
}
RATE, TEMPERATURE = 3e-3, 4.0
LONGER = 5
"""The teacher's epochs, as a multiple of those of its set: one that knows little has nothing to teach."""


def teacher(prepared: Any, name: str, folder: Path, out: Path) -> Path:
    """The teacher of a set, trained where it is not there yet."""
    from benchmarks.experiments import keep, measure
    from benchmarks.transfer_learning import begun
    from visionkit.checkpoint import save_checkpoint

    path = folder / f"{name}.ckpt"
    if not path.exists():
        task = begun(prepared, "fine-tuned", 1000)
        found = measure(prepared, task, 1000, epochs=LONGER * prepared.epochs)
        save_checkpoint(task, path)
        keep(out, {"set": name, "arm": "teacher", "seed": 1000, **found})
    return path


def cell(prepared: Any, arm: str, seed: int, source: Path, epochs: int) -> dict[str, Any]:
    """One student and what was measured."""
    from lightning import seed_everything

    from benchmarks.experiments import measure
    from visionkit.distillation import DistillConfig
    from visionkit.optim import OptimConfig

    seed_everything(seed, verbose=False)
    terms = ARMS[arm]
    distill = None if terms is None else DistillConfig(str(source), temperature=TEMPERATURE, **terms)
    optim = OptimConfig(lr=RATE, weight_decay=0.05, warmup=0.1)
    task = prepared.build(STUDENT, optim=optim, distill=distill)
    return {"arm": arm, "seed": seed, **measure(prepared, task, seed, epochs=epochs)}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the cells that are missing and prints the table."""
    from benchmarks import experiments

    parser = experiments.options(__doc__, list(SETS), list(ARMS))
    parser.add_argument("--teachers", type=Path, required=True, help="folder of the teachers' checkpoints")
    given = parser.parse_args(argv)

    def one(name: str, prepared: Any, arm: str, seed: int) -> dict[str, Any]:
        path = teacher(prepared, name, given.teachers, given.out)
        return cell(prepared, arm, seed, path, given.epochs or SETS[name])

    experiments.run_matrix(given, experiments.SETS, one, columns=["teacher", *given.arms])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
