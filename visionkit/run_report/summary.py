"""What a run knows of itself, in plain values: `summary.json`, and the facts of the model card."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Trainer

from visionkit.atomic import atomic_file
from visionkit.loggers.content import readable_config
from visionkit.task import VisionTask
from visionkit.uncertainty.resampling import Intervals
from visionkit.wording import counted, epoch_text

SUMMARY = "summary.json"


def data_text(trainer: Trainer, config: Mapping[str, Any] | None) -> str:
    """The data in one line: the class that reads it, the files and folders it was given, the number of images."""
    module: Any = trainer.datamodule  # type: ignore[attr-defined]
    stated = readable_config((config or {}).get("data") or {})
    name = str(stated.pop("class", "") or (type(module).__name__ if module is not None else "loaders of the caller"))
    places = [f"{key} {value}" for key, value in stated.items() if isinstance(value, str) and Path(value).exists()]
    loaders: dict[str, Any] = {"training": trainer.train_dataloader, "validation": trainer.val_dataloaders}
    counts = [
        counted(len(each.dataset), f"{split} image") for split, each in loaders.items() if hasattr(each, "dataset")
    ]
    return "; ".join(part for part in (" ".join([name, *places]), ", ".join(counts)) if part)


def training_text(trainer: Trainer) -> str:
    """How long it was trained and on what, in one line."""
    batch = getattr(trainer.train_dataloader, "batch_size", None)
    size = f" of {counted(batch, 'image')}" if batch else ""
    world = trainer.world_size
    device = trainer.strategy.root_device.type
    progress: Any = trainer.fit_loop.epoch_progress.current
    epochs, steps = progress.started, trainer.global_step
    return (
        f"{counted(steps, 'step')}{size}{f' on each of {world} processes' if world > 1 else ''}, "
        f"{counted(epochs, 'epoch')}, on {device}"
    )


def result_rows(
    metrics: Mapping[str, float], protocol: str, where: str = "", intervals: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Metrics as the model card lists them; losses, and what could not be measured, are left out.

    Args:
        metrics: Metrics by name, with the split before the slash.
        protocol: How they were measured.
        where: Added to the split, such as the step.
        intervals: Lower and upper bound of metrics, by the same names.
    """
    rows = []
    for name, value in metrics.items():
        split, _, metric = name.partition("/")
        number = float(value)
        if not metric or metric.startswith("loss") or not math.isfinite(number) or number == -1.0:
            continue
        bounds = (intervals or {}).get(name)
        interval = {"interval": list(bounds)} if bounds else {}
        rows.append({"metric": metric, "value": number, **interval, "split": split + where, "protocol": protocol})
    return rows


def commands(before: str, now: str) -> str:
    """The command line of a run that went on: the earlier ones and this one, each once."""
    parts = [part for part in before.split(" && ") if part]
    return " && ".join([*parts, *([now] if now and now not in parts else [])])


def stopped_early(trainer: Trainer) -> str:
    """Why an early-stopping callback, or the end of its time, ended the training before its length; or ""."""
    from lightning.pytorch.callbacks import EarlyStopping

    for each in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(each, EarlyStopping) and each.stopping_reason_message:
            best = float(each.best_score)
            reason = (
                f"{each.monitor} did not get better than {best:.4g} in {counted(each.wait_count, 'check')} in a row"
            )
            if each.wait_count < each.patience:
                reason = " ".join((each.stopping_reason_message or f"{each.monitor} met its bound").split())
            return f"stopped early after {epoch_text(each.stopped_epoch, trainer.max_epochs)}: {reason}"
        if reason := getattr(each, "stopped_early", ""):
            return str(reason)
    return ""


def best_of(trainer: Trainer, task: VisionTask, folder: Path) -> dict[str, Any]:
    """The metric that chooses the best checkpoint, its best value and the files of both checkpoints."""
    metric, mode = task.monitor
    keeper: Any = trainer.checkpoint_callback
    if keeper is None or not hasattr(keeper, "best_model_score"):
        return {"monitor": {"metric": metric, "mode": mode}}
    score = keeper.best_model_score
    paths = {"best": keeper.best_model_path, "last": keeper.last_model_path}
    files = {name: within(folder, path) for name, path in paths.items() if path}
    return {
        "monitor": {"metric": metric, "mode": mode, "best": None if score is None else float(score)},
        "checkpoints": files,
    }


def within(folder: Path, path: str) -> str:
    """A path as it is written into a summary: relative to the run's folder where it lies in it."""
    try:
        return str(Path(path).resolve().relative_to(folder.resolve()))
    except ValueError:
        return path


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a run's folder; empty where there is none."""
    try:
        found = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def update_summary(folder: Path, facts: Mapping[str, Any]) -> None:
    """Adds facts to the summary; what it states about other things stays."""
    text = json.dumps({**read_summary(folder), **_json(facts)}, indent=2, ensure_ascii=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / SUMMARY) as file:
        file.write(text.encode("utf-8"))


def add_intervals(folder: Path, split: str, intervals: Intervals) -> None:
    """Adds the intervals of a split that was evaluated just now to the summary."""
    measured = read_summary(folder).get(split)
    if isinstance(measured, dict):
        update_summary(folder, {split: {**measured, **intervals.to_json()}})


def _json(value: Any) -> Any:
    """The same value with null in place of numbers that json does not know."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    return value


def run_of(checkpoint: Path) -> Path | None:
    """The run's folder of a checkpoint, or None where it lies elsewhere."""
    folder = checkpoint.absolute().parent.parent
    inside = checkpoint.is_file() and checkpoint.absolute().parent.name == "checkpoints"
    return folder if inside and ((folder / "config.yaml").is_file() or (folder / SUMMARY).is_file()) else None


def with_test_results(card: Mapping[str, Any], model: Path) -> dict[str, Any]:
    """A model card with what `visionkit test` has measured since of the very checkpoint.

    Args:
        card: Card, as the checkpoint holds it.
        model: The checkpoint.
    """
    run = run_of(model)
    tested = read_summary(run).get("test") if run else None
    if not isinstance(tested, Mapping) or tested.get("checkpoint") != f"checkpoints/{model.name}":
        return dict(card)
    if not isinstance(tested.get("metrics"), Mapping) or tested.get("step") != card.get("step"):
        return dict(card)
    known = [row for row in card.get("results") or [] if not str(row.get("split", "")).startswith("test")]
    metrics = {name: value for name, value in tested["metrics"].items() if isinstance(value, (int, float))}
    protocol = "; ".join(filter(None, (str(tested.get("protocol", "")), tested.get("interval_method"))))
    rows = result_rows(metrics, protocol, intervals=tested.get("intervals"))
    return {**card, "results": [*known, *rows]}
