"""The models that the demo offers: found without opening weights, loaded once when first asked for.

Finding reads `model.json` files and file names alone, so that a page can be shown before torch is there.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.joined_requests import JoinedRequests
from visionkit.errors import CheckpointError, UsageError, VisionKitError, suggest
from visionkit.model_facts import WEIGHTS, read_facts, require_file
from visionkit.model_files import FACTS
from visionkit.registry import task_pages

if TYPE_CHECKING:
    from visionkit.predictor import Predictor

EXAMPLE_MODELS = Path(__file__).parent / "starters"
"""`<task>/<name>/`: a bundle, or a `public.json` where an installed package holds the weights."""

PUBLIC_FACTS = "public.json"
"""Public name, task and model card of an example model that is no bundle."""

Stamp = tuple[int, ...]
"""When the files of a model were written."""

MEMORY = 2 * 2**30
"""Bytes of weights that stay in memory where nobody asks for another budget."""

VAIN = 16
"""Models that were asked for and are not loaded, of which something is remembered."""

_PUBLIC = re.compile(r"[a-z][a-z0-9_]+:[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?")


@dataclass(frozen=True)
class ModelEntry:
    """One model in the list.

    Attributes:
        name: What it is chosen by; a name, never a path from outside.
        path: The bundle folder, the checkpoint, or the public name.
        task: Name of its task; empty where only loading would show.
        title: For people.
        card: Facts from `model.json`.
        config: The task's arguments from `model.json`.
        example_model: Comes with visionkit.
        fault: Why it cannot be used, or empty.
        inputs: Names of its inputs, the reference first; empty where it does not state them.
    """

    name: str
    path: str
    task: str = ""
    title: str = ""
    card: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    example_model: bool = False
    fault: str = ""
    inputs: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """One line about it."""
        return str(self.card.get("summary", ""))


def finds_boxes(entry: ModelEntry) -> bool:
    """Whether a model finds objects, as far as its task is known."""
    from visionkit.predictions import Detections, Instances

    page = task_pages().get(entry.task)
    return page is not None and bool(page.kinds) and {Detections.kind, Instances.kind}.issuperset(page.kinds)


def find_example_models() -> list[ModelEntry]:
    """What comes with visionkit: public models of installed packages, then bundles, by task and name."""
    public = [json.loads(path.read_text("utf-8")) for path in sorted(EXAMPLE_MODELS.glob(f"*/*/{PUBLIC_FACTS}"))]
    folders = sorted(path.parent for path in EXAMPLE_MODELS.glob(f"*/*/{FACTS}"))
    return [
        *(
            ModelEntry(each["model"], each["model"], each["task"], each["card"]["name"], each["card"], {}, True)
            for each in public
        ),
        *(_bundle(folder, f"{folder.parent.name}/{folder.name}", example_model=True) for folder in folders),
    ]


def find_models(folder: Path) -> list[ModelEntry]:
    """The bundles and checkpoints below a folder, by path; one that cannot be read is listed with its fault."""
    found = []
    for place, folders, files in os.walk(folder):  # what cannot be listed, or is gone by now, is passed over
        folders[:] = [name for name in folders if not name.startswith(".")]  # half-written ones among them
        here = Path(place)
        found += [here] if FACTS in files else []
        found += [here / name for name in (*files, *folders) if name.endswith(".ckpt") and not name.startswith(".")]
    entries = []
    for path in sorted(set(found)):
        name = path.relative_to(folder).as_posix() if path != folder else folder.name
        if path.suffix != ".ckpt" or path.is_dir():
            entries.append(_bundle(path, name))
        elif os.path.lexists(path):  # a training replaces its checkpoints while they are listed
            entries.append(ModelEntry(name, str(path), title=name, fault=_file_fault(path)))
    return entries


def _file_fault(path: Path) -> str:
    """Why a checkpoint cannot be opened, as far as the file system states."""
    try:
        return "" if require_file(path) else "empty (0 bytes)"
    except CheckpointError:
        return "not an ordinary file"
    except FileNotFoundError:
        return "a link to a file that does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


@lru_cache(maxsize=4096)
def _facts(folder: Path, stamp: Stamp) -> dict[str, Any]:
    """What a bundle states of itself, checked once: the list of models is made for every visitor and page."""
    return read_facts(folder)


def _bundle(folder: Path, name: str, example_model: bool = False) -> ModelEntry:
    try:
        stamp = _stamp(folder)
        facts = _facts(folder, stamp) if stamp else read_facts(folder)
    except CheckpointError as error:
        # Where it lies on the server is not for visitors.
        fault = str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), name)
        return ModelEntry(name, str(folder), title=name, example_model=example_model, fault=fault)
    task, config, card = facts["task"], facts["config"], facts["card"]
    fault = "" if (folder / WEIGHTS).is_file() else f"it has no {WEIGHTS}"
    title, inputs = str(card.get("name") or name), tuple(facts["inputs"] or ())
    return ModelEntry(name, str(folder), task, title, card, config, example_model, fault, inputs)


class ModelRegistry:
    """Models by name, each loaded once and shared; the least recently used ones are let go.

    Args:
        folder: Folder of the user's own models, searched again whenever the list is asked for.
        device: What to compute on.
        memory: Bytes of weights that stay in memory.
        public: Whether public names, whose weights are downloaded, may be asked for.
    """

    def __init__(
        self, folder: Path | None = None, device: str = "cpu", memory: int = MEMORY, public: bool = True
    ) -> None:
        self._folder, self._device, self.memory, self.public = folder, device, memory, public
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._lock = threading.Lock()
        self._read: dict[
            str, tuple[Stamp, str, dict[str, Any], tuple[str, ...]]
        ] = {}  # what checkpoints state of themselves

    @property
    def folder(self) -> Path | None:
        """Folder of the user's own models."""
        return self._folder

    def entries(self) -> list[ModelEntry]:
        """Every model that can be chosen: example models first, then the user's own."""
        example_models = find_example_models()
        own = find_models(self._folder) if self._folder else []
        taken = {entry.name for entry in example_models}
        return example_models + [entry if entry.name not in taken else _renamed(entry) for entry in own]

    def entry(self, name: str) -> ModelEntry:
        """The model of that name, or the public name itself.

        Raises:
            UsageError: Unknown, with the nearest name.
        """
        entries = {entry.name: entry for entry in self.entries()}
        if name in entries:
            return entries[name]
        if len(name) < 200 and _PUBLIC.fullmatch(name):
            if not self.public:
                raise UsageError(f"{name}: this server downloads no public models; choose one of the list")
            return ModelEntry(name, name, title=name)
        raise UsageError(
            f"unknown model {name[:80]!r}; choose one of the list or type a public name such as timm:resnet50"
            f"{suggest(name[:80], entries)}"
        )

    def inputs(self, name: str | None, opened: bool = False, task: str | None = None) -> tuple[str, ...]:
        """The names of a model's inputs, the reference first; those of its task where it does not state its own.

        Args:
            name: Name of the model.
            opened: Whether a checkpoint may be opened, which imports torch.
            task: Name of its task where the model itself does not state it.

        Returns:
            A single image where nothing is known.
        """
        loaded = self.loaded(name.strip()) if name else None
        if loaded is not None:
            return loaded.inputs
        entry = next((each for each in self.entries() if name and each.name == name.strip()), None)
        if entry is not None and opened:
            entry = self.known(entry)
        if entry is not None and entry.inputs:
            return entry.inputs
        page = task_pages().get((entry.task if entry is not None else "") or task or "")
        return page.inputs if page is not None else ("image",)

    def known(self, entry: ModelEntry) -> ModelEntry:
        """An entry with its task, arguments and inputs; a checkpoint's are read from the file, which imports torch.

        Args:
            entry: Entry of `entries`. One that cannot be read, or a public name, stays as it is.
        """
        if entry.task or entry.fault or entry.path == entry.name:
            return entry
        from dataclasses import replace

        from visionkit.checkpoint import read_model

        stamp = _stamp(Path(entry.path))
        found = self._read.get(entry.path)
        if found is None or found[0] != stamp:
            try:
                model = read_model(entry.path)
                found = stamp, model.task, model.config, tuple(model.inputs or ())
            except (VisionKitError, OSError):  # whoever asks for the model itself is reported
                found = stamp, "", {}, ()
            self._read[entry.path] = found
        return replace(entry, task=found[1], config=found[2], inputs=found[3])

    def get(self, name: str) -> Loaded:
        """The model, loaded if it is not yet; two who ask at once wait for the same loading.

        Raises:
            VisionKitError: Unknown, or it cannot be loaded; the next call tries again.
        """
        with self._lock:
            known = self._loaded.get(name)
            if known is not None and known.is_ready and known.stamp == _stamp(Path(known.entry.path)):
                self._loaded.move_to_end(name)  # listing all models would take longer than many a network
                return known
        entry = self.entry(name)
        path = Path(entry.path)
        stamp, weights = _stamp(path), _weights(path)
        if entry.fault:
            raise CheckpointError(f"{entry.name}: {entry.fault}")
        if weights > self.memory:
            raise CheckpointError(
                f"{entry.name}: {weights / 2**20:.0f} MB of weights are more than the {self.memory / 2**20:.0f} MB "
                "that this server keeps in memory; start it with a larger --memory-mb"
            )
        with self._lock:
            loaded = self._loaded.get(entry.name)
            if loaded is None or loaded.stamp != stamp:
                loaded = self._loaded[entry.name] = Loaded(entry, stamp, self._device, self._trim)
            self._loaded.move_to_end(entry.name)
            vain = [name for name, each in self._loaded.items() if not (each.is_ready or each.lock.locked())]
            for old in vain[:-VAIN]:  # names that nothing could be loaded for
                del self._loaded[old]
        return loaded

    def loaded(self, name: str) -> Loaded | None:
        """The model of that name where it is in memory."""
        with self._lock:
            loaded = self._loaded.get(name)
        return loaded if loaded is not None and loaded.is_ready else None

    @property
    def size(self) -> int:
        """Bytes of the weights in memory."""
        with self._lock:
            return sum(loaded.size for loaded in self._loaded.values())

    def _trim(self, latest: Loaded) -> None:
        """Lets the least recently used go while there is too much; those that compute now go last of all."""
        with self._lock:
            for busy in (False, True):
                for name, loaded in list(self._loaded.items()):
                    if sum(each.size for each in self._loaded.values()) <= self.memory:
                        return
                    if loaded is not latest and (busy or not loaded.lock.locked()):
                        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        """Names of the models in memory, the least recently used first."""
        with self._lock:
            return iter([name for name, loaded in self._loaded.items() if loaded.is_ready])


