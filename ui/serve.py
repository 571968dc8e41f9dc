"""Opens the web demo: choose a model, drop a picture, read what it shows.

It offers the bundled starters, the bundles and checkpoints under --models, and public names that are typed in
(timm:resnet50). It answers this machine alone unless --host says otherwise, and asks nothing of the internet
except for the weights of a public name.

  visionkit serve
  visionkit serve --models runs --port 8000
"""

from __future__ import annotations

import argparse

SUMMARY = "open the web demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("--models", metavar="DIR", help="folder of your own bundles and checkpoints, searched deeply")
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
    from ui.server import serve

    return serve(args)
