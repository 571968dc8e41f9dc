"""Opens the web demo: choose a model, drop an image, read what it shows.

It offers the bundled example models, the bundles and checkpoints under --models, and public names that are typed in
(timm:resnet50). It serves this machine alone unless --host overrides it, and asks nothing of the internet
except for the weights of a public name.

  visionkit serve
  visionkit serve --models runs --port 8000

What a visitor may ask is limited; --auth-file asks for a login, --ssl-certfile and --ssl-keyfile encrypt, --root-path
is for a proxy that shows the demo under a path. Any ASGI server runs the same application, its options in a variable:

  VISIONKIT_SERVE="--models runs" uvicorn ui.server:create_app --factory

Programs need no page: --api-only serves the same routes for programs without it, --workers N by several processes:

  visionkit serve --models runs --api-only --workers 4
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import ipaddress
import math
import re
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.paths import check_exists
from ui.server.limits import add_limits, limits_of
from ui.stopping import stopped_by_signal
from visionkit.errors import EnvironmentFault, UsageError

if TYPE_CHECKING:
    from ui.data_sets import DataSet
    from ui.server.security_middleware import Guard
    from ui.server.worker import Worker

SUMMARY = "open the web demo"

BACKLOG = 128
"""Connections that wait to be accepted."""

GRACE = 2
"""Seconds in which requests to the demo end when the server does; pages that are open would never."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument(
        "--models",
        metavar="DIR",
        help="folder of your own bundles and checkpoints, with sub-folders (default: the example models alone)",
    )
    parser.add_argument(
        "--data",
        metavar="DATA",
        action="append",
        default=[],
        help="data set to browse and check: a folder, an archive, a label file, a run or its configuration; repeatable "
        "(default: drawn scenes alone)",
    )
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
    parser.add_argument(
        "--root-path",
        default="",
        metavar="PATH",
        help="path under which a proxy shows it, /demo, or the whole address: https://lab.example:8443/demo",
    )
    parser.add_argument("--api-only", action="store_true", help="serve the routes for programs alone, without the page")
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes behind the port, with --api-only (%(default)s); each has models and limits of its own",
    )
    access = parser.add_argument_group("login and encryption")
    access.add_argument("--auth-file", metavar="FILE", help="accounts that may log in; nobody else is served")
    access.add_argument(
        "--add-user", metavar="NAME", help="ask for a password, add the account to --auth-file, and end"
    )
    access.add_argument("--ssl-certfile", metavar="FILE", help="certificate (pem), to serve by https")
    access.add_argument("--ssl-keyfile", metavar="FILE", help="private key of the certificate (pem)")
    add_limits(parser)


def run(args: argparse.Namespace) -> int:
    """Serves until interrupted."""
    if args.add_user is not None:
        return _add_user(args)
    check(args)
    if not (args.auth_file or is_local(args.host)):
        print(
            f"visionkit: --host {args.host}: everybody who reaches it may use the demo; --auth-file asks for a login",
            file=sys.stderr,
        )
    with (
        stopped_by_signal() as check_stopped,
        contextlib.closing(listen(args.host, args.port)) as door,
        tempfile.TemporaryDirectory(prefix="visionkit-") as scratch,
    ):
        if args.workers > 1:
            from ui.server.workers import Workers

            return Workers(args, door, Path(scratch)).run()
        serve(door, args, Path(scratch), check_stopped)
    return 0


def check(args: argparse.Namespace) -> None:
    """Finds what is wrong before anything slow is imported.

    Raises:
        DataError: No data lies where --data is.
        UsageError: A folder or file that is not there, or a value that is not allowed.
    """
    if args.models and not Path(args.models).is_dir():
        raise UsageError(f"--models {args.models}: no such folder")
    check_exists(args.data, "--data")
    if not re.fullmatch(r"cpu|cuda(:\d+)?|mps", args.device):
        raise UsageError(f"--device {args.device}: allowed are cpu, cuda, cuda:N and mps")
    if args.device != "cpu":
        from visionkit.engines import find_device

        find_device(args.device)  # a server that is ready and cannot predict would be sent requests
    split_root(args.root_path)
    if args.workers < 1:
        raise UsageError(f"--workers {args.workers}: at least 1")
    if args.workers > 1 and not args.api_only:
        raise UsageError(
            f"--workers {args.workers}: only with --api-only: the page keeps its visitors' sessions in one process"
        )
    if args.data and args.api_only:
        raise UsageError("--data: is shown on the page, which --api-only leaves out")
    if args.ssl_keyfile and not args.ssl_certfile:
        raise UsageError("--ssl-keyfile: belongs to a certificate; name it with --ssl-certfile")
    for option in ("ssl_certfile", "ssl_keyfile", "auth_file"):
        path = getattr(args, option)
        if path and not Path(path).is_file():
            raise UsageError(f"--{option.replace('_', '-')} {path}: no such file")
    if args.ssl_certfile:
        import ssl

        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(args.ssl_certfile, args.ssl_keyfile)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"--ssl-certfile {args.ssl_certfile}: is no certificate with its key, as pem ({error})"
            ) from None
    limits_of(args)


