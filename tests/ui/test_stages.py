"""A long command states what it does, in lines, while a library is silenced; a quick one carries no information."""

from __future__ import annotations

import re
import sys
import time

from ui.stages import stages
from visionkit.log_filters import quiet


def test_a_slow_stage_is_named_and_named_again_although_streams_are_held_back(capsys):
    with stages(first=0.05, following=0.2) as begin:
        begin("reading the model")
        begin("building the graph")
        with quiet():
            print("noise", file=sys.stderr)
            time.sleep(0.7)
        begin("checking the graph", 3, 7)
        time.sleep(0.3)
    message = capsys.readouterr().err.splitlines()
    assert message[0] == "visionkit: building the graph ..."
    assert re.fullmatch(r"visionkit: building the graph, \d+ s so far \.\.\.", message[1])
    assert "visionkit: checking the graph: 3 of 7 ..." in message
    assert not any("noise" in line or "reading" in line for line in message)


def test_what_is_quick_is_not_named(capsys):
    with stages() as begin:
        begin("reading the model")
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_live_line(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with stages() as begin:
        begin("building the graph")
        time.sleep(0.25)
    assert "building the graph" in capsys.readouterr().err
