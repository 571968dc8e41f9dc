"""Prints a completion script for a shell.

bash:  eval "$(visionkit completion bash)"
zsh:   eval "$(visionkit completion zsh)"
fish:  visionkit completion fish | source
"""

from __future__ import annotations

import argparse

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
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](_words())


Words = dict[str, dict[str, tuple[str, list[str]]]]
"""Command -> option -> (meaning, allowed values)."""


def _words() -> Words:
    from ui.cli import VERBS, build_parser
    from ui.commands import training

    words: Words = {
        verb: {option.name: (option.meaning, _values(option.value)) for option in training.OPTIONS[verb]}
        for verb in training.VERBS
    }
    for verb in VERBS:
        options: dict[str, tuple[str, list[str]]] = {}
        for action in build_parser(verb)._actions:
            choices = [str(choice) for choice in action.choices or ()]
            for name in action.option_strings or ([""] if choices else []):
                options[name] = (str(action.help or ""), choices)
        words[verb] = options
    return words


def _values(value: str) -> list[str]:
    return [part for part in value.split("|") if part and not part.isupper()] if "|" in value else []


def _summaries() -> dict[str, str]:
    from ui.cli import VERBS, verb_module
    from ui.commands import training

    return {**training.SUMMARIES, **{verb: verb_module(verb).SUMMARY for verb in VERBS}}


def _bash(words: Words) -> str:
    lines = [
        "_visionkit() {",
        '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" offered=""',
        "  COMPREPLY=()",
        '  if [ "$COMP_CWORD" -eq 1 ]; then',
        f'    COMPREPLY=($(compgen -W "{" ".join(words)} --help --version" -- "$word")); return',
        "  fi",
        '  case "${COMP_WORDS[1]} $before" in',
    ]
    for verb, options in words.items():
        for option, (_, values) in options.items():
            if option and values:
                lines.append(
                    f'    "{verb} {option}") COMPREPLY=($(compgen -W "{" ".join(values)}" -- "$word")); return ;;'
                )
    lines += ["  esac", '  case "${COMP_WORDS[1]}" in']
    for verb, options in words.items():
        offered = [option for option in options if option] + options.get("", ("", []))[1]
        lines.append(f'    {verb}) offered="{" ".join(offered)}" ;;')
    lines += [
        "  esac",
        '  COMPREPLY=($(compgen -W "$offered" -- "$word"))',
        '  [ "${#COMPREPLY[@]}" -gt 0 ] || COMPREPLY=($(compgen -f -- "$word"))',
        "}",
        "complete -o filenames -F _visionkit visionkit",
    ]
    return "\n".join(lines)


def _zsh(words: Words) -> str:
    """Zsh reads bash completions by its own bridge; one table of words is enough."""
    return "\n".join(["autoload -Uz compinit bashcompinit", "compinit -u; bashcompinit", _bash(words)])


def _fish(words: Words) -> str:
    lines = ["complete -c visionkit -n __fish_use_subcommand -f"]
    for verb, summary in _summaries().items():
        lines.append(f"complete -c visionkit -n __fish_use_subcommand -a {verb} -d {_quoted(summary)}")
    for verb, options in words.items():
        seen = f"-n '__fish_seen_subcommand_from {verb}'"
        for option, (meaning, values) in options.items():
            if not option:
                lines.append(f"complete -c visionkit {seen} -f -a {_quoted(' '.join(values))}")
                continue
            dashes = "-l" if option.startswith("--") else "-s"
            offered = f" -x -a {_quoted(' '.join(values))}" if values else ""
            lines.append(f"complete -c visionkit {seen} {dashes} {option.lstrip('-')}{offered} -d {_quoted(meaning)}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
