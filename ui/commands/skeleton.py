"""Writes out a skeleton: names of keypoints, flip pairs, edges and sigmas, as a yaml file to be changed and used.

SOURCE is a shipped name, a COCO label file whose categories name keypoints, a yaml file, or a model of poses. Without
one, the shipped skeletons are listed.

  visionkit skeleton crowdpose14
  visionkit skeleton person_keypoints_train.json --out mine.yaml
  visionkit fit ... --data.skeleton mine.yaml
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from visionkit.errors import EnvironmentFault, UsageError
from visionkit.wording import counted

if TYPE_CHECKING:
    from visionkit.skeleton import Skeleton

SUMMARY = "write the keypoints of a data set or a model as a yaml file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="a shipped name, a json, a yaml file or a model")
    parser.add_argument(
        "--category", metavar="NAME", help="which category of a json, where they have different keypoints"
    )
    parser.add_argument("--out", metavar="FILE", help="a new .yaml file; without it the text is printed")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")


def run(args: argparse.Namespace) -> int:
    """Prints or writes the skeleton."""
    from visionkit.families.keypoints.skeleton_names import skeleton_yaml

    if args.source is None:
        if args.out:
            raise UsageError("skeleton --out: SOURCE is needed")
        _list()
        return 0
    skeleton, notes = _skeleton(args.source, args.category or "")
    for note in notes:
        print(f"visionkit: {note}", file=sys.stderr)
    if not args.out:
        print(skeleton_yaml(skeleton), end="")
        return 0
    out = Path(args.out)
    if out.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--out {out}: the name of a skeleton's file ends in .yaml")
    if out.exists() and not args.overwrite:
        raise UsageError(f"--out {out}: already exists; give another name or --overwrite")
    try:
        out.write_text(skeleton_yaml(skeleton), encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(f"--out {out}: cannot be written ({error.strerror})") from error
    keypoints, pairs = counted(len(skeleton), "keypoint"), counted(len(skeleton.flip_pairs), "flip pair")
    print(f"{out}: {keypoints}, {pairs}, {counted(len(skeleton.edges), 'edge')}")
    return 0


def _list() -> None:
    from visionkit.skeleton import Skeleton, shipped

    for name in shipped():
        each = Skeleton.of(name)
        sigmas = "with sigmas" if each.sigmas else "without sigmas"
        print(f"{name:<16}{len(each):>4} keypoints ({each.subject}), {sigmas}")


def _skeleton(source: str, category: str) -> tuple[Skeleton, list[str]]:
    from visionkit.families.keypoints.skeleton_names import category_skeleton
    from visionkit.skeleton import Skeleton

    path = Path(source)
    if path.suffix.lower() == ".json" and path.is_file():
        return category_skeleton(path, category=category, option="--category")
    if category:
        raise UsageError("skeleton --category: is for a COCO label file")
    if path.suffix.lower() in (".yaml", ".yml") or not path.exists():
        return Skeleton.of(source), []
    from visionkit.checkpoint import load_task

    found = getattr(load_task(source), "skeleton", None)
    if not isinstance(found, Skeleton):
        raise UsageError(f"{source}: this model has no skeleton; give one of poses")
    return found, []