def split_root(root: str) -> tuple[str, str]:
    """What `--root-path` states: the address that visitors use, where it is given, and the path below it.

    Raises:
        UsageError: Neither a path nor an address.
    """
    found = re.fullmatch(r"(https?://[\w.-]+(?::\d+)?|https?://\[[0-9a-fA-F:]+\](?::\d+)?)?((?:/[\w.~-]+)*)", root)
    if found is None:
        raise UsageError(
            f"--root-path {root}: give a path that begins with / and ends without one, /demo, or the proxy's whole "
            "address: https://lab.example/demo"
        )
    return found[1] or "", found[2]


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _add_user(args: argparse.Namespace) -> int:
    import getpass

    from ui.server.login import add_account

    if not args.auth_file:
        raise UsageError("--add-user: state with --auth-file FILE where accounts are kept")
    asked = (
        getpass.getpass(f"Password of {args.add_user}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    )
    add_account(Path(args.auth_file), args.add_user, asked)
    print(f"{args.auth_file}: {args.add_user} may log in; a running server knows it when it is started again")
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, before anything slow is imported.

    Who asks early waits, and a taken port is reported at once.

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
        door.listen(BACKLOG)
    except OSError as error:
        door.close()
        raise EnvironmentFault(
            f"port {port} of {host}: {(error.strerror or str(error)).lower()}; choose another with --port "
            "(0 takes a free one)"
        ) from error
    return door


def _nothing() -> None:
    """There is nothing left to load."""


def serve(
    door: socket.socket,
    args: argparse.Namespace,
    scratch: Path,
    check_stopped: Callable[[], None],
    data_sets: Sequence[DataSet] = (),
    page: str = "",
    worker: Worker | None = None,
) -> None:
    """Serves the demo, or the interface alone, until the process is interrupted.

    Args:
        door: Socket that listens.
        args: Arguments of this verb.
        scratch: Folder of what visitors send and get.
        check_stopped: Raises again what ended the process while something was imported, see `stopped_by_signal`.
        data_sets: Data sets that are open already; they come before those of `--data`.
        page: Page whose address is printed; the first one by default.
        worker: Which of several processes this is; the only one by default.
    """
    from ui.server.factory import build, prepare

    prepare(scratch, args.megapixels)
    address = address_of(args.host, door, bool(args.ssl_certfile)) + split_root(args.root_path)[1]
    app, warm = build(args, address, scratch, data_sets)
    if worker is not None and not worker.is_first:
        with contextlib.suppress(Exception):  # the first one reports it, and so does the request that needs it
            warm()
        check_stopped()
        warm = _nothing
    shown = f"{address}/{page}" if page else address
    run_server(
        app,
        door,
        shown,
        check_stopped,
        warm,
        title="API" if args.api_only else "demo",
        encryption=(args.ssl_certfile, args.ssl_keyfile),
        debug=args.debug,
        grace=math.ceil(args.timeout) if args.api_only else GRACE,
        worker=worker,
    )


def address_of(host: str, door: socket.socket, encrypted: bool = False) -> str:
    """The address by which a browser of this machine reaches what listens there."""
    shown = host if host not in ("", "0.0.0.0", "::") else "127.0.0.1"
    return f"{'https' if encrypted else 'http'}://{f'[{shown}]' if ':' in shown else shown}:{door.getsockname()[1]}"


def run_server(
    app: Guard,
    door: socket.socket,
    address: str,
    check_stopped: Callable[[], None],
    warm: Callable[[], None] = _nothing,
    *,
    title: str = "demo",
    encryption: tuple[str | None, str | None] = (None, None),
    debug: bool = False,
    grace: int = GRACE,
    worker: Worker | None = None,
) -> None:
    """Serves an application until the process is interrupted.

    Args:
        app: The application.
        door: Socket that listens.
        address: Address that is printed once it can be used.
        check_stopped: Raises again what ended the process while something was imported, see `stopped_by_signal`.
        warm: What is done in the background once it listens.
        title: What the printed line calls it.
        encryption: Certificate and its key.
        debug: A failure of `warm` is raised, and not printed alone.
        grace: Seconds in which requests that came before the end get their response.
        worker: Which of several processes this is; the only one by default.
    """
    import uvicorn

    from ui.server.connections import limited_protocol, most_connections

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            door.listen(BACKLOG)  # of several processes too, whose own number is of those that one takes at once

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.end()  # open pages hold a stream each, which would be cut off with a traceback
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        http=limited_protocol(most_connections()),
        # As many are accepted before any can be closed again; by several processes one by one, so that all get some.
        backlog=64 if worker is None else 1,
        timeout_graceful_shutdown=grace,
        timeout_keep_alive=65,  # longer than those of browsers and proxies, so that no request meets a closing line
        lifespan="on",
        ssl_certfile=encryption[0],
        ssl_keyfile=encryption[1],
    )
    server = Server(config)
    check_stopped()
    line = f"visionkit {title}: {address}  (Ctrl+C ends it)"
    on_start = functools.partial(print, line, flush=True) if worker is None else functools.partial(worker.begin, line)
    threading.Thread(target=_warm, args=(server, on_start, warm, debug), daemon=True).start()
    server.run(sockets=[door])


def _warm(server: Any, on_start: Callable[[], None], warm: Callable[[], None], debug: bool) -> None:
    """Once the page is there, imports what is heavy and loads the first model, so that no visitor waits for it."""
    while not server.started:
        if server.should_exit:
            return
        time.sleep(0.01)
    on_start()
    try:
        warm()
    except Exception as error:
        # Whoever asks for this model sees it on the page; here it is for the one who started the server.
        print(f"visionkit: {error}", file=sys.stderr)
        if debug:
            raise
