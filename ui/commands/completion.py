"""Prints a completion script for a shell.

bash:  eval "$(visionkit completion bash)"
zsh:   eval "$(visionkit completion zsh)"
fish:  visionkit completion fish | source
"""

from __future__ import annotations

import argparse
import re

SUMMARY = "print a completion script for bash, zsh or fish"

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("shell", choices=SHELLS)


def run(args: argparse.Namespace) -> int:
    """Prints the script."""
    print(script(args.shell))
    return 0


def script(shell: str) -> str:
    """The completion script of one shell; it completes commands, options, choices of options, and files."""
    import shtab

    whole = _whole_parser()
    commands = next(action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    for parser in commands.choices.values():
        for action in parser._actions:
            if action.help:  # a shell shows what fits beside the name; `--help` shows the rest
                action.help = re.split(r"; | \(default", action.help)[0]
            if action.nargs != 0 and action.choices is None:
                action.complete = shtab.FILE
    loaded = "autoload -Uz compinit && compinit -u\n" if shell == "zsh" else ""
    text: str = shtab.complete(whole, shell)
    return loaded + text


def _whole_parser() -> argparse.ArgumentParser:
    """All commands in one parser; those of training have the options of their short page of help."""
    from ui.cli import VERBS, build_parser, verb_module
    from ui.commands import training

    whole = argparse.ArgumentParser(prog="visionkit")
    whole.add_argument("--version", action="version", help="print the version")
    commands = whole.add_subparsers()
    for verb, summary in training.SUMMARIES.items():
        parser = commands.add_parser(verb, help=summary)
        for name, value, meaning in training.OPTIONS[verb]:
            allowed = [word for word in value.split("|") if not word.isupper()] if "|" in value else None
            parser.add_argument(name, help=meaning.replace("%", "%%"), choices=allowed or None)
    for verb in VERBS:
        commands.add_parser(verb, help=verb_module(verb).SUMMARY, parents=[build_parser(verb)], add_help=False)
    return whole
