"""`fit`, `validate` and `test`: Lightning's command line with links, checkpoints as defaults and errors for people.

Mechanism only: it knows the two base classes. Short class names resolve once `tasks` and `datamodules` are imported,
which is the business of `ui.cli`.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, Namespace, get_loader, set_loader, set_parsing_settings
from lightning import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from visionkit.architecture_options import settle
from visionkit.arguments import MEASURING, NOTHING, RUN_OPTIONS, check_arguments, check_run_options, option
from visionkit.callbacks import ByImage, RunReport
from visionkit.checkpoint import StoredModel, read_checkpoint, read_model
from visionkit.cli_errors import explain, parser_errors, subclasses
from visionkit.configurations import quote_names
from visionkit.data import VisionDataModule
from visionkit.devices import started_devices
from visionkit.errors import UsageError
from visionkit.linking import LINKS, has_argument, link
from visionkit.log_filters import hush_lightning
from visionkit.measured import as_defaults, check_typed, differences, early_arguments
from visionkit.model_help import model_help
from visionkit.model_layers import stated_fields
from visionkit.option_order import in_order
from visionkit.parsed import imported, init_args, plain_namespace
from visionkit.plain_values import without_none
from visionkit.registry import task_class, task_names, task_packages
from visionkit.renamed import renamed_run
from visionkit.report import print_results, write_results
from visionkit.run_report import summary
from visionkit.runs import run_folder
from visionkit.task import VisionTask
from visionkit.trainer_options import check_trainer
from visionkit.training import TRAINER_DEFAULTS, RunSettings, prepare, resolve_checkpoint, train, trainer_options
from visionkit.uncertainty.resampling import check_replicates

VERBS = ("fit", "validate", "test")


def run_training(verb: str, argv: Sequence[str]) -> int:
    """Runs one of the training verbs.

    Args:
        verb: `fit`, `validate` or `test`.
        argv: What follows the verb on the command line.

    Returns:
        The exit status; expected failures are raised as `VisionKitError`.
    """
    _run(verb, argv)
    return 0


def measure(verb: str, argv: Sequence[str], watching: Sequence[Callback]) -> VisionCLI:
    """Measures a stored model for a caller that takes what it needs by callbacks; prints and writes no results.

    Args:
        verb: `validate` or `test`.
        argv: What would follow the verb on the command line.
        watching: Callbacks of the trainer.

    Returns:
        The command line, with `model`, `datamodule` and `results`.
    """
    done = _run(verb, argv, watching)
    assert done is not None
    return done


def _run(verb: str, argv: Sequence[str], watching: Sequence[Callback] = ()) -> VisionCLI | None:
    arguments = in_order(check_arguments(verb, argv))
    if (page := model_help(arguments)) is not None:
        print(page)
        return None
    checkpoint = option(arguments, "--ckpt_path")
    stored = None
    if verb != "fit" and checkpoint is not None:
        stored = read_model(checkpoint)
        arguments, defaults = early_arguments(arguments, as_defaults(stored.task, stored.config)), []
    elif checkpoint not in (None, "last", "best"):
        header = read_checkpoint(checkpoint)["visionkit"]
        defaults = as_defaults(header["task"], header["config"])
    elif verb == "fit" and (source := option(arguments, "--init_from")) not in NOTHING:
        begun = read_model(str(source))
        # What the new data states: it may have other classes, or more people.
        kept = {key: value for key, value in begun.config.items() if key not in ("classes", "identities")}
        defaults = as_defaults(begun.task, kept)
    else:
        defaults = []
    set_up_parser()
    with parser_errors():
        return VisionCLI(verb, [*defaults, *arguments], stored, shlex.join(["visionkit", verb, *argv]), watching)


def set_up_parser() -> None:
    """What the parser of a command line needs: which packages it may import, and our reader of yaml."""
    _allow_imports()
    set_loader("yaml", _load, exceptions=(yaml.YAMLError,))
    hush_lightning()


class VisionCLI(LightningCLI):
    """LightningCLI for one verb.

    Args:
        verb: `fit`, `validate` or `test`; only its parser is built.
        args: The arguments after the verb.
        stored: The model that is measured, for `validate` and `test`.
        command: The command line as it was typed, for the model card.
        watching: Callbacks of a caller that takes what it needs from a measurement; nothing is printed or written then.
    """

    results: dict[str, float]  # what was measured, by name
    config: Namespace
    model: VisionTask
    datamodule: VisionDataModule

    def __init__(
        self,
        verb: str,
        args: Sequence[str],
        stored: StoredModel | None = None,
        command: str = "",
        watching: Sequence[Callback] = (),
    ) -> None:
        self._verb, self._stored, self._command, self._watching = verb, stored, command, watching
        self._by_image: ByImage | None = None
        self._reported: Path | None = None
        super().__init__(
            VisionTask,
            VisionDataModule,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults=dict(TRAINER_DEFAULTS),
            parser_kwargs={"exit_on_error": False, verb: {"exit_on_error": False}},
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=[verb, *args],
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only the verb that was given: each parser takes seconds to build."""
        return {self._verb: LightningCLI.subcommands()[self._verb] | {"verbose"}}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Without Lightning's warning that arguments were handed over: they always are."""
        self._args = args
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            options = self._subcommand_parsers[self._verb]._option_string_actions
            raise UsageError(explain(str(error), self._verb, options)) from None
        check_run_options(vars(self.settings))

    def _parse_ckpt_path(self) -> None:
        """The checkpoint's configuration came in as defaults already, beneath yaml and flags."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The options that are ours.

        The measuring verbs take those of `fit` too, so that a run's config.yaml serves them.
        """
        for each in (*RUN_OPTIONS, *(MEASURING if self._verb != "fit" else ())):
            # `null` takes back what the configuration of a run states.
            kind: Any = each.type | None if each.default is None else each.type
            parser.add_argument(f"--{each.name}", type=kind, default=each.default, help=each.help)

    # ------------------------------------------------------------------ between parsing and building

    @property
    def settings(self) -> Namespace:
        """The verb's own part of the configuration."""
        settings: Namespace = self.config[self._verb]
        return settings

    def before_instantiate_classes(self) -> None:
        settings = self.settings
        for side in ("model", "data"):
            if settings.get(side) is None:
                folder = "task" if side == "model" else "data"
                raise UsageError(f"--{side} is missing: name a class, e.g. with -c configs/{folder}/...")
        model, data = settings.model, settings.data
        task, module = imported(model.class_path), imported(data.class_path)
        model_args, data_args = init_args(model), init_args(data)
        settle(task, model_args, self._args[1:])
        sides = plain_namespace(model_args), plain_namespace(data_args)
        if self._stored is not None:
            check_typed(self._args[1:], sides[0], self._stored)
        if sides[0].get("input"):  # the parser fills its other fields up, whatever the task takes
            stated = stated_fields(self._args[1:], "input")
            sides[0]["input"] = {key: value for key, value in sides[0]["input"].items() if key in stated}
        linked = link(*sides, task, module, learning=self._verb == "fit")
        self._linked = set(linked)
        for name, value in linked.items():
            for side, arguments in ((task, model_args), (module, data_args)):
                if has_argument(side, name):
                    # These two are free-form; the others are fields of a dataclass.
                    free = not isinstance(value, dict) or name in ("skeleton", "vocabulary")
                    arguments[name] = value if free else Namespace(value)
        if data_args.get("seed", 0) is None:
            data_args["seed"] = int(settings.seed_everything)
        self._task_name = task.name
        learning = self._verb == "fit" and not settings.find_lr
        check_trainer(settings.trainer, learning, timed=settings.max_time is not None)
        if self._verb == "fit":
            self._prepare_run()
        else:
            # A configured tracker goes on with the run that it knows; without one nothing is written.
            settings.trainer.logger = settings.trainer.get("logger") or False
            settings.trainer.enable_checkpointing = False
        if settings.run:
            settings.trainer.default_root_dir = settings.run
            self._place_loggers(settings.run)

    def _prepare_run(self) -> None:
        settings = self.settings
        wanted = settings.get("ckpt_path")
        if wanted in ("last", "best") and not settings.run:
            raise UsageError(f"--ckpt_path {wanted}: name the run to go on with, --run DIR")
        self.run_folder = run_folder(settings.run, self._task_name, bool(wanted))
        settings.run = str(self.run_folder)
        if wanted:
            found = resolve_checkpoint(wanted, self.run_folder)
            settings.ckpt_path = str(found) if found else None

    def _place_loggers(self, folder: str) -> None:
        """Loggers write into the run's folder unless their configuration states where."""
        logger = self.settings.trainer.get("logger")
        for each in logger if isinstance(logger, list) else [logger]:
            if (
                isinstance(each, Namespace)
                and "init_args" in each
                and each.init_args.get("save_dir", "") in (None, ".", "")
            ):
                each.init_args["save_dir"] = folder

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        settings = self.settings
        if self._verb == "fit":
            kwargs |= self._fit_options()
        kwargs |= started_devices(settings.trainer)
        trainer = super().instantiate_trainer(**kwargs)
        prepare(trainer, settings.rank_timeout, settings.get("ckpt_path") if self._verb == "fit" else None)
        source = self._stored.source if self._stored is not None else ""
        folder = summary.run_of(Path(source)) or settings.run
        if self._verb != "fit" and settings.bootstrap:
            check_replicates(settings.bootstrap)
            self._by_image = ByImage()
            trainer.callbacks.append(self._by_image)  # type: ignore[attr-defined]
        trainer.callbacks.extend(self._watching)  # type: ignore[attr-defined]
        if self._verb != "fit" and settings.report and folder and not self._watching:
            report = RunReport(folder, weights=summary.within(Path(folder), source))
            self._reported = Path(folder)
            trainer.callbacks.insert(0, report)  # type: ignore[attr-defined]
        return trainer

    def _fit_options(self) -> dict[str, Any]:
        """What the trainer of a training gets beside its configuration."""
        settings = self.settings
        self.run_settings = RunSettings(
            self.run_folder,
            settings.ema,
            settings.checkpoint_every,
            settings.stop_after_nonfinite,
            settings.report,
            settings.rank_timeout,
            self._command,
            settings.hang_timeout,
            settings.early_stopping,
            settings.max_time,
            settings.find_lr,
            settings.auto_batch_size,
        )
        given = {**settings.trainer.as_dict(), "plugins": self._get(self.config_init, "trainer").get("plugins")}
        options = trainer_options(self.model, self.run_settings, given, self.portable_config())
        self.trainer_defaults["callbacks"] = options.pop("callbacks")
        return options

    def portable_config(self) -> dict[str, Any]:
        """The configuration that reproduces the run.

        What is linked is left out, so a flag can still change the leading side.
        """
        # As json: what the parser writes as yaml, other readers of yaml read differently.
        text = self._parser(self._verb).dump(self.settings, format="json", skip_validation=True)
        dumped = without_none(json.loads(text))
        for key in ("config", "ckpt_path"):
            dumped.pop(key, None)
        for each in LINKS:
            if each.argument in self._linked:
                dumped[each.target].get("init_args", {}).pop(each.argument, None)
        return dict(dumped)

    # ------------------------------------------------------------------ the verbs

    def fit(self, model: VisionTask, datamodule: VisionDataModule, ckpt_path: Any = None, **kwargs: Any) -> None:
        """Trains, and states where the result lies."""
        found = Path(ckpt_path) if ckpt_path else None
        source = self.settings.init_from
        run = train(self.trainer, model, datamodule, self.run_settings, found, source, prepared=True, **kwargs)
        if self.trainer.is_global_zero and not self.run_settings.find_lr:
            there = [f"{name}: {path}" for name, path in (("best", run.best), ("last", run.last)) if path]
            print(f"run:  {self.run_folder}\n{there[0] if there else 'no checkpoint was saved'}")
            if there:
                print(f"next: {self._next_step(there[0].partition(': ')[2])}")

    def _next_step(self, checkpoint: str) -> str:
        """A command that works: with the splits that the data has."""
        run = shlex.quote(str(self.run_folder))
        if self.datamodule.has_test:
            return f"visionkit test --ckpt_path {run}"
        if self.trainer.enable_validation:
            return f"visionkit validate --ckpt_path {run} (the data has no test split)"
        return f"visionkit predict {shlex.quote(checkpoint)} IMAGES (the data has no test split)"

    def validate(self, **kwargs: Any) -> None:
        """Measures on the validation split."""
        self._measure(self.trainer.validate, **kwargs)

    def test(self, **kwargs: Any) -> None:
        """Measures on the test split."""
        self._measure(self.trainer.test, **kwargs)

    def _measure(self, run: Any, model: VisionTask, ckpt_path: Any = None, **kwargs: Any) -> None:
        if self._stored is None and ckpt_path:
            raise UsageError(f"ckpt_path {ckpt_path}: stands in a yaml; give it on the command line, --ckpt_path MODEL")
        if self._stored is None and not model.config.get("pretrained"):
            raise UsageError("no trained weights to evaluate; pass --ckpt_path MODEL")
        if self._stored is not None:
            for line in differences(model.config, self._stored.config):
                print(line, file=sys.stderr)
            self._stored.load_into(model)
            model.card = dict(self._stored.card)
        self.results = results = run(model, ckpt_path=None, verbose=False, **kwargs)[0]
        if self.trainer.is_global_zero and not self._watching:
            split, intervals = ("test" if self._verb == "test" else "val"), None
            if self._by_image is not None:
                number, seed = self.settings.bootstrap, int(self.settings.seed_everything)
                intervals = self._by_image.record.intervals(results, split, number, seed)
                if self._reported is not None:
                    summary.add_intervals(self._reported, split, intervals)
            limit = getattr(self.trainer, "limit_test_batches" if self._verb == "test" else "limit_val_batches")
            whole = isinstance(limit, float) and limit == 1.0  # the integer 1 is one batch
            part = None if whole else f"measured on a part of the split: trainer's limit of batches is {limit}"
            print_results(model, results, part, intervals)
            if self.settings.results:
                write_results(Path(self.settings.results), model, results, part, intervals)


_load_yaml = get_loader("yaml")


def _load(text: str) -> Any:
    """The parser's own reader of yaml: class names as the text that they are, and what a run wrote in today's names."""
    loaded = _load_yaml(quote_names(text))
    if isinstance(loaded, dict) and loaded.get("run") and isinstance(loaded.get("model"), dict):
        short = str(loaded["model"].get("class_path")).rpartition(".")[2]
        for name in (each.name for each in subclasses(VisionTask) if each.__name__ == short):
            renamed_run(loaded, name)
    return loaded


def _allow_imports() -> None:
    """A yaml's `class_path` may name classes of these packages and of the packages that bring tasks, nothing else."""
    packages = {"visionkit", "tasks", "datamodules", "lightning", "torch", *task_packages()}
    for kinds in (getattr(task_class(name), "architectures", {}) for name in task_names()):
        packages |= {kind.__module__.partition(".")[0] for kind in kinds.values()}
    packages |= set(filter(None, os.environ.get("VISIONKIT_ALLOW_IMPORTS", "").split(",")))
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=sorted(packages))
