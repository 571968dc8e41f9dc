"""The demo as an ASGI application for any server, its options in the environment variable VISIONKIT_SERVE.

    VISIONKIT_SERVE="--models runs --allow-host demo.lab" uvicorn ui.server:create_app --factory

The options are those of `visionkit serve`; address, port and encryption are the server's own to choose.
"""

from __future__ import annotations

import argparse
import atexit
import os
import shlex
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ui.server.allocator import keep_memory
from ui.server.limits import limits_of
from visionkit.errors import UsageError

if TYPE_CHECKING:
    from ui.data_sets import DataSet
    from ui.server.security_middleware import Application, Guard

OPTIONS = "VISIONKIT_SERVE"
"""The environment variable."""


def create_app() -> Application:
    """The application, with a temporary folder that goes when the process ends.

    Raises:
        UsageError: An option that `visionkit serve` would refuse.
    """
    from ui.cli import build_parser
    from ui.commands.serve import check, split_root

    args = build_parser("serve").parse(shlex.split(os.environ.get(OPTIONS, "")))
    check(args)
    if args.workers > 1:
        raise UsageError(f"{OPTIONS}: --workers is for `visionkit serve`; another server has an option of its own")
    scratch = Path(tempfile.mkdtemp(prefix="visionkit-"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    prepare(scratch, args.megapixels)
    app, warm = build(args, f"http://{args.host}:{args.port}{split_root(args.root_path)[1]}", scratch)

    def later() -> None:
        try:
            warm()
        except Exception as error:
            print(f"visionkit: {error}", file=sys.stderr)

    timer = threading.Timer(1.0, later)  # after the server has begun to listen
    timer.daemon = True
    timer.start()
    return app


def prepare(scratch: Path, megapixels: int = 0) -> None:
    """Sets what gradio, the hub's client and the decoder read once, when they are imported, and how memory is kept."""
    keep_memory()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = str(scratch / "cache")
    os.environ.setdefault("VISIONKIT_MAX_PIXELS", str(max(megapixels * 10**6, 150_000_000)))


def build(
    args: argparse.Namespace, address: str, scratch: Path, data_sets: Sequence[DataSet] = ()
) -> tuple[Guard, Callable[[], None]]:
    """The application, and what loads the heavy libraries and the first model once it listens.

    Args:
        args: Arguments of `visionkit serve`.
        address: Under which it is reached, for the text on how to use it from a program.
        scratch: Folder of what visitors send and get.
        data_sets: Data sets that are open already; they come before those of `--data`.
    """
    from ui.commands.serve import split_root
    from ui.data_sets import DataSets, named_data
    from ui.model_registry import ModelRegistry
    from ui.server.api import Settings, api_application
    from ui.server.limits import MB
    from ui.server.login import Accounts

    limits = limits_of(args)
    origin, path = split_root(args.root_path)
    model_registry = ModelRegistry(
        Path(args.models) if args.models else None, args.device, limits.memory_mb * MB, limits.public
    )
    warmed = threading.Event()

    def warm() -> None:
        try:
            import visionkit.drawing.detections  # and OpenCV, which most drawings need
            import visionkit.predictor  # noqa: F401

            first = next((entry for entry in model_registry.entries() if not entry.fault), None)
            if first is not None:
                loaded = model_registry.get(first.name)
                with loaded.lock:
                    loaded.predictor()
        finally:
            warmed.set()

    settings = Settings(
        model_registry,
        address,
        scratch,
        gallery=Path(args.gallery) if args.gallery else None,
        limits=limits,
        accounts=Accounts(Path(args.auth_file)) if args.auth_file else None,
        root_path=path,
        origin=origin,
        ready=warmed.is_set,
        data_sets=DataSets([*data_sets, *map(named_data, args.data, range(len(args.data)))]),
    )
    names = [*args.allow_host, *([urlsplit(origin).hostname or ""] if origin else [])]
    if args.api_only:
        return api_application(settings, args.host, names), warm
    from ui.server.app import application

    return application(settings, args.host, names), warm
