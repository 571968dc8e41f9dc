"""Turns what the argument parser says into one line that helps."""

from __future__ import annotations

import re

from visionkit.errors import suggest


def explain(message: str, verb: str) -> str:
    """Shortens a parser error and names the nearest option.

    Args:
        message: jsonargparse's text, often many lines.
        verb: The command.
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    text = re.sub(r"^Parser key \"?([^\":]+)\"?:?", r"\1:", lines[0]) if lines else "cannot be parsed"
    found = re.search(r"(?:Unrecognized arguments|Unsupported arguments?|does not accept|No action for key)[^-\w]*(.*)", message)
    if found:
        text = f"unknown option {found.group(1).splitlines()[0].strip()}"
    return f"{text[:400]} (visionkit {verb} --help lists the options){suggest(text.split()[-1], [])}"
