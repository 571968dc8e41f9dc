"""The configuration of a run, beside its results and in its tracker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning import Callback, LightningModule, Trainer

from visionkit.atomic import atomic_file


class ConfigSaver(Callback):
    """Writes `config.yaml` into the run's folder and logs the configuration once as hyperparameters.

    A file that is there is never overwritten: a resumed run with another configuration writes `config-2.yaml` and so
    on.

    Args:
        folder: Of the run.
        config: The configuration in plain types.
    """

    def __init__(self, folder: str | Path, config: Mapping[str, Any]) -> None:
        self.folder, self.config = Path(folder), without_marks(config)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit" or not trainer.is_global_zero:
            return
        text = yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True)
        path, number = self.folder / "config.yaml", 2
        while path.exists() and path.read_text(encoding="utf-8") != text:
            path, number = self.folder / f"config-{number}.yaml", number + 1
        if not path.exists():
            with atomic_file(path) as file:
                file.write(text.encode("utf-8"))
        for logger in trainer.loggers:
            logger.log_hyperparams(self.config)


def without_marks(value: Any) -> Any:
    """The same configuration without the keys that the command line's parser adds for itself (`_instantiator`)."""
    if isinstance(value, Mapping):
        return {str(key): without_marks(item) for key, item in value.items() if not str(key).startswith("_")}
    if isinstance(value, (list, tuple)):
        return [without_marks(item) for item in value]
    return value
