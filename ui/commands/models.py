"""Lists the models there are: example models, your own, public names, and backbones to train on.

Without PATTERN it states where models come from and how many there are. PATTERN is text to look for or has wildcards
(resnet*); every name listed under backbones can be trained on (--model.backbone NAME), and those with public weights
for ImageNet can be used as they are (timm:NAME).

  visionkit models
  visionkit models convnext
  visionkit models 'vit_*_patch16_*' --weights
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from visionkit.errors import UsageError, suggest

if TYPE_CHECKING:
    from ui.model_registry import ModelEntry

SUMMARY = "list example models, your own models, public names and backbones"

SHOWN = 60
"""Names listed unless --all is given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument(
        "pattern", metavar="PATTERN", nargs="?", help="text to look for in the name; may have wildcards"
    )
    parser.add_argument(
        "--models", metavar="DIR", action="append", help="folders of your own models (runs and models where they exist)"
    )
    parser.add_argument(
        "--weights", action="store_true", help="list public weights (resnet50.a1_in1k) in place of networks"
    )
    parser.add_argument("--all", action="store_true", help=f"list more than {SHOWN} names")


def run(args: argparse.Namespace) -> int:
    """Prints the lists."""
    from ui.model_registry import find_example_models, find_models

    folders = [Path(folder) for folder in args.models or [f for f in ("runs", "models") if Path(f).is_dir()]]
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"--models {folder}: no such folder")
    pattern = args.pattern or "*"

    def wanted(entries: Iterable[ModelEntry]) -> list[ModelEntry]:
        return [entry for entry in entries if matches(entry.name, pattern) or matches(entry.task, pattern)]

    example_models = wanted(find_example_models())
    own = wanted(entry for folder in folders for entry in find_models(folder))
    there = known()
    if args.pattern is None:
        _overview(example_models, own, folders, there)
        return 0
    most = None if args.all else SHOWN
    networks = [name for name in there.backbones if matches(name, pattern)]
    weights = [f"{name}.{tag}" for name, tags in there.backbones.items() for tag in tags]
    weights = [name for name in weights if matches(name, pattern)]
    if not (example_models or own or networks or weights):
        names = (*there.backbones, *(entry.name for entry in find_example_models()))
        raise UsageError(f"no model matches {pattern!r}{suggest(pattern.strip('*?'), names)}")
    _list("example models", map(_described, example_models))
    _list("your own", map(_described, own))
    if args.weights or not networks:
        _list("public weights", weights, most)
    else:
        sets = {name: len(there.backbones[name]) for name in networks}
        _list(
            "backbones",
            (
                f"{name}  {f'{n} public weights' if n > 1 else 'public weights' if n else ''}".rstrip()
                for name, n in sets.items()
            ),
            most,
        )
    return 0


def matches(name: str, pattern: str) -> bool:
    """Whether a name fits: wildcards match it whole, text without any is looked for anywhere in it."""
    if not any(character in pattern for character in "*?["):
        pattern = f"*{pattern}*"
    return fnmatch(name.lower(), pattern.lower())


@dataclass(frozen=True)
class Known:
    """What the installed packages offer.

    Attributes:
        backbones: Each name with the tags of its public weights.
        schemes: Each source of public models (`timm`) with the tasks that take from it.
    """

    backbones: dict[str, list[str]]
    schemes: dict[str, list[str]]


def known() -> Known:
    """Backbones and public names.

    To ask for them takes seconds (timm and the tasks import torch), so the response is kept in the user's cache folder,
    one file for each combination of versions.
    """
    from importlib.metadata import version

    import visionkit
    from visionkit.registry import task_names

    classic = Path(str(visionkit.__file__)).parent / "backbones" / "classic"
    changed = max((int(path.stat().st_mtime) for path in classic.glob("*.py")), default=0)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parts = (version("visionkit"), version("timm"), f"{changed:x}", "-".join(task_names()))
    kept = home / "visionkit" / f"models-{'_'.join(parts)[:200]}.json"
    try:
        return Known(**json.loads(kept.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        pass  # not kept yet, or spoiled: made again below
    prediction = _ask()
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(asdict(prediction)), "utf-8")
        part.replace(kept)
    except OSError:
        pass  # a cache that cannot be written costs seconds, nothing else
    return prediction


def _ask() -> Known:
    from visionkit.backbones import backbone_names
    from visionkit.registry import task_class, task_names

    backbones: dict[str, list[str]] = {name: [] for name in backbone_names()}
    for name in backbone_names(tags=True):
        architecture, _, tag = name.partition(".")
        backbones.setdefault(architecture, []).append(tag)
    schemes: dict[str, list[str]] = {}
    for task in task_names():
        for scheme in task_class(task).public_schemes:
            schemes.setdefault(scheme, []).append(task)
    return Known(backbones, schemes)


def _described(entry: ModelEntry) -> str:
    what = f"cannot be used: {entry.fault}" if entry.fault else ", ".join(filter(None, (entry.task, entry.summary)))
    return f"{entry.path}  {what}"


def _overview(
    example_models: Sequence[ModelEntry], own: Sequence[ModelEntry], folders: Sequence[Path], there: Known
) -> None:
    _list("example models", map(_described, example_models))
    if own:
        _list("your own", map(_described, own), SHOWN)
    else:
        looked = " or ".join(map(str, folders)) or "runs or models"
        print(f"your own: none in {looked} (--models DIR names another folder)\n")
    weights = sum(map(len, there.backbones.values()))
    print(f"backbones: {len(there.backbones):,}, with {weights:,} sets of public weights")
    print("  visionkit models PATTERN lists them; each can be trained on: --model.backbone NAME\n")
    print("public names:")
    for scheme, tasks in there.schemes.items():
        print(f"  {scheme}:NAME  {', '.join(tasks)}, as it is: visionkit predict {scheme}:NAME photo.jpg")


def _list(title: str, rows: Iterable[str], most: int | None = None) -> None:
    rows = list(rows)
    if not rows:
        return
    print(f"{title}: {len(rows)}")
    for row in rows[:most]:
        print(f"  {row}")
    if most is not None and len(rows) > most:
        print(f"  ... and {len(rows) - most} more (--all lists them)")
    print()
