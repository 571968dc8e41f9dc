"""What a server allows, in one place: each number can be set from the command line and is reported on the page."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields

from visionkit.errors import UsageError

MB = 2**20


@dataclass(frozen=True)
class Limits:
    """What visitors may ask of a server.

    Attributes:
        concurrency: Images that are processed at the same time.
        queue: Requests that may wait; the next one is refused.
        timeout: Seconds from being admitted to a response for one image.
        upload_mb: Size of one uploaded file (an archive or a video), in MB of 2**20 bytes.
        image_mb: Size of one image's file, in MB.
        megapixels: Pixels of one image, from its header.
        keep_minutes: After that uploads and results are deleted.
        disk_mb: Uploads and results of all visitors together; the oldest go first.
        memory_mb: Weights of the models in memory; the least recently used go first.
        images: Images in one batch.
        seconds: Length of a video that is processed; the rest is left out, and that is reported.
        sessions: Visitors whose last response is kept in memory, so that controls redraw it without the network.
        public: Whether public names (`timm:resnet50`), whose weights are downloaded, may be asked for.
    """

    concurrency: int = 2
    queue: int = 64
    timeout: float = 120.0
    upload_mb: int = 256
    image_mb: int = 64
    megapixels: int = 50
    keep_minutes: float = 60.0
    disk_mb: int = 8192
    memory_mb: int = 2048
    images: int = 500
    seconds: float = 120.0
    sessions: int = 100
    public: bool = True

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.name != "public" and not getattr(self, each.name) > 0:
                raise UsageError(f"--{each.name.replace('_', '-')}: {getattr(self, each.name)} is not above 0")


_HELP = {
    "concurrency": "images that are processed at the same time",
    "queue": "requests that may wait; the next one is refused",
    "timeout": "seconds for the response on one image",
    "upload_mb": "size of an uploaded archive or video",
    "image_mb": "size of an image's file",
    "megapixels": "pixels of an image",
    "keep_minutes": "uploads and results are deleted after that time",
    "disk_mb": "uploads and results of all visitors together",
    "memory_mb": "weights of the models in memory; the least recently used go first",
    "images": "images in a batch",
    "seconds": "length of a video that is processed",
    "sessions": "visitors whose last response is kept for the controls that redraw it",
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
