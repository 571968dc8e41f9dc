"""The order of options on a command line, which shall not matter.

The parser works through its arguments from left to right: it refuses `--data.root` before it knows the class of
`--data`, and a file behind an option takes that option back. So files come first here, and a class before its keys.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_FILES = ("-c", "--config")


def in_order(arguments: Sequence[str]) -> list[str]:
    """The same arguments: files first, then options as they were, but each class before the first of its keys.

    An option that is given more than once (`--trainer.callbacks+=...`) stays where it is: its keys belong to the one
    before them.
    """
    groups: list[list[str]] = []
    for argument in arguments:
        if not groups or re.match(r"--?[A-Za-z]", argument):
            groups.append([])
        groups[-1].append(argument)
    names = [group[0].partition("=")[0] for group in groups]
    files = [group for name, group in zip(names, groups, strict=True) if name in _FILES]
    rest = [(name, group) for name, group in zip(names, groups, strict=True) if name not in _FILES]
    for parent in dict.fromkeys(name for name, _ in rest):
        places = [place for place, (name, _) in enumerate(rest) if name.rstrip("+") == parent.rstrip("+")]
        first = next((place for place, (name, _) in enumerate(rest) if name.startswith(f"{parent}.")), len(rest))
        if len(places) == 1 and first < places[0]:
            rest.insert(first, rest.pop(places[0]))
    return [argument for group in [*files, *(group for _, group in rest)] for argument in group]
