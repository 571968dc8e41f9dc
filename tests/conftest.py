"""What every test stands on: a home of its own, one thread, and no road out of this machine."""

from __future__ import annotations

import atexit
import ipaddress
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from visionkit.deferred_imports import defer_imports, uncollected

# As every command does before it imports torch.
defer_imports()

# Set before anything heavy is imported, since torch, wandb and the hub read them once; subprocesses inherit them.
_HOME = Path(tempfile.mkdtemp(prefix="visionkit-home-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
for _name in list(os.environ):
    if _name.startswith(("XDG_", "WANDB_", "HF_", "SLURM_", "TORCH_HOME")) or _name.lower() in (
        "all_proxy",
        "no_proxy",
    ):
        del os.environ[_name]
os.environ.update(
    HOME=str(_HOME),
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    WANDB_MODE="offline",
    WANDB_SILENT="true",
    WANDB_ERROR_REPORTING="false",
    GRADIO_ANALYTICS_ENABLED="False",
    NO_ALBUMENTATIONS_UPDATE="1",
    # A subprocess that tries all the same meets a closed door at once; nothing listens at port 9.
    HTTP_PROXY="http://127.0.0.1:9",
    HTTPS_PROXY="http://127.0.0.1:9",
    http_proxy="http://127.0.0.1:9",
    https_proxy="http://127.0.0.1:9",
    NO_PROXY="127.0.0.1,localhost",
    no_proxy="127.0.0.1,localhost",
    # `visionkit` and its kin are found by their bare names, as in an activated environment.
    PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
)

_attempts: list[str] = []
_LOCAL_NAMES = {"", "localhost", "localhost.localdomain", socket.gethostname()}


def _is_local(host: object) -> bool:
    name = host.decode(errors="replace") if isinstance(host, bytes) else str(host or "")
    if name in _LOCAL_NAMES:
        return True
    try:
        address = ipaddress.ip_address(name.split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _guard(event: str, arguments: tuple[object, ...]) -> None:
    """Refuses whatever would leave this machine; an audit hook sees it below every library."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if not _is_local(host):
        _attempts.append(f"{event} {host!r}")
        raise ConnectionRefusedError(f"the tests reach no network, yet {event} asked for {host!r}")


sys.addaudithook(_guard)

# A shell ignores Ctrl-C in what it runs in the background, and processes inherit that; tests interrupt some.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """Imports and collects without Python's garbage collector, and leaves what there is then to the end.

    Going through all the modules and tests again and again was a tenth of the time of the suite.
    """
    with uncollected():
        return (yield)


@pytest.fixture(autouse=True)
def _as_found() -> Iterator[None]:
    """Takes back what a test of exact resume demands of torch: with it, torchmetrics' counting costs gigabytes."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _no_network() -> Iterator[None]:
    """Fails a test that tried to leave the machine, also where the code under test swallowed the refusal."""
    _attempts.clear()
    yield
    if _attempts:
        pytest.fail(f"the test tried to reach the network: {', '.join(sorted(set(_attempts)))}")


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
