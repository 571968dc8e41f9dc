"""`visionkit convert --to shards`: opens data of any task and writes its samples."""

from __future__ import annotations

import argparse
from pathlib import Path

from ui.data_opening import check_named, open_named
from ui.paths import check_new_folder
from ui.progress_bar import image_progress
from visionkit.errors import UsageError
from visionkit.wording import counted

_OF_OBJECTS = ("--from", "--labels", "--images", "--skeleton")


def write(args: argparse.Namespace) -> int:
    """Writes the shards and prints what they hold; returns the exit status.

    Args:
        args: What `visionkit convert` was given.

    Raises:
        DataError: The data cannot be read.
        UsageError: No data is named, or samples that no shard can hold.
    """
    args.data, args.model = args.source, None
    check_named(args)
    check_new_folder(args.out)
    for option in _OF_OBJECTS:
        if getattr(args, option.strip("-").replace("from", "given")):
            raise UsageError(
                f"{option}: belongs to formats of objects; name a reader with --data CLASS and its options"
            )
    splitting = {name: getattr(args, name) for name in ("val_fraction", "test_fraction", "split_seed")}
    splitting = {name: value for name, value in splitting.items() if value}
    if splitting and (args.reader or args.config):
        name = next(iter(splitting))
        raise UsageError(f"--{name}: give --data.{name} where the data is named by a reader or a configuration")
    if args.shard_mb is None:
        args.shard_mb = 256
    from datamodules.shard_writer import write_shards

    data, _ = open_named(args, **splitting)
    with image_progress() as progress:
        found = write_shards(data, Path(args.out), args.shard_mb, lambda split, done, total: progress(done, total))
    samples = ", ".join(f"{number:,} {split}" for split, number in found.items())
    print(f"{counted(sum(found.values()), 'sample')} ({samples}): {args.out}")
    return 0
