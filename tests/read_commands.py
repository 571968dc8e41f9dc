"""Commands of a page, read by the real command line and not run: options, choices, configurations and their keys.

A training is parsed up to where its data and its network would be built. What a page trains is known by its folder to
the commands behind it, so that `visionkit test --ckpt_path runs/photos` is parsed with the arguments of that training.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tests.documented import Block
from tests.own_package import write
from tests.real_data import ROOT
from ui.cli import build_parser
from ui.commands.training import VERBS, import_classes
from ui.data_options import first_argument
from visionkit.arguments import check_arguments, given, option
from visionkit.checkpoint import read_model
from visionkit.cli import VisionCLI, set_up_parser
from visionkit.cli_errors import parser_errors
from visionkit.configurations import files
from visionkit.errors import UsageError
from visionkit.measured import as_defaults, early_arguments
from visionkit.model_files import public_name
from visionkit.option_order import in_order

CONFIGURATION = {"model", "data", "trainer", "ema"}
"""The keys that a block of yaml has at its top where it is a configuration; others are files of another type."""

SHIPPED = ("ui", "configs", "docs", "benchmarks", "tests", "visionkit", "datamodules", "tasks")
"""Folders of the repository: what a command names in them has to be there."""

_KEPT = ("runs", "models")
"""Folders of many runs or models, of which a command names one."""

_WRITTEN = ("--out", "--run", "--results", "--json", "--html", "--push")
"""Options that name what a command makes."""

_ENDS = re.compile(r"^(&&|\|\|?|;|>>?|<|&)$")


class _Read(VisionCLI):
    """A command line that is parsed; nothing is built. The parser of a verb is made once."""

    made: ClassVar[dict[str, tuple[Any, ...]]] = {}

    def setup_parser(self, *arguments: Any, **more: Any) -> None:
        if self._verb not in self.made:
            super().setup_parser(*arguments, **more)
            self.made[self._verb] = (self.parser, self._subcommand_parsers, self._subcommand_method_arguments)
        self.parser, self._subcommand_parsers, self._subcommand_method_arguments = self.made[self._verb]

    def _prepare_subcommand_parser(self, *arguments: Any, **more: Any) -> Any:
        parser = super()._prepare_subcommand_parser(*arguments, **more)
        for action in parser._actions:
            action.required &= action.dest not in ("model", "data")  # a configuration may be a part of one
        parser._extra_required_keys -= {"model", "data"}
        return parser

    def before_instantiate_classes(self) -> None:
        from visionkit.architecture_options import settle
        from visionkit.parsed import imported, init_args

        if (model := self.settings.model) is not None:
            settle(imported(model.class_path), init_args(model), self._args[1:])
        if (data := self.settings.data) is not None:
            imported(data.class_path)

    def _set_seed(self) -> None:
        """Nothing is drawn."""

    def instantiate_classes(self) -> None:
        """Nothing is built."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""


def parse_training(verb: str, arguments: Sequence[str]) -> VisionCLI:
    """Parses the arguments of `fit`, `validate` or `test`.

    Raises:
        VisionKitError: As the command would, as far as it needs no data and no network.
    """
    import_classes()
    set_up_parser()
    with parser_errors():
        return _Read(verb, in_order(arguments))


