"""Opens the web demo: choose a model, drop a picture, read what it shows.

It offers the bundled starters, the bundles and checkpoints under --models, and public names that are typed in
(timm:resnet50). It answers this machine alone unless --host says otherwise, and asks nothing of the internet
except for the weights of a public name.

  visionkit serve
  visionkit serve --models runs --port 8000
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from visionkit.errors import EnvironmentFault, Terminated, UsageError

if TYPE_CHECKING:
    from ui.catalogue import Catalogue

SUMMARY = "open the web demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("--models", metavar="DIR", help="folder of your own bundles and checkpoints, searched deeply")
    parser.add_argument("--gallery", metavar="DIR", help="keep the people who are enrolled on the page in this gallery")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine alone)")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (%(default)s); 0 takes a free one")
    parser.add_argument("--device", default="cpu", help="what to compute on: cpu, cuda, cuda:1 (%(default)s)")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that browsers may call this server by, beside its address and localhost; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    """Serves until interrupted."""
    folder = Path(args.models) if args.models else None
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--models {folder}: no such folder")
    if not re.fullmatch(r"cpu|cuda(:\d+)?|mps", args.device):
        raise UsageError(f"--device {args.device}: allowed are cpu, cuda and cuda:N")
    with (
        contextlib.closing(listen(args.host, args.port)) as door,
        tempfile.TemporaryDirectory(prefix="visionkit-") as scratch,
    ):
        # By default the signal would end the process at once, and what visitors sent would stay on the disk.
        signal.signal(signal.SIGTERM, _terminated)
        _serve(door, args, folder, Path(scratch))
    return 0


def _terminated(number: int, frame: object) -> NoReturn:
    raise Terminated("terminated")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, before anything slow is imported: who asks early waits, and a taken port is told at once.

    Raises:
        UsageError: No such address or port number.
        EnvironmentFault: The port is taken or not ours to take.
    """
    if not 0 <= port < 65536:
        raise UsageError(f"--port {port}: a port is a number from 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise UsageError(
            f"--host {host}: no address of this machine; 127.0.0.1 is this machine alone, 0.0.0.0 all of its"
        ) from None
    door = socket.socket(family, kind, protocol)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(address)
        door.listen(128)
    except OSError as error:
        door.close()
        raise EnvironmentFault(
            f"port {port} of {host}: {(error.strerror or str(error)).lower()}; choose another with --port "
            "(0 takes a free one)"
        ) from error
    return door


def _serve(door: socket.socket, args: argparse.Namespace, folder: Path | None, scratch: Path) -> None:
    # Read once, when gradio and the hub's client are imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = str(scratch / "cache")
    import uvicorn

    from ui.app import Settings, application
    from ui.catalogue import Catalogue

    shown = args.host if args.host not in ("", "0.0.0.0", "::") else "127.0.0.1"
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{door.getsockname()[1]}"
    catalogue = Catalogue(folder, args.device)
    app = application(
        Settings(catalogue, address, scratch, Path(args.gallery) if args.gallery else None), args.host, args.allow_host
    )
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=2,
        timeout_keep_alive=65,  # longer than those of browsers and proxies, so that no request meets a closing line
        lifespan="on",
    )
    server = uvicorn.Server(config)
    threading.Thread(target=_warm, args=(server, catalogue, address, args.debug), daemon=True).start()
    server.run(sockets=[door])


def _warm(server: Any, catalogue: Catalogue, address: str, debug: bool) -> None:
    """Once the page is there, imports what is heavy and loads the first model, so that no visitor waits for it."""
    while not server.started:
        if server.should_exit:
            return
        time.sleep(0.01)
    print(f"visionkit demo: {address}  (Ctrl+C ends it)", flush=True)
    try:
        import visionkit.drawing
        import visionkit.predictor  # noqa: F401

        first = next((entry for entry in catalogue.entries() if not entry.fault), None)
        if first is not None:
            loaded = catalogue.get(first.name)
            with loaded.lock:
                loaded.predictor()
    except Exception as error:
        # Whoever asks for this model is told on the page; here it is for the one who started the server.
        print(f"visionkit: {error}", file=sys.stderr)
        if debug:
            raise
