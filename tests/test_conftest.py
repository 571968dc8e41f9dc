"""The guard that keeps the tests off the network is itself tried."""

from __future__ import annotations

import os
import socket
import urllib.request
from pathlib import Path

import pytest

from tests import conftest


def test_the_home_is_a_temporary_one() -> None:
    assert Path.home().name.startswith("visionkit-home-")


def test_an_outside_address_is_refused_and_remembered() -> None:
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError, match="no network"):
        probe.connect(("192.0.2.1", 80))
    assert conftest._attempts == ["socket.connect '192.0.2.1'"]
    conftest._attempts.clear()


def test_an_outside_name_is_not_looked_up() -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.getaddrinfo("example.org", 443)
    assert conftest._attempts == ["socket.getaddrinfo 'example.org'"]
    conftest._attempts.clear()


def test_this_machine_responds(free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)), socket.create_connection(("localhost", free_port)):
        pass
    assert not conftest._attempts


def test_a_proxy_stands_before_subprocesses() -> None:
    assert urllib.request.getproxies()["https"] == "http://127.0.0.1:9"
    assert os.environ["HF_HUB_OFFLINE"] == "1"
