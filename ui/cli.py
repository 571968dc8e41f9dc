"""The `visionkit` command: reads the verb, imports that verb alone, and turns every failure into one line and a status.

Each verb is a module of this package with `SUMMARY`, `add_arguments(parser)` and `run(args) -> int`, importing whatever
is heavy inside `run`. `fit`, `validate` and `test` are Lightning's command line instead; see `ui.commands.training`.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import importlib
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NoReturn

from ui import commands
from ui.commands import training
from visionkit.deferred_imports import defer_imports
from visionkit.errors import Interrupted, Terminated, UsageError, VisionKitError, suggest
from visionkit.faults import as_fault

VERBS = tuple(sorted(name for _, name, _ in pkgutil.iter_modules(commands.__path__) if name != "training"))
"""Each is a module of `ui.commands`; the training verbs come before them in the help."""

_FORWARDED = ("--data.", "--model.", "--trainer.")
_BROKEN_PIPE = 141  # what a shell reports for a process that SIGPIPE ended


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments, without the program's name; those of the process by default.

    Returns:
        The exit status: 0 success, otherwise the `status` of a `VisionKitError`; 1 is a defect of visionkit.
    """
    status = _run(list(sys.argv[1:] if argv is None else argv))
    if argv is None and sys.argv[1:2] == ["serve"]:
        leave(status)
    return status


def leave(status: int) -> NoReturn:
    """Ends the process after its exit functions; Python would first free a server's many objects one by one."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _run(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    return reported(lambda: _dispatch(arguments, debug), debug)


def reported(work: Callable[[], int], debug: bool = False) -> int:
    """Does the work of a process and reports what it raises in one line.

    Args:
        work: Returns the exit status.
        debug: Whether tracebacks are shown.

    Returns:
        The exit status, also of a failure.
    """
    try:
        status = work()
        sys.stdout.flush()
        return status
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BrokenPipeError:
        # Nobody reads on (`| head`). Python would complain again when it flushes at its end.
        _discard_stdout()
        return _BROKEN_PIPE
    except BaseException as error:
        if debug:
            import traceback

            traceback.print_exc()
        fault = as_fault(error)
        print(f"visionkit: {_message(fault, error, debug)}", file=sys.stderr)
        return fault.status if fault else 1


def _dispatch(arguments: list[str], debug: bool = False) -> int:
    if not arguments:
        print(_overview(), file=sys.stderr)
        return UsageError.status
    verb, *rest = arguments
    if verb in ("-h", "--help", "help") and not rest:
        print(_overview())
        return 0
    if verb in ("-h", "--help", "help"):
        verb, rest = rest[0], ["--help"]
    if verb in ("-V", "--version", "version"):
        from importlib.metadata import version

        print(f"visionkit {version('visionkit')}")
        return 0
    defer_imports()
    if verb in training.VERBS:
        return training.main(verb, rest)
    if verb not in VERBS:
        what = "option" if verb.startswith("-") else "command"
        raise UsageError(
            f"unknown {what} {verb!r} (visionkit --help lists what there is){suggest(verb, (*training.VERBS, *VERBS))}"
        )
    module = verb_module(verb)
    status: int = module.run(build_parser(verb).parse([*(["--debug"] if debug else []), *rest]))
    return status


def verb_module(verb: str) -> ModuleType:
    """The module of a verb that is not a training verb."""
    return importlib.import_module(f"ui.commands.{verb}")


def build_parser(verb: str) -> VerbParser:
    """The parser of a verb that is not a training verb."""
    module = verb_module(verb)
    parser = VerbParser(
        prog=f"visionkit {verb}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


class VerbParser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line with the nearest name."""

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parses; positional arguments may stand between options.

        Raises:
            UsageError: Something is missing, unknown or not allowed.
        """
        options = [name for action in self._actions for name in action.option_strings]
        arguments, forwarded = self._divided(arguments)
        for argument in arguments:
            name = argument.partition("=")[0]
            if argument == "--":
                break
            if re.match(r"--\w", argument) and name not in options:
                raise UsageError(f"unknown option {name} (`{self.prog} --help` lists them){suggest(name, options)}")
        known, extra = self.parse_known_intermixed_args(self._joined(arguments))
        if extra:
            raise UsageError(f"unexpected argument {extra[0]!r} (`{self.prog} --help` lists what is)")
        if forwarded:
            known.forwarded = forwarded
        return known

    def _divided(self, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
        """The parser's own arguments, and those of a training (`--data.root DIR`), where the verb hands these on."""
        if self.get_default("forwarded") is None:
            return list(arguments), []
        own: list[str] = []
        forwarded: list[str] = []
        for place, argument in enumerate(arguments):
            before = arguments[place - 1] if place else ""
            value = before.startswith(_FORWARDED) and "=" not in before and not argument.startswith("--")
            (forwarded if value or argument.startswith(_FORWARDED) else own).append(argument)
        return own, forwarded

    def _joined(self, arguments: Sequence[str]) -> list[str]:
        """`--box -5,20,80,60` as `--box=-5,20,80,60`: argparse takes numbers that begin with a minus for options."""
        single = {name for action in self._actions if action.nargs is None for name in action.option_strings}
        joined: list[str] = []
        for place, argument in enumerate(arguments):
            if argument == "--":
                return [*joined, *arguments[place:]]
            if joined and joined[-1] in single and re.match(r"-[\d.]", argument):
                joined[-1] += f"={argument}"
            else:
                joined.append(argument)
        return joined

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print and end the process with."""
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        hint = suggest(choice[1], re.findall(r"[\w.-]+", choice[2])) if choice else ""
        raise UsageError(f"{message} (`{self.prog} --help`){hint}")


def _overview() -> str:
    rows = {**training.SUMMARIES, **{verb: verb_module(verb).SUMMARY for verb in VERBS}}
    lines = [f"  {verb:<12}{summary}" for verb, summary in rows.items()]
    return "\n".join(
        [
            "usage: visionkit COMMAND [OPTIONS]",
            "",
            "Train, test, export and serve vision models on any timm backbone.",
            "",
            *lines,
            "",
            "visionkit COMMAND --help shows the options of a command; --debug, anywhere, shows tracebacks; --version.",
            "",
            "exit status: 0 success, 2 usage or configuration, 3 data, 4 checkpoint or model, 5 environment,",
            "             6 training diverged, 130 interrupted, 143 terminated after saving, 1 a defect of visionkit",
        ]
    )


def _message(fault: VisionKitError | None, error: BaseException, debug: bool) -> str:
    if fault is not None:
        return f"{'' if isinstance(fault, Interrupted | Terminated) else 'error: '}{_one_line(str(fault))}"
    text = _one_line(str(error))
    advice = "" if debug else " (a defect of visionkit; run with --debug for the traceback)"
    return f"error: {type(error).__name__}{': ' if text else ''}{text[:300]}{advice}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _discard_stdout() -> None:
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return  # not a real file, so nothing will be flushed to it


if __name__ == "__main__":
    raise SystemExit(main())
