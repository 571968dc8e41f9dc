"""`visionkit scenes`: writes the scene generator's data set, images or clips, in the formats that people have."""

from __future__ import annotations

import argparse
import sys

from ui.paths import check_new_folder
from visionkit.errors import UsageError
from visionkit.wording import counted

SUMMARY = "write a drawn data set with labels for every task"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--out", required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--count", type=int, default=200, help="scenes over all splits (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other scenes (default: 0)")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(120, 160),
        metavar=("H", "W"),
        help="height and width in pixels (default: 120 160)",
    )
    parser.add_argument(
        "--max-size",
        type=int,
        nargs=2,
        default=None,
        metavar=("H", "W"),
        help="let every image have its own size, up to this",
    )
    clips = parser.add_argument_group("for videos")
    clips.add_argument(
        "--clips",
        type=int,
        metavar="N",
        help="write N drawn clips in place of scenes, as MOTChallenge, DAVIS and ImageNet VID have theirs",
    )
    clips.add_argument("--clip-length", type=int, metavar="T", help="frames of a clip (default: 10)")
    clips.add_argument(
        "--clip-blur", type=float, metavar="B", help="longest exposure of a frame, in frames (default: 0)"
    )


def run(args: argparse.Namespace) -> int:
    """Writes the scenes and reports the result. Returns the exit status."""
    check_new_folder(args.out)
    if args.clips is not None and (args.max_size is not None or args.count != 200):
        raise UsageError("--clips: writes clips in place of scenes; leave --count and --max-size out")
    if args.clips is None and (args.clip_length is not None or args.clip_blur is not None):
        raise UsageError("--clip-length, --clip-blur: are for clips; give their number with --clips N")
    from rich.console import Console
    from rich.progress import Progress

    kind = "scene" if args.clips is None else "clip"
    count = args.count if args.clips is None else args.clips
    max_size = None if args.max_size is None else tuple(args.max_size)
    # Progress goes to standard error, so that what is printed can be read by another program.
    with Progress(console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(f"{kind}s", total=count)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if args.clips is None:
            from visionkit.synthetic.files import write_scenes

            numbers = write_scenes(args.out, count, args.seed, tuple(args.size), max_size, progress=progress)
        else:
            from visionkit.synthetic import ClipSettings
            from visionkit.synthetic.clip_files import write_clips

            length, blur = 10 if args.clip_length is None else args.clip_length, args.clip_blur or 0.0
            settings = ClipSettings(size=tuple(args.size), length=length, blur=blur)
            numbers = write_clips(args.out, count, args.seed, settings, progress=progress)
    fractions = ", ".join(f"{number} {split}" for split, number in numbers.items())
    print(f"{counted(sum(numbers.values()), kind)} in {args.out} ({fractions}); what is where: {args.out}/README.txt")
    return 0
