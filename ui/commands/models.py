"""Lists the models there are: example models, your own, public names, and backbones to train on.

Without PATTERN it states where models come from and how many there are. PATTERN is text to look for or has wildcards
(resnet*); every name listed under backbones can be trained on (--model.backbone NAME), and those with public weights
for ImageNet can be used as they are (timm:NAME). A backbone's line has its parameters, the size of its input, the
license of its weights and whether they are at hand: in the cache, or installed with a package. hf-hub:USER lists models
of visionkit that somebody has published.

  visionkit models
  visionkit models convnext
  visionkit models 'vit_*_patch16_*' --weights
  visionkit models hf-hub:user
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from ui.known_models import Known, known
from visionkit.errors import UsageError, suggest
from visionkit.model_files import HUB

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
    if args.pattern is not None and args.pattern.startswith(f"{HUB}:"):
        return _published(args.pattern.removeprefix(f"{HUB}:"))
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
        _list("public weights", (there.weights_line(name) for name in weights), most)
    else:
        _list("backbones", map(there.backbone_line, networks), most)
    return 0


def matches(name: str, pattern: str) -> bool:
    """Whether a name fits: wildcards match it whole, text without any is looked for anywhere in it."""
    if not any(character in pattern for character in "*?["):
        pattern = f"*{pattern}*"
    return fnmatch(name.lower(), pattern.lower())


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


def _published(name: str) -> int:
    """Lists the models that somebody has published on the hub, or the facts of one."""
    from visionkit.hub import LIBRARY, Repository, asked, check_reachable

    if "/" not in name:
        what = f"{HUB}:{name}"
        check_reachable(what)
        found = asked(what, lambda api: list(api.list_models(author=name or None, filter=LIBRARY, limit=SHOWN)))
        if not found:
            raise UsageError(f"{what}: has published no model of {LIBRARY}")
        _list("published", (f"{HUB}:{each.id}  {each.pipeline_tag or ''}".rstrip() for each in found))
        return 0
    repository = Repository.of(name)
    check_reachable(str(repository))
    info = asked(repository, lambda api: api.model_info(repository.id, revision=repository.revision, timeout=10))
    facts = {"task": info.pipeline_tag, "library": info.library_name, "commit": info.sha, "tags": info.tags}
    facts |= {"files": sorted(each.rfilename for each in info.siblings or ())}
    print(repository)
    for key, value in facts.items():
        if value:
            print(f"  {key}: {', '.join(value) if isinstance(value, list) else value}")
    print(f"  visionkit predict {repository} IMAGES")
    return 0


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
