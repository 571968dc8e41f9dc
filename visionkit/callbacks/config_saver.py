"""The configuration of a run, beside its results and in its tracker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from visionkit.atomic import atomic_file
from visionkit.configurations import dump
from visionkit.runs import CHECKPOINTS, CONFIG


class ConfigSaver(Callback):
    """Writes `config.yaml` into the run's folder and logs the configuration once as hyperparameters.

    It is written when training begins: the data was opened then. A file of a run with checkpoints is never overwritten:
    a resumed run with another configuration writes `config-2.yaml` and so on. What a failed try left without a
    checkpoint is replaced.

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
        else:
            for stale in self.folder.glob(f"{Path(CONFIG).stem}-*.yaml"):
                stale.unlink()
        with atomic_file(path) as file:
            file.write(text.encode("utf-8"))


def without_marks(value: Any) -> Any:
    """The same configuration without the keys that the command line's parser adds for itself (`_instantiator`)."""
    if isinstance(value, Mapping):
        return {str(key): without_marks(item) for key, item in value.items() if not str(key).startswith("_")}
    if isinstance(value, (list, tuple)):
        return [without_marks(item) for item in value]
    return value
