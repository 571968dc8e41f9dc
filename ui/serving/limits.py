"""What a server allows, in one place: each number can be set from the command line and is told on the page."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields

from visionkit.errors import UsageError

MB = 2**20


@dataclass(frozen=True)
class Limits:
    """What visitors may ask of a server.

    Attributes:
        concurrency: Pictures that are answered at the same time.
        queue: Requests that may wait; the next one is refused.
        timeout: Seconds from being admitted to an answer for one picture.
        upload_mb: Size of one uploaded file (an archive or a video), in MB of 2**20 bytes.
        picture_mb: Size of one picture's file, in MB.
        megapixels: Pixels of one picture, from its header.
        keep_minutes: After that uploads and results are deleted.
        disk_mb: Uploads and results of all visitors together; the oldest go first.
        memory_mb: Weights of the models in memory; the least recently used go first.
        pictures: Pictures in one batch.
        seconds: Length of a video that is looked at; the rest is left out, and that is told.
        sessions: Visitors whose last answer is kept in memory, so that knobs redraw it without the network.
        public: Whether public names (`timm:resnet50`), whose weights are downloaded, may be asked for.
    """

    concurrency: int = 2
    queue: int = 64
    timeout: float = 120.0
    upload_mb: int = 256
    picture_mb: int = 64
    megapixels: int = 50
    keep_minutes: float = 60.0
    disk_mb: int = 8192
    memory_mb: int = 2048
    pictures: int = 500
    seconds: float = 120.0
    sessions: int = 100
    public: bool = True

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.name != "public" and not getattr(self, each.name) > 0:
                raise UsageError(f"--{each.name.replace('_', '-')}: {getattr(self, each.name)} is not above 0")


_HELP = {
    "concurrency": "pictures that are answered at the same time",
    "queue": "requests that may wait; the next one is refused",
    "timeout": "seconds for the answer on one picture",
    "upload_mb": "size of an uploaded archive or video",
    "picture_mb": "size of a picture's file",
    "megapixels": "pixels of a picture",
    "keep_minutes": "uploads and results are deleted after that time",
    "disk_mb": "uploads and results of all visitors together",
    "memory_mb": "weights of the models in memory; the least recently used go first",
    "pictures": "pictures in a batch",
    "seconds": "length of a video that is looked at",
    "sessions": "visitors whose last answer is kept for the knobs that redraw it",
}


def add_limits(parser: argparse.ArgumentParser) -> None:
    """An option for each limit."""
    group = parser.add_argument_group("limits")
    for each in fields(Limits):
        if each.name == "public":
            continue
        kind = float if isinstance(each.default, float) else int
        group.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=kind,
            default=each.default,
            metavar="N",
            help=f"{_HELP[each.name]} (%(default)s)",
        )
    group.add_argument(
        "--no-public", action="store_true", help="refuse public names (timm:resnet50), whose weights are downloaded"
    )


def limits_of(args: argparse.Namespace) -> Limits:
    """What the command line asks for.

    Raises:
        UsageError: A number that is not above 0.
    """
    names = [each.name for each in fields(Limits) if each.name != "public"]
    return Limits(**{name: getattr(args, name) for name in names}, public=not args.no_public)
