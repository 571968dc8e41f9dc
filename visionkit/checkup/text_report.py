"""The findings of an examination as lines for the terminal: one group per kind and split, with a few examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from visionkit.checkup.examination import Checkup
from visionkit.checkup.findings import Finding
from visionkit.checkup.kinds import KINDS, SEVERITIES
from visionkit.wording import counted

EXAMPLES = 3
"""Findings of a kind that are shown; a file of --json or --html has all of them."""


def grouped(findings: Sequence[Finding]) -> Iterator[tuple[str, str, list[Finding]]]:
    """Kind, split and findings of each group, in the order of the findings."""
    for (kind, split), some in groupby(findings, key=lambda each: (each.kind, each.split)):
        yield kind, split, list(some)


def lines_of(checkup: Checkup, examples: int = EXAMPLES) -> list[str]:
    """The report, line by line; the last line sums up.

    Args:
        checkup: What was found.
        examples: Findings of a kind that are shown.
    """
    lines = []
    for kind, split, some in grouped(checkup.findings):
        lines.append(f"{KINDS[kind].severity:<8} {kind}: {counted(len(some), KINDS[kind].unit)} in {split}")
        lines += [f"           {one_line(each)}" for each in some[:examples]]
        if len(some) > examples:
            lines.append(f"           ... {len(some) - examples:,} more")
        lines.append(f"           -> {KINDS[kind].advice}")
    return [*lines, summary(checkup)]


def statistics_of(checkup: Checkup) -> list[str]:
    """Number, size and brightness of the images of each split, one line each."""
    lines = []
    for split, row in checkup.statistics.items():
        least, middle, most = row["shorter side, least, median, most"]
        mean, deviation = (" ".join(f"{value:.3f}" for value in row[key]) for key in ("mean", "deviation"))
        size = f"shorter side {least} to {most} (median {middle})" if least < most else f"shorter side {least}"
        lines.append(f"  {split:<6} {counted(row['images'], 'image')}, {size}, mean {mean}, deviation {deviation}")
    return lines


def one_line(finding: Finding) -> str:
    """A finding with its place and the images that belong to it."""
    place = finding.where()
    text = finding.message if not place or finding.message.startswith(place) else f"{place}: {finding.message}"
    if finding.others:
        more = ", ..." if len(finding.others) > EXAMPLES else ""
        text += f" ({', '.join(finding.others[:EXAMPLES])}{more})"
    return text


def summary(checkup: Checkup) -> str:
    """How much of what was found in how many images."""
    images = counted(sum(checkup.images.values()), "image")
    numbers = [(checkup.count(severity), severity) for severity in SEVERITIES]
    found = ", ".join(counted(number, severity) for number, severity in numbers if number)
    return f"{found or 'nothing found'} in {images}"
