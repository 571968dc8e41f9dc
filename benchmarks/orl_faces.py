"""The four folds over ORL's people, the closed set, and PCA + LDA on the same splits.

`python -m benchmarks.orl_faces --root orl_faces --runs runs/orl` trains each fold on 30 people, measures it on the
ten others, and prints accuracy and equal error rate beside those of PCA + LDA; then the closed set's rank-1. It is no
row of the goals: it times nothing but itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "experiment" / "orl_faces.yaml"
FOLDS = 4


def trained(root: Path, runs: Path, fold: int, more: Sequence[str]) -> dict[str, float]:
    """Trains one fold, or the closed set where `fold` is negative, and measures it."""
    from ui.cli import main

    closed = ["--data.folds", "0", "--data.known_images", "5", "--trainer.max_epochs", "40"]
    run = runs / (f"fold{fold}" if fold >= 0 else "closed")
    options = ["-c", str(CONFIG), "--data.root", str(root), "--run", str(run), *more]
    options += ["--data.fold", str(fold)] if fold >= 0 else closed
    start = time.perf_counter()
    if main(["fit", *options, "--trainer.enable_progress_bar", "false"]):
        raise SystemExit(f"{run}: the training failed")
    seconds = time.perf_counter() - start
    results = run / "results.json"
    checkpoint = run / "checkpoints" / "last.ckpt"
    if main(["test", "-c", str(run / "config.yaml"), "--ckpt_path", str(checkpoint), "--results", str(results)]):
        raise SystemExit(f"{run}: measuring failed")
    metrics: dict[str, float] = json.loads(results.read_text("utf-8"))["metrics"]
    return {**{key.removeprefix("test/"): value for key, value in metrics.items()}, "seconds": seconds}


def baseline(root: Path, fold: int) -> dict[str, float]:
    """PCA to 100 directions and LDA, fitted on the fold's training people, measured as the network is."""
    import torch
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    from datamodules.identities import IdentityData
    from tasks.face_recognition.metrics import FaceMetrics
    from visionkit.data import Split
    from visionkit.geometry import InputSpec
    from visionkit.preprocess import Preprocessor

    spec = InputSpec(size=(56, 48), resize_mode="stretch", channels=1)
    split: dict[str, Any] = {"folds": FOLDS, "fold": fold} if fold >= 0 else {"known_images": 5}
    data = IdentityData(str(root), val_fraction=0.0, input=spec, **split)
    prepare = Preprocessor(spec)

    def pixels(name: Split) -> tuple[np.ndarray, list[dict[str, int]], list[str]]:
        examples = [prepare(sample) for sample in data.samples(name)]
        rows = np.stack([example["inputs"]["image"].numpy().ravel() for example in examples]).astype(np.float64)
        targets = [{key: int(value) for key, value in example["target"].items()} for example in examples]
        return rows, targets, [example["id"] for example in examples]

    rows, targets, _ = pixels("train")
    pca = PCA(100, svd_solver="full").fit(rows)
    lda = LinearDiscriminantAnalysis(solver="eigen").fit(pca.transform(rows), [each["identity"] for each in targets])
    rows, targets, names = pixels("test")
    found = lda.transform(pca.transform(rows))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    metrics = FaceMetrics()
    columns = {key: torch.tensor([each[key] for each in targets]) for key in targets[0]}
    metrics.update(torch.from_numpy(found), columns.pop("identity"), names, **columns)
    return {key: float(value) for key, value in metrics.compute().items() if value.numel() == 1}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of s1 ... s40")
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs; must not hold them already")
    given, more = parser.parse_known_args(argv)
    rows = []
    for fold in [*range(FOLDS), -1]:
        row = {"ours": trained(given.root, given.runs, fold, more), "pca_lda": baseline(given.root, fold)}
        rows.append(row)
        (given.runs / "folds.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        name = f"fold {fold}" if fold >= 0 else "closed set"
        print(f"{name}: {message(row['ours'])} | PCA + LDA {message(row['pca_lda'])}")
    for name in ("ours", "pca_lda"):
        means = {key: statistics.mean(row[name][key] for row in rows[:FOLDS]) for key in ("accuracy", "eer")}
        print(f"{name}: mean accuracy {means['accuracy']:.4f}, mean equal error rate {means['eer']:.4f}")
    print(f"trainings: {sum(row['ours']['seconds'] for row in rows):.0f} s in all")
    return 0


def message(values: dict[str, float]) -> str:
    return f"accuracy {values['accuracy']:.4f}, EER {values['eer']:.4f}, rank-1 {values['rank1']:.4f}"


if __name__ == "__main__":
    raise SystemExit(main())