class Loaded:
    """A model in memory, or about to be.

    Attributes:
        entry: What it is.
        stamp: Stamp of its files, so that a checkpoint that training has replaced is read again.
        lock: Held while it loads and while it computes.
        joined: The requests that wait for it.
        size: Bytes of its weights, 0 until it is loaded.
    """

    def __init__(self, entry: ModelEntry, stamp: Stamp, device: str, when_loaded: Callable[[Loaded], None]) -> None:
        self.entry, self.stamp, self._device, self._when_loaded = entry, stamp, device, when_loaded
        self.lock, self.size, self.joined = threading.Lock(), 0, JoinedRequests()
        self._predictor: Predictor | None = None

    @property
    def is_ready(self) -> bool:
        """It is loaded."""
        return self._predictor is not None

    @property
    def task(self) -> str:
        """Name of its task; empty where only loading would show and it is not loaded."""
        predictor = self._predictor
        return self.entry.task or (predictor.task.name if predictor is not None else "")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of its inputs, the reference first; empty until it is loaded."""
        predictor = self._predictor
        return tuple(predictor.task.inputs) if predictor is not None else ()

    def ready(self) -> Predictor:
        """The predictor; where it is loaded, whoever asks does not wait for what it computes.

        Raises:
            VisionKitError: It cannot be loaded.
        """
        if self._predictor is not None:
            return self._predictor
        with self.lock:
            return self.predictor()

    def predictor(self) -> Predictor:
        """The predictor; call it with `lock` held.

        Raises:
            VisionKitError: It cannot be loaded.
        """
        if self._predictor is None:
            from visionkit.predictor import load

            try:
                predictor = load(self.entry.path, device=self._device)
            except VisionKitError as error:
                # Visitors see the model's name; where it lies on the server is nobody's business.
                raise type(error)(str(error).replace(self.entry.path, self.entry.name)) from error
            predictor.task.source = self.entry.name
            tensors = (*predictor.task.parameters(), *predictor.task.buffers())
            self.size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            self._predictor = predictor
            self._when_loaded(self)
        return self._predictor


def _renamed(entry: ModelEntry) -> ModelEntry:
    from dataclasses import replace

    return replace(entry, name=f"own/{entry.name}")


def _stamp(path: Path) -> Stamp:
    """When the files of a model were written, facts and weights or one checkpoint; nothing of a public name."""
    files = (path / FACTS, path / WEIGHTS) if path.is_dir() else (path,)
    try:
        return tuple(file.stat().st_mtime_ns for file in files)
    except OSError:
        return ()


def _weights(path: Path) -> int:
    """Bytes of the file with the weights; 0 for a public name."""
    target = path / WEIGHTS if path.is_dir() else path
    try:
        return target.stat().st_size
    except OSError:
        return 0
