"""Row 12: how long a person waits for `visionkit --help`, and for the demo's page.

The demo's port listens at once; what counts is until the page has been sent whole. What is heavy and not needed for
the page (torch, the first model) is imported behind it, which is not counted. `cpu` here is the time of the started
process alone.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from pathlib import Path

from benchmarks import timing
from benchmarks.timing import Goal, Options, Report, Stopwatch

COMMAND = str(Path(sysconfig.get_path("scripts")) / "visionkit")
PATIENCE = 120.0


def run_to_end(*arguments: str) -> timing.Arm:
    """An arm that starts a process and waits for its end."""

    def arm(watch: Stopwatch) -> None:
        watch.start()
        subprocess.run(arguments, check=True, capture_output=True)

    return arm


def until_the_page(clock: timing.Clock) -> float:
    """Seconds from the start of `visionkit serve` to the whole page."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.perf_counter()
    process = subprocess.Popen(
        [COMMAND, "serve", "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        while time.perf_counter() - began < PATIENCE:
            if process.poll() is not None:
                message = process.stdout.read().decode(errors="replace")[-500:] if process.stdout else ""
                raise RuntimeError(f"visionkit serve ended with status {process.returncode}: {message}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as response:
                    assert response.status == 200 and b"gradio" in response.read(), "this is not the demo's page"
            except urllib.error.URLError:
                time.sleep(0.01)
                continue
            return time.perf_counter() - began if clock == "wall" else _cpu_of(process.pid)
    finally:
        process.terminate()
        process.communicate()
    raise RuntimeError(f"the demo did not respond within {PATIENCE:.0f} s")


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(options: Options) -> Report:
    clock = options.clock or "wall"
    report = Report(12, "start-up", clock)
    with timing.watched(report):
        shown = subprocess.run([COMMAND, "--help"], check=True, capture_output=True, text=True).stdout
        assert "visionkit" in shown and "fit" in shown, "the help does not name the commands"
        sides = {
            "help": run_to_end(COMMAND, "--help"),
            "python": run_to_end(sys.executable, "-c", "pass"),
            "site": run_to_end(sys.executable, "-c", "import argparse, importlib.metadata"),
        }
        rounds = options.rounds or (3 if options.quick else 25)
        times = timing.measure(
            sides,
            rounds=rounds,
            clock=clock,
            attempts=1 if options.quick else 3,
            wanted=lambda t: [t.per_unit("help", 1)],
        )
        report.add("visionkit --help", times.per_unit("help", 1), Goal(0.2, "at most"), "s", times)
        report.add("python -c pass (the limit)", times.per_unit("python", 1), unit="s")
        report.add("python, argparse and metadata", times.per_unit("site", 1), unit="s")
        if options.quick:
            return report
        until_the_page(clock)  # files into the page cache
        waits = timing.Quartiles.of([until_the_page(clock) for _ in range(options.rounds or 5)])
        report.add("visionkit serve, its page", waits, Goal(6.0, "at most"), "s")
    return report


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))
