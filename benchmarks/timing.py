"""The one harness: arms interleaved in shuffled order, a ratio per round, quartiles, and a verdict against a goal.

A single time on a shared machine carries no information, and a ratio of two means taken minutes apart states little
more. So every round runs every arm once, in an order that is shuffled again, and only what happened within one round is
compared. The median of the rounds' ratios is the result; where their quartiles lie more than a tenth of it apart, the
block of rounds is discarded, which is stated, and measured again. The last block stands whatever it states, with its
spread beside it.

Two clocks. `wall` is what a person waits. `cpu` is the processor time of this process and of the children it waited
for: on a machine that others use too it is nearest to what the wall clock would show on an idle one, as long as
nothing sleeps (caches that others fill still cost). It is the default of rows that compute on one core; rows that
use several processes at once, or wait, name the wall clock.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks.machine import machine

Clock = Literal["wall", "cpu"]
SPREAD = 0.10
"""Quartiles further apart than this fraction of the median are no result."""


class Quartiles(NamedTuple):
    """What the rounds of a block state about one number.

    Attributes:
        low: First quartile.
        median: The result.
        high: Third quartile.
    """

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quartiles:
        """Quartiles of the rounds; of a single one, that one thrice."""
        if len(values) < 2:
            return cls(*(list(values) * 3))
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low, median, high)

    @property
    def spread(self) -> float:
        """Distance of the quartiles as a fraction of the median."""
        return abs(self.high - self.low) / abs(self.median) if self.median else float("inf")

    @property
    def tight(self) -> bool:
        """Whether this is a result."""
        return self.spread <= SPREAD


class Stopwatch:
    """Times one run of an arm: the whole of it, or what lies between `start` and `stop` where the arm calls them."""

    def __init__(self, clock: Clock) -> None:
        self._now = NOW[clock]
        self._begin = self._now()
        self.seconds: float | None = None

    def start(self) -> None:
        """Leaves out what the arm did so far."""
        self._begin = self._now()

    def stop(self) -> float:
        """Leaves out what comes after; the seconds since the start."""
        self.seconds = self._now() - self._begin
        return self.seconds

    def finish(self) -> float:
        """The measured seconds, up to now where nobody stopped the watch."""
        return self.stop() if self.seconds is None else self.seconds


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


NOW: dict[Clock, Callable[[], float]] = {"wall": time.perf_counter, "cpu": _cpu}

Arm = Callable[[Stopwatch], Any]
"""One side of a comparison: does one round's work. Every arm of a comparison does the same amount of it."""


@dataclass
class Times:
    """Seconds of every arm in every round of a block.

    Attributes:
        seconds: Arm name to one number a round; the rounds of all arms correspond.
        discarded: Blocks that were measured before this one and thrown away.
        ok: Whether all that was asked for is tight.
    """

    seconds: dict[str, list[float]]
    discarded: int = 0
    ok: bool = True

    def ratio(self, numerator: str, denominator: str) -> Quartiles:
        """Time of one arm over that of another, round by round."""
        pairs = zip(self.seconds[numerator], self.seconds[denominator], strict=True)
        return Quartiles.of([a / b for a, b in pairs])

    def speed(self, arm: str, against: str) -> Quartiles:
        """How many times as fast an arm is as another, round by round."""
        return self.ratio(against, arm)

    def per_unit(self, arm: str, units: float, minus: str | None = None) -> Quartiles:
        """Seconds of one unit of an arm's work, less those of another arm in the same round."""
        other = self.seconds[minus] if minus else [0.0] * len(self.seconds[arm])
        return Quartiles.of([(a - b) / units for a, b in zip(self.seconds[arm], other, strict=True)])


