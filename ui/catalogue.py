"""The models that the demo offers: found without opening weights, loaded once when first asked for.

Finding reads `model.json` files and file names alone, so that a page can be shown before torch is there.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionkit.errors import CheckpointError, UsageError, VisionKitError, suggest

if TYPE_CHECKING:
    from visionkit.predictor import Predictor

STARTERS = Path(__file__).parent / "starters"
"""`<task>/<name>/`, one bundle each."""

_FACTS, _WEIGHTS = "model.json", "model.safetensors"
_PUBLIC = re.compile(r"[a-z][a-z0-9_]+:[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?")


@dataclass(frozen=True)
class Entry:
    """One model in the list.

    Attributes:
        name: What it is chosen by; a name, never a path from outside.
        path: The bundle folder, the checkpoint, or the public name.
        task: Name of its task; empty where only loading would tell.
        title: For people.
        card: Facts from `model.json`.
        config: The task's arguments from `model.json`.
        starter: Comes with visionkit.
        fault: Why it cannot be used, or empty.
    """

    name: str
    path: str
    task: str = ""
    title: str = ""
    card: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    starter: bool = False
    fault: str = ""

    @property
    def summary(self) -> str:
        """One line about it."""
        return str(self.card.get("summary", ""))


def find_starters() -> list[Entry]:
    """The bundles that come with visionkit, by task and name."""
    folders = sorted(path.parent for path in STARTERS.glob(f"*/*/{_FACTS}"))
    return [_bundle(folder, f"{folder.parent.name}/{folder.name}", starter=True) for folder in folders]


def find_models(folder: Path) -> list[Entry]:
    """The bundles and checkpoints below a folder, by path; one that cannot be read is listed with its fault."""
    found = [path.parent for path in folder.rglob(_FACTS)] + list(folder.rglob("*.ckpt"))
    entries = []
    for path in sorted(set(found)):
        name = path.relative_to(folder).as_posix() if path != folder else folder.name
        if path.is_dir():
            entries.append(_bundle(path, name))
        else:
            fault = "" if path.stat().st_size else "empty (0 bytes)"
            entries.append(Entry(name, str(path), title=name, fault=fault))
    return entries


def _bundle(folder: Path, name: str, starter: bool = False) -> Entry:
    try:
        facts = json.loads((folder / _FACTS).read_text("utf-8"))
        task, config, card = facts["task"], facts["config"], facts.get("card") or {}
        if not (isinstance(task, str) and isinstance(config, dict) and isinstance(card, dict)):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError):
        return Entry(name, str(folder), title=name, starter=starter, fault=f"its {_FACTS} cannot be read")
    fault = "" if (folder / _WEIGHTS).is_file() else f"it has no {_WEIGHTS}"
    return Entry(name, str(folder), task, str(card.get("name") or name), card, config, starter, fault)


class Catalogue:
    """Models by name, each loaded once and shared; the least recently used ones are let go.

    Args:
        folder: Of the user's own models, searched anew whenever the list is asked for.
        device: What to compute on.
        keep: How many loaded models stay in memory.
    """

    def __init__(self, folder: Path | None = None, device: str = "cpu", keep: int = 3) -> None:
        self._folder, self._device, self._keep = folder, device, keep
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._lock = threading.Lock()

    def entries(self) -> list[Entry]:
        """Every model that can be chosen: starters first, then the user's own."""
        starters = find_starters()
        own = find_models(self._folder) if self._folder else []
        taken = {entry.name for entry in starters}
        return starters + [entry if entry.name not in taken else _renamed(entry) for entry in own]

    def entry(self, name: str) -> Entry:
        """The model of that name, or the public name itself.

        Raises:
            UsageError: Unknown, with the nearest name.
        """
        entries = {entry.name: entry for entry in self.entries()}
        if name in entries:
            return entries[name]
        if len(name) < 200 and _PUBLIC.fullmatch(name):
            return Entry(name, name, title=name)
        raise UsageError(
            f"unknown model {name[:80]!r}; choose one of the list or type a public name such as timm:resnet50"
            f"{suggest(name[:80], entries)}"
        )

    def get(self, name: str) -> Loaded:
        """The model, loaded if it is not yet; two who ask at once wait for the same loading.

        Raises:
            VisionKitError: Unknown, or it cannot be loaded; the next call tries again.
        """
        entry = self.entry(name)
        stamp = _stamp(Path(entry.path))
        if entry.fault:
            raise CheckpointError(f"{entry.name}: {entry.fault}")
        with self._lock:
            loaded = self._loaded.get(entry.name)
            if loaded is None or loaded.stamp != stamp:
                loaded = self._loaded[entry.name] = Loaded(entry, stamp, self._device)
            self._loaded.move_to_end(entry.name)
            while len(self._loaded) > self._keep:
                self._loaded.popitem(last=False)
        return loaded

    def __iter__(self) -> Iterator[str]:
        """Names of the models in memory, the least recently used first."""
        return iter(list(self._loaded))


class Loaded:
    """A model in memory, or about to be.

    Attributes:
        entry: What it is.
        stamp: Of the file, so that a checkpoint that training has replaced is read anew.
        lock: Held while it loads and while it computes.
    """

    def __init__(self, entry: Entry, stamp: float, device: str) -> None:
        self.entry, self.stamp, self._device = entry, stamp, device
        self.lock = threading.Lock()
        self._predictor: Predictor | None = None

    def predictor(self) -> Predictor:
        """The predictor; call it with `lock` held.

        Raises:
            VisionKitError: It cannot be loaded.
        """
        if self._predictor is None:
            from visionkit.predictor import load

            try:
                self._predictor = load(self.entry.path, device=self._device)
            except VisionKitError as error:
                # A visitor is told the model's name; where it lies on the server is nobody's business.
                raise type(error)(str(error).replace(self.entry.path, self.entry.name)) from error
        return self._predictor


def _renamed(entry: Entry) -> Entry:
    from dataclasses import replace

    return replace(entry, name=f"own/{entry.name}")


def _stamp(path: Path) -> float:
    target = path / _WEIGHTS if path.is_dir() else path
    try:
        return target.stat().st_mtime
    except OSError:
        return 0.0
