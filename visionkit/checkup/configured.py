"""The data, and the network, that a command line of `fit` names: built to be examined, not to be trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jsonargparse import Namespace

from visionkit.arguments import check_arguments
from visionkit.checkup.network import NetworkFacts
from visionkit.cli import VisionCLI, set_up_parser
from visionkit.cli_errors import parser_errors
from visionkit.construction import WithoutInit
from visionkit.data import VisionDataModule
from visionkit.errors import UsageError
from visionkit.linking import has_argument
from visionkit.option_order import in_order


class Configured(NamedTuple):
    """What a configuration names.

    Attributes:
        data: The data.
        network: What of the network depends on data; None where no model is named.
    """

    data: VisionDataModule
    network: NetworkFacts | None


def open_configured(arguments: Sequence[str], augmented: bool = False) -> Configured:
    """Builds the data of a training and, where a model is named, its network without weights.

    Args:
        arguments: As `visionkit fit` takes them: `-c FILE`, `--data READER`, `--data.root DIR`, `--model ...`.

        augmented: The data keeps the augmentation of its training samples.

    Raises:
        UsageError: Options that `fit` would refuse too.
    """
    set_up_parser()
    command = AugmentedDataCommand if augmented else DataCommand
    with parser_errors():
        built = command("fit", in_order(check_arguments("fit", arguments)))
    return Configured(built.datamodule, built.network)


class DataCommand(VisionCLI):
    """A command line of `fit` of which the data and the network are built, and nothing is run."""

    network: NetworkFacts | None = None
    keeps_augment = False

    def _prepare_subcommand_parser(self, *given: Any, **more: Any) -> Any:
        parser = super()._prepare_subcommand_parser(*given, **more)
        for action in parser._actions:
            action.required &= action.dest != "model"  # the data alone can be examined
        parser._extra_required_keys.discard("model")
        return parser

    def before_instantiate_classes(self) -> None:
        settings = self.settings
        if settings.get("data") is None:
            raise UsageError("--data is missing: name a reader, or give the folder of the data alone")
        settings.trainer.max_epochs = settings.trainer.get("max_epochs") or 1  # nothing is trained
        if settings.get("model") is not None:
            super().before_instantiate_classes()

    def _prepare_run(self) -> None:
        """No folder is made."""

    def instantiate_classes(self) -> None:
        settings = self.settings
        parser = self._parser(self._verb)
        data: Any = settings.data
        # Nothing is trained, and what is read once is not kept.
        if not self.keeps_augment:
            data.init_args.pop("augment", None)
        kind = _imported(data.class_path)
        if has_argument(kind, "cache_mb"):
            data.init_args["cache_mb"] = 0
        self.datamodule = parser.instantiate_classes(Namespace(data=data)).data
        model: Any = settings.get("model")
        if model is None:
            return
        if has_argument(_imported(model.class_path), "pretrained"):
            model.init_args["pretrained"] = False
        with WithoutInit():
            self.network = NetworkFacts.of(parser.instantiate_classes(Namespace(model=model)).model)

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""


class AugmentedDataCommand(DataCommand):
    """The same, for data that is to be seen as training shows it."""

    keeps_augment = True


def _imported(path: str) -> type:
    import importlib

    module, _, name = path.rpartition(".")
    kind: type = getattr(importlib.import_module(module), name)
    return kind
