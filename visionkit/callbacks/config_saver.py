"""The configuration of a run, beside its results and in its tracker."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning import Callback, LightningModule, Trainer

from visionkit.atomic import atomic_file
from visionkit.configurations import dump
from visionkit.runs import CHECKPOINTS, CONFIG

_LOADING = {"batch_size", "cache_mb", "eval_batch_size", "num_workers", "pin_memory"}
"""Options of the data that do not change which images there are; what a change of the first one does is printed."""


class ConfigSaver(Callback):
    """Writes `config.yaml` into the run's folder and logs the configuration once as hyperparameters.

    It is written when training begins: the data was opened then. A file of a run with checkpoints is never overwritten:
    a resumed run with another configuration writes `config-2.yaml` and so on, and a line states which options of the
    data are others. What a failed try left without a checkpoint is replaced.

    Args:
        folder: Folder of the run.
        config: The configuration in plain types.
    """

    def __init__(self, folder: str | Path, config: Mapping[str, Any]) -> None:
        self.folder, self.config = Path(folder), without_marks(config)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        arguments = self.config.get("model", {}).get("init_args", {})
        if arguments.get("pretrained") == "auto":  # what it meant here, so that the run is the same elsewhere
            arguments["pretrained"] = pl_module.config["pretrained"]  # type: ignore[index]
        if stage == "fit" and trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_hyperparams(self.config)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        text = dump(self.config)
        path, number = self.folder / CONFIG, 2
        if any((self.folder / CHECKPOINTS).glob("*.ckpt")):
            while path.exists() and path.read_text(encoding="utf-8") != text:
                path, number = path.with_name(f"{Path(CONFIG).stem}-{number}.yaml"), number + 1
            if path.exists():
                return
            if number > 2:
                self._report_other_data()
        else:
            for stale in self.folder.glob(f"{Path(CONFIG).stem}-*.yaml"):
                stale.unlink()
        with atomic_file(path) as file:
            file.write(text.encode("utf-8"))

    def _report_other_data(self) -> None:
        """Prints the options of the data that differ from those that the run began with."""
        try:
            began = yaml.safe_load((self.folder / CONFIG).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError):
            return
        if not isinstance(began, Mapping):
            return
        before, now = (dict(_options(each.get("data"))) for each in (began, yaml.safe_load(dump(self.config))))
        changed = [
            f"{key} {now.get(key, 'left out')} ({before.get(key, 'left out')} before)"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and key.rpartition(".")[2] not in _LOADING
        ]
        if changed:
            print(
                f"{self.folder}: resumed with other data than it began with: {', '.join(changed)}; its steps, its best "
                "score and the images seen are those of the data before. Another --run keeps both apart",
                file=sys.stderr,
            )


def _options(value: Any, name: str = "data") -> Iterator[tuple[str, Any]]:
    """Every option in a configuration with its full name, as the command line has it."""
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, each in value.items():
        yield from _options(each, name if key == "init_args" else f"{name}.{key}")


def without_marks(value: Any) -> Any:
    """The same configuration without the keys that the command line's parser adds for itself (`_instantiator`)."""
    if isinstance(value, Mapping):
        return {str(key): without_marks(item) for key, item in value.items() if not str(key).startswith("_")}
    if isinstance(value, (list, tuple)):
        return [without_marks(item) for item in value]
    return value