@contextmanager
def _collected() -> Iterator[None]:
    """Objects that are alive now are examined once, and not again before every run."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def measure(
    arms: Mapping[str, Arm],
    *,
    rounds: int,
    clock: Clock = "cpu",
    warmup: int = 1,
    attempts: int = 3,
    wanted: Callable[[Times], Sequence[Quartiles]] | None = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Times:
    """Runs every arm once a round, in shuffled order, until what is required is tight.

    Args:
        arms: Arms by name.
        rounds: Rounds of a block.
        clock: See the module.
        warmup: Rounds before the first block that are not counted.
        attempts: Blocks at most; the last one is kept whatever it states.
        wanted: The numbers that must be tight; by default every arm against the first.
        seed: Random seed of the order.
        say: Where a discarded block is reported.
    """
    names = list(arms)
    order = random.Random(seed)
    for _ in range(warmup):
        for name in names:
            arms[name](Stopwatch(clock))
    discarded = 0
    while True:
        times = Times({name: [] for name in names}, discarded)
        with _collected():
            for _ in range(rounds):
                for name in order.sample(names, len(names)):
                    gc.collect()
                    watch = Stopwatch(clock)
                    arms[name](watch)
                    times.seconds[name].append(watch.finish())
        values = wanted(times) if wanted else [times.ratio(name, names[0]) for name in names[1:]]
        widest = max((value.spread for value in values), default=0.0)
        times.ok = widest <= SPREAD
        if times.ok or discarded + 1 >= attempts:
            return times
        discarded += 1
        say(f"  discarded a block of {rounds} rounds: its quartiles spread over {widest:.0%}")


@dataclass(frozen=True)
class Goal:
    """What a number has to be.

    Attributes:
        limit: The number.
        sense: Whether the number is a floor or a ceiling.
    """

    limit: float
    sense: Literal["at least", "at most"] = "at least"

    def verdict(self, value: float) -> str:
        """`reached`, or by how much it is missed."""
        reached = value >= self.limit if self.sense == "at least" else value <= self.limit
        return "reached" if reached else f"missed by {abs(value / self.limit - 1):.1%}"


@dataclass
class Line:
    """One measured number of a row."""

    what: str
    value: Quartiles
    unit: str
    goal: Goal | None
    verdict: str


@dataclass
class Options:
    """The command line of a row.

    Attributes:
        quick: Small and short: shows that the row runs, not how fast anything is.
        rounds: Rounds of a block; the row's own number where None.
        clock: The row's own where None.
        json: File that gets one more line.
        data: Folder of images for rows that decode; found or made where None.
        device: For rows that can run on another than their own.
    """

    quick: bool = False
    rounds: int | None = None
    clock: Clock | None = None
    json: Path | None = None
    data: Path | None = None
    device: str | None = None


@dataclass
class Report:
    """What a row has measured; prints as it grows.

    Attributes:
        row: Its number in the list of goals.
        title: What it measures, in a few words.
        clock: Which clock it went by.
        lines: The numbers.
        notes: What a reader has to know.
        skipped: Why nothing was measured, or nothing.
    """

    row: int
    title: str
    clock: Clock = "cpu"
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: str = ""
    machine: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        print(f"row {self.row}: {self.title} ({self.clock} clock)", flush=True)

    def add(
        self, what: str, value: Quartiles, goal: Goal | None = None, unit: str = "x", times: Times | None = None
    ) -> None:
        """Takes a number down, prints it beside its goal, and judges it.

        Args:
            what: Names the number.
            value: Its quartiles.
            goal: What it has to be; without one it is there to be read beside the others.
            unit: Written after the number.
            times: Where it comes from; states how many blocks were discarded.
        """
        verdict = ""
        if goal is not None:
            verdict = goal.verdict(value.median)
            if not value.tight:
                wide = f"quartiles spread over {value.spread:.0%}"
                verdict = (
                    f"{verdict}, though {wide}" if _clear(value, goal) else f"no result: {wide} (median: {verdict})"
                )
        line = Line(what, value, unit, goal, verdict)
        self.lines.append(line)
        aim = f"goal {goal.sense} {goal.limit:g}{unit}: {verdict}" if goal else ""
        thrown = f" [{times.discarded} blocks discarded]" if times and times.discarded else ""
        spread = f"[{shown(value.low)} .. {shown(value.high)}]"
        print(f"  {what:<52} {shown(value.median):>8}{unit:<3} {spread:<20} {aim}{thrown}", flush=True)

    def note(self, text: str) -> None:
        """Something that a reader has to know."""
        self.notes.append(text)
        print(f"  note: {text}", flush=True)

    def skip(self, reason: str) -> Report:
        """Nothing was measured, and why."""
        self.skipped = reason
        print(f"  skipped: {reason}", flush=True)
        return self

    def as_dict(self) -> dict[str, Any]:
        """In plain types."""
        return {
            "row": self.row,
            "title": self.title,
            "clock": self.clock,
            "skipped": self.skipped,
            "lines": [
                {
                    "what": line.what,
                    "median": line.value.median,
                    "quartiles": [line.value.low, line.value.high],
                    "unit": line.unit,
                    "goal": f"{line.goal.sense} {line.goal.limit:g}" if line.goal else None,
                    "verdict": line.verdict,
                }
                for line in self.lines
            ],
            "notes": self.notes,
            "machine": self.machine,
        }


def shown(value: float) -> str:
    """Four digits, never in powers of ten."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _clear(value: Quartiles, goal: Goal) -> bool:
    """Whether both quartiles fall on the same side of the goal: a wide spread then leaves the verdict alone."""
    return (goal.verdict(value.low) == "reached") == (goal.verdict(value.high) == "reached")


# -------------------------------------------------------------------- the machine


@contextmanager
def watched(report: Report) -> Iterator[None]:
    """Writes down the machine and how much of it others used meanwhile."""
    report.machine = machine()
    before, own = _busy(), _cpu()
    yield
    after = _busy()
    if before is None or after is None or after[1] == before[1]:
        return
    total, busy = after[1] - before[1], after[0] - before[0]
    others = max(0.0, busy - (_cpu() - own)) / total
    report.machine["used by others"] = f"{others:.0%} of all cores"
    if others > 0.05 and not report.skipped:
        report.note(f"the machine was shared: other programs used {others:.0%} of its cores meanwhile")


def _busy() -> tuple[float, float] | None:
    """Busy and all core-seconds since the machine started; None where the system does not state."""
    try:
        fields = [int(value) for value in Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:9]]
    except OSError:
        return None
    tick = os.sysconf("SC_CLK_TCK")
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / tick, sum(fields) / tick


# -------------------------------------------------------------------- the command line of a row


def options(argv: Sequence[str] | None = None, description: str = "") -> Options:
    """Reads the command line that every row has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small and short: shows that it runs, times nothing")
    parser.add_argument("--rounds", type=int, help="rounds of a block")
    parser.add_argument("--clock", choices=("wall", "cpu"), help="instead of the row's own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the result to FILE as one line of json")
    parser.add_argument("--data", type=Path, metavar="DIR", help="images for the rows that decode")
    parser.add_argument("--device", help="for the rows that can run on another than their own")
    return Options(**vars(parser.parse_args(argv)))


def main(run: Callable[[Options], Report], description: str = "", argv: Sequence[str] | None = None) -> int:
    """Runs one row as a program. A missed goal is a result, so the status is 0 all the same."""
    given = options(argv, description)
    report = run(given)
    if not report.skipped:
        print("  on " + ", ".join(f"{key} {value}" for key, value in report.machine.items()))
    if given.json:
        with given.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(report.as_dict()) + "\n")
    sys.stdout.flush()
    return 0
