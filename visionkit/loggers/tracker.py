"""The logger for Weights & Biases: wandb is imported in this folder alone, and only when a run begins.

All that a run leaves lies in its own folder, `runs/<name>/wandb`, unless `WANDB_DIR` names another.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger
from torch import nn

from visionkit.errors import EnvironmentFault, Terminated
from visionkit.loggers.artifacts import log_checkpoints
from visionkit.loggers.content import LoggedImage, Rows, readable_config, square
from visionkit.loggers.overlays import overlaid
from visionkit.loggers.state import exit_code, read_state, staging, write_state
from visionkit.plain_values import plain
from visionkit.reachable import probe
from visionkit.runs import make_folder
from visionkit.task import VisionTask

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Checkpoint

log = logging.getLogger(__name__)

STEP = "trainer/global_step"
"""The x-axis of every curve."""


class WandbTracker(WandbLogger):
    """Tracks a run in W&B; goes offline by itself where no server responds.

    `WANDB_MODE`, `WANDB_DIR`, `WANDB_PROJECT`, `WANDB_ENTITY`, `WANDB_BASE_URL` and `WANDB_RUN_ID` are respected. A run
    that goes on in the same folder, or from a checkpoint (see `continue_from`), continues the same curve.

    Args:
        name: What W&B shows; `WANDB_NAME` or the name of the run's folder by default.
        project: `WANDB_PROJECT` or "visionkit" by default.
        save_dir: The run's folder. The command line fills it in; from Python it is `runs/<name>` by default.
        id: ID of a W&B run to go on with; mostly found by itself.
        offline: Never ask a server; `WANDB_MODE=offline` does the same.
        log_model: Keep the best and the last checkpoint as artifacts with a model card once training has ended well.
        entity: Account or team.
        group: Groups runs in W&B.
        tags: Tags of the run.
        notes: Notes of the run.

    Example:
        >>> tracker = WandbTracker(name="flowers", offline=True)
        >>> Trainer(logger=tracker).fit(task, data)
        >>> tracker.finish()
    """

    def __init__(
        self,
        name: str | None = None,
        project: str | None = None,
        save_dir: str | None = None,
        id: str | None = None,
        offline: bool = False,
        log_model: bool = True,
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] | None = None,
        notes: str | None = None,
    ) -> None:
        _silence_advertising()
        given: dict[str, Any] = {"entity": entity, "group": group, "tags": list(tags) if tags else None, "notes": notes}
        super().__init__(
            name=name,
            project=project or os.environ.get("WANDB_PROJECT") or "visionkit",
            save_dir=save_dir,  # type: ignore[arg-type]  # None is handled, the folder is chosen later
            id=id,
            offline=offline,
            log_model=False,  # Lightning's upload knows no model card and refuses offline runs
            **{key: value for key, value in given.items() if value is not None},
        )
        self._keep_model = log_model
        self._mode = ""
        self._config: dict[str, Any] = {}
        self._task: weakref.ref[VisionTask] | None = None
        self._kept: dict[str, Any] = {}
        self._continued: str | None = None
        self._next_row: int | None = None

    # ------------------------------------------------------------------ where and who

    @property
    def folder(self) -> Path:
        """The run's folder."""
        if not self._save_dir:
            given = str(Path("runs") / self._name) if self._name else None
            self._save_dir = str(make_folder(given, "run"))
        return Path(self._save_dir)

    @property
    def save_dir(self) -> str:
        """The run's folder, which Lightning asks for."""
        return str(self.folder)

    @property
    def records(self) -> Path:
        """The folder in which W&B makes its own, `wandb`: that of the run, or `WANDB_DIR`."""
        return Path(os.environ.get("WANDB_DIR") or self.folder).absolute()

    @property
    def version(self) -> str | None:
        """The id of the W&B run: the same one after a resume."""
        return self._experiment.id if self._experiment is not None else self._id

    @property
    def is_offline(self) -> bool:
        """Whether the run is written to disk alone; known once it has begun."""
        return self._mode == "offline"

    def continue_run(self, run_id: str) -> None:
        """Goes on with this W&B run unless the folder or the user names another one; before training begins."""
        self._continued = run_id

    def _choose_id(self) -> tuple[str | None, int | None]:
        """The id to take (None: a new one) and, for a run of this folder, the number of its last row."""
        state = read_state(self.folder)
        wanted = self._id or os.environ.get("WANDB_RUN_ID") or state.get("id") or self._continued
        row = state.get("row") if wanted is not None and wanted == state.get("id") else None
        return wanted, row

    # ------------------------------------------------------------------ the run

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The `wandb.Run`, begun when it is first asked for and only in the first process."""
        if self._experiment is None:
            self._experiment = self._begin()
        return self._experiment

    def _begin(self) -> Any:
        mode = "offline" if self._offline else os.environ.get("WANDB_MODE", "online")
        mode = {"dryrun": "offline"}.get(mode, mode)
        if mode != "online":
            # Crash reports of wandb itself go to another server, whatever the mode is.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        if (attach := getattr(self, "_attach_id", None)) is not None:
            # a spawned process goes on with the run of its parent
            return wandb._attach(attach)  # type: ignore[attr-defined]
        if wandb.run is not None:
            return wandb.run  # begun by the user's own script: ours are never the global one
        reason = ""
        if mode == "online":
            url = str(wandb.setup().settings.base_url)
            if reason := probe(url) or "":
                mode, reason = "offline", f"{url} does not respond ({reason})"
        try:
            run = self._init(mode)
        except wandb.errors.Error as error:
            if mode != "online":
                raise
            mode, reason = "offline", str(error).strip().splitlines()[0]
            run = self._init(mode)
        self._mode = mode
        if reason:
            log.warning("W&B: %s; this run is tracked offline, send it later with: %s", reason, self.sync_command(run))
        elif mode == "offline":
            log.info("W&B: tracked offline, send it later with: %s", self.sync_command(run))
        return run

    def _init(self, mode: str) -> Any:
        import wandb

        folder, records = self.folder, self.records
        for each in (folder, records):
            try:
                each.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise EnvironmentFault(f"{each}: W&B cannot write there ({error.strerror})") from error
        run_id, row = self._choose_id()
        arguments = {key: value for key, value in self._wandb_init.items() if key != "anonymous"}
        arguments |= {
            "id": run_id,
            "dir": str(records),
            "name": self._name or os.environ.get("WANDB_NAME") or folder.absolute().name,
        }
        talks = mode == "online"
        settings = wandb.Settings(init_timeout=20, silent=not talks)  # its lines offline are ours, in one
        # Several trackers may live in one process, one after the other or side by side.
        arguments |= {"mode": mode, "reinit": "create_new", "settings": settings}
        run = wandb.init(**arguments)
        if mode == "offline" and row is not None:
            self._next_row = row + 1  # online the server knows where the run stopped
        if mode != "disabled":
            write_state(folder, {"id": run.id, "row": row})
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        return run

    def sync_command(self, run: Any = None) -> str:
        """The command that sends this run, and what earlier parts of it were not sent yet, to the server."""
        run = run or self.experiment
        parts = sorted((self.records / "wandb").glob(f"offline-run-*-{run.id}"))
        unsent = [part for part in parts if not any(part.glob("*.wandb.synced"))]
        return shlex.join(["wandb", "sync", *(str(part) for part in unsent)])

    def __getstate__(self) -> dict[str, Any]:
        """For processes that are spawned: the run is begun here, the first of them attaches to it."""
        run = self.experiment
        state = {**self.__dict__, "_experiment": None, "_task": None}
        if self._experiment is not None:
            state |= {"_id": run.id, "_attach_id": run._attach_id}
        return state

    # ------------------------------------------------------------------ what is logged

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Writes the configuration, each value once, without what only the parser needs."""
        config = readable_config(plain(dict(params) if isinstance(params, Mapping) else vars(params)))
        self._log_config(config)

    def _log_config(self, config: Mapping[str, Any]) -> None:
        new = {key: value for key, value in config.items() if self._config.get(key, _MISSING) != value}
        if new:
            self._config.update(new)
            self.experiment.config.update(new, allow_val_change=True)

    @rank_zero_only
    def log_graph(self, model: nn.Module, *args: Any) -> None:
        """Lightning's moment to show a logger the model: task and protocol become part of the run."""
        if not isinstance(model, VisionTask):
            return
        self._task = weakref.ref(model)
        config: dict[str, Any] = {"task": model.name, "protocol": model.protocol}
        if "model" not in self._config:  # used from Python, where nobody logs the configuration
            config["model"] = readable_config({"class": type(model).__name__, **model.config})
        self._log_config(config)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Adds a row of scalars, images or tables at an optimizer step."""
        run = self.experiment
        row = dict(metrics) if step is None else {**metrics, STEP: step}
        with staging(self.records):
            if self._next_row is None:
                run.log(row)
            else:
                run.log(row, step=self._next_row)
                self._next_row = None
        if self._mode == "offline":
            write_state(self.folder, {"id": run.id, "row": run.step})

    @rank_zero_only
    def log_tables(self, tables: Mapping[str, Rows], split: str, step: int | None = None) -> None:
        """Logs a task's tables; a square table of counts becomes a confusion matrix chart.

        Args:
            tables: Rows by title, as `VisionTask.tables` gives them.
            split: "val" or "test".
            step: The optimizer step.
        """
        import wandb

        values: dict[str, Any] = {}
        for title, rows in tables.items():
            if not rows:
                continue
            values[f"{split}/{title}"] = _table(list(rows[0]), [list(row.values()) for row in rows])
            if (cells := square(rows)) is not None:
                fields = ["Actual", "Predicted", "nPredictions"]
                values[f"{split}/{title} chart"] = wandb.plot_table(
                    vega_spec_name="wandb/confusion_matrix/v1",
                    data_table=_table(fields, cells),
                    fields={name: name for name in fields},
                    string_fields={"title": title},
                )
        if values:
            self.log_metrics(values, step)

    @rank_zero_only
    def log_images(self, key: str, image_list: Sequence[LoggedImage], step: int | None = None) -> None:
        """Logs drawn images with captions, and a table of the same images with what is known and stated about each.

        Where predictions have layers, `<key> overlays` shows the bare images under W&B's own boxes and masks.

        Args:
            key: Name of the panel; the table is `<key> table`.
            image_list: Always of the same samples, so that a curve of images results.
            step: The optimizer step.
        """
        import wandb

        facts = list(dict.fromkeys(name for image in image_list for name in image.row))
        rows = [
            [each.id, wandb.Image(each.plain), wandb.Image(each.drawn), *(each.row.get(name) for name in facts)]
            for each in image_list
        ]
        images = [wandb.Image(each.drawn, caption=each.caption) for each in image_list]
        values = {key: images, f"{key} table": _table(["sample", "image", "drawn", *facts], rows)}
        if any(image.layers for image in image_list):
            values[f"{key} overlays"] = [overlaid(image) for image in image_list]
        self.log_metrics(values, step)

    # ------------------------------------------------------------------ the end

    def after_save_checkpoint(self, checkpoint_callback: Checkpoint) -> None:
        """Remembers which checkpoints are the best and the last."""
        names = ("best_model_path", "best_model_score", "last_model_path", "monitor")
        self._kept = {name: getattr(checkpoint_callback, name, None) for name in names}
        score = self._kept["best_model_score"]
        if score is not None and getattr(rank_zero_only, "rank", 0) == 0:
            # W&B's own "max" would nest the value and hide the plain one from sweeps.
            self.experiment.summary[f"best/{self._kept['monitor']}"] = float(score)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Ends a part of the run: on success its checkpoints become artifacts, on failure the run is marked as failed.

        A successful run stays open, so that `test` may follow; it is closed by `finish` or when the process ends.
        """
        if self._experiment is None:
            return
        if status == "success":
            if self._keep_model:
                kept, self._kept = self._kept, {}
                task = self._task() if self._task is not None else None
                log_checkpoints(self.experiment, kept, self.records, task, self._config)
            return
        code = exit_code(sys.exc_info()[1])
        if code == Terminated.status:
            self.experiment.mark_preempting()  # W&B then shows "preempted": saved, and meant to go on
        self.finish(code)

    @rank_zero_only
    def finish(self, code: int = 0) -> None:
        """Closes the run.

        Args:
            code: Exit status; anything but 0 marks the run as failed.
        """
        run, self._experiment = self._experiment, None
        if run is not None:
            run.finish(exit_code=code)
            self._id = run.id


_MISSING = object()


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    import wandb

    return wandb.Table(columns=[*columns], data=[list(row) for row in rows])


def _silence_advertising() -> None:
    """Lightning recommends another tracker whenever a trainer is built."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_tip)


def _no_tip(record: logging.LogRecord) -> bool:
    return "litlogger" not in record.getMessage()