class Reader:
    """Reads the blocks of a page in order, in a folder that holds what the commands name.

    Attributes:
        trained: Arguments of each training, by the folder of its run.
    """

    def __init__(self) -> None:
        self.trained: dict[str, list[str]] = {}
        self._before = ""

    def read(self, block: Block) -> None:
        """Reads one block of commands or of yaml; any block is known to those behind it.

        Raises:
            UsageError: A command that would be refused, or one that names what nothing before it makes.
            VisionKitError: Likewise.
        """
        if block.language == "bash":
            for command in block.commands():
                self._command(command, own=block.kind in ("fast", "network"))
                self.remember(command)
        elif block.language == "yaml":
            self._configuration(block)
        write(Path.cwd(), block.text)
        self.remember(block.text)

    def remember(self, text: str) -> None:
        """What a text names is known to the blocks behind it."""
        self._before += f"\n{text}"

    def makes(self, path: str) -> bool:
        """Whether a block before names the file or folder, or what it lies in."""
        first, *rest = Path(path).parts
        name = f"{first}/{rest[0]}" if first in _KEPT and rest else first
        return bool(re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", self._before))

    def _configuration(self, block: Block) -> None:
        import yaml

        keys = yaml.safe_load(block.text)
        if not isinstance(keys, dict):
            raise UsageError(f"{block.place}: no mapping")
        if not keys.keys() <= CONFIGURATION:
            return
        Path("block.yaml").write_text(block.text, "utf-8")
        # What the block leaves to another file: its classes, and where the data lies.
        data = {"class_path": "CocoKeypointData", "init_args": {}, **(keys.get("data") or {})}
        root = data["init_args"].get("root", "data")
        others = {"model": {"class_path": "ClassificationTask"}} if "model" in keys else {}
        if "data" in keys:
            others["data"] = {"class_path": data["class_path"], "init_args": {"root": root}}
            Path(root).mkdir(parents=True, exist_ok=True)
        Path("others.yaml").write_text(yaml.safe_dump(others), "utf-8")
        with _placed(block.place):
            parse_training("fit", check_arguments("fit", ["-c", "others.yaml", "-c", "block.yaml"]))

    def _command(self, command: str, own: bool) -> None:
        words = shlex.split(command, comments=True)
        if words[:2] == ["python", "-m"]:
            _module(words[2], words[3:])
        if "visionkit" not in words:
            return
        verb, *arguments = words[words.index("visionkit") + 1 :]
        end = next((place for place, word in enumerate(arguments) if _ENDS.match(word)), len(arguments))
        arguments = arguments[:end]
        with _placed(command):
            if own:
                self._paths(arguments)
            if verb in VERBS:
                self._training(verb, arguments, own)
                return
            parsed = build_parser(verb).parse(arguments)
            self._data(parsed)

    def _paths(self, arguments: Sequence[str]) -> None:
        """What a command names is there or made before it; what it writes itself is not asked for."""
        for before, word in zip(["", *arguments], arguments, strict=False):
            path = word.partition("=")[2] if "=" in word and not word.startswith("--") else word
            if "/" not in path or ":" in path or path[:1] in "-[{'" or "{" in path:
                continue
            if before in _WRITTEN:
                continue
            if Path(path).parts[0] in SHIPPED and not (ROOT / path).exists():
                raise UsageError(f"{path}: it is not in the repository")
            if not (ROOT / path).exists() and not self.makes(path):
                raise UsageError(f"{path}: nothing before makes it")

    def _training(self, verb: str, arguments: list[str], own: bool) -> None:
        run = option(arguments, "--run")
        if option(arguments, "--replay"):
            return
        begun = self._begun(verb, arguments, own)
        if begun is None:
            return
        _stand_in(arguments)
        checked = check_arguments(verb, _without(arguments, "--ckpt_path", "--init_from"))
        whole = early_arguments(checked, begun[1:]) if begun[:1] == ["stored"] else [*begun, *checked]
        parse_training(verb, whole)
        if verb == "fit" and run:
            self.trained[run] = whole

    def _begun(self, verb: str, arguments: list[str], own: bool) -> list[str] | None:
        """The arguments that a command begins with, since its model has them; None where nobody knows them."""
        written = [name for name in files_named(arguments) if Path(name).parent.as_posix() in self.trained]
        for name in written:  # the configuration of a run that was trained before
            place = arguments.index(name)
            del arguments[place - 1 : place + 1]
        begun = [part for name in written for part in self.trained[Path(name).parent.as_posix()]]
        checkpoint, source = option(arguments, "--ckpt_path"), option(arguments, "--init_from")
        if checkpoint in ("last", "best"):
            return begun
        model = checkpoint or source
        if model is None:
            return begun
        if model in self.trained:
            return self.trained[model] if checkpoint else _of_model(self.trained[model])
        if public_name(model):
            return begun
        if (ROOT / model).exists():
            stored = read_model(ROOT / model)
            kept = {key: value for key, value in stored.config.items() if checkpoint or key != "classes"}
            return ["stored", *as_defaults(stored.task, kept)]
        if own:
            raise UsageError(f"{model}: no command before trains it")
        check_arguments(verb, _without(arguments, "--ckpt_path", "--init_from", "--data.root"))
        return None

    def _data(self, parsed: Any) -> None:
        """What a command hands on to the parser of a training."""
        reader, handed = getattr(parsed, "reader", None), list(getattr(parsed, "forwarded", None) or ())
        named = [part for name in getattr(parsed, "config", None) or () for part in ("-c", name)]
        if not (reader or handed or named):
            return
        model = str(getattr(parsed, "model", None) or "")
        kept: list[str] = []
        if model and (ROOT / model).exists():
            stored = read_model(ROOT / model)
            kept = as_defaults(stored.task, stored.config)
        if reader and getattr(parsed, "data", None):
            import_classes()
            handed += [f"--data.{first_argument(reader)}", parsed.data]
        _stand_in(handed)
        checked = check_arguments("fit", [*named, *(["--data", reader] if reader else []), *handed])
        parse_training("fit", early_arguments(checked, kept))


def files_named(arguments: Sequence[str]) -> list[str]:
    """The configurations of a command line, as they are typed."""
    return [path.as_posix() for path in files(arguments)]


@contextlib.contextmanager
def _placed(place: str) -> Iterator[None]:
    """States what was refused."""
    try:
        yield
    except SystemExit as end:
        raise UsageError(f"`{place}` ends with {end.code}") from end
    except Exception as error:
        error.add_note(f"of `{place}`")
        raise


def _stand_in(arguments: Sequence[str]) -> None:
    """An empty folder in place of the data."""
    root = option(arguments, "--data.root")
    if root is not None and "://" not in root:
        Path(root).mkdir(parents=True, exist_ok=True)


def _without(arguments: Sequence[str], *names: str) -> list[str]:
    """The arguments without some options and their values."""
    kept: list[str] = []
    for name, value in given(arguments):
        if name not in names:
            kept += [part for part in (name, value) if part] if "=" not in f"{name}" else [f"{name}={value}"]
    return kept


def _of_model(arguments: Sequence[str]) -> list[str]:
    """Of the arguments of a training those that state its model."""
    kept: list[str] = []
    for name, value in given(arguments):
        if name in ("-c", "--config") or name.startswith("--model"):
            kept += [name, *([value] if value is not None else [])]
    return kept


def _module(name: str, arguments: Sequence[str]) -> None:
    """A module that is run has a `__main__` and knows the options."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise UsageError(f"python -m {name}: there is no such module")
    source = "".join(path.read_text("utf-8") for path in Path(spec.origin).parent.glob("*.py"))
    for word in arguments:
        if word.startswith("--") and f'"{word.partition("=")[0]}"' not in source:
            raise UsageError(f"python -m {name} {word}: the module knows no such option")
