"""A run's checkpoints as artifacts of Weights & Biases, each with a model card."""

from __future__ import annotations

import importlib.metadata
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionkit.bundle import render_card
from visionkit.contract import RANDOM
from visionkit.loggers.state import staging

if TYPE_CHECKING:
    from visionkit.task import VisionTask


def log_checkpoints(
    run: Any, kept: Mapping[str, Any], records: Path, task: VisionTask | None, config: Mapping[str, Any]
) -> None:
    """Logs the best and the last checkpoint of a run, one artifact where they are the same file.

    Args:
        run: The `wandb.Run`.
        kept: What Lightning's checkpoint callback knows: `best_model_path`, `best_model_score`, `last_model_path`,
            `monitor`.
        records: Folder of W&B, in which the artifact is staged.
        task: The trained task, for the model card; None leaves the card out.
        config: Configuration of the run, for the model card.
    """
    import wandb

    best, last = (Path(kept.get(name) or "") for name in ("best_model_path", "last_model_path"))
    files: dict[Path, list[str]] = {}
    if last.is_file() and not (best.is_file() and best.samefile(last)):
        files[last] = ["last"]
    if best.is_file():
        files[best] = ["best"] if files else ["best", "last"]
    for path, aliases in files.items():
        given = kept.get("best_model_score") if "best" in aliases else None
        score = None if given is None else float(given)
        card = "" if task is None else model_card(task, run.name, config, kept.get("monitor"), score)
        metadata = {"file": path.name, "metric": kept.get("monitor"), "score": score}
        with staging(records):
            artifact = wandb.Artifact(f"model-{run.id}", "model", description=card or None, metadata=metadata)
            artifact.add_file(str(path), name="model.ckpt")
            if card:
                with artifact.new_file("README.md", encoding="utf-8") as file:
                    file.write(card)
            run.log_artifact(artifact, aliases=aliases)


def model_card(task: VisionTask, name: str, config: Mapping[str, Any], metric: str | None, score: float | None) -> str:
    """The model card of a checkpoint, as a bundle has it.

    Args:
        task: The trained task.
        name: Name of the run.
        config: Configuration of the run.
        metric: Metric that chose the checkpoint.
        score: Its value; None leaves the results out.
    """
    card: dict[str, Any] = {"name": name, "started_from": task.started_from or RANDOM}
    data = config.get("data")
    if isinstance(data, Mapping):
        card["data"] = " ".join(str(data[key]) for key in ("class", "root", "path", "file") if data.get(key))
    if Path(sys.argv[0]).name == "visionkit":
        card["command"] = shlex.join(["visionkit", *sys.argv[1:]])
    if (seed := config.get("seed_everything")) is not None:
        card["seed"] = seed
    if metric is not None and score is not None:
        card["results"] = [{"metric": metric, "value": score, "split": "val", "protocol": task.protocol}]
    weights = {"dtype": "float32", "parameters": sum(p.numel() for p in task.parameters())}
    versions = {name: importlib.metadata.version(name) for name in ("visionkit", "torch", "timm", "lightning")}
    facts = {"task": task.name, "config": task.config, "card": card, "weights": weights, "versions": versions}
    return render_card(facts, name)
