"""Processes of tests: forks of one server that has imported everything and has no threads.

A fork of the test runner itself, which may have threads, can wait for ever; a process from nothing imports for seconds.
"""

from __future__ import annotations

import multiprocessing

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["tests.tiny_training", "torch._dynamo", "ui.cli", "datamodules.joint", "tasks.multitask"]
)
