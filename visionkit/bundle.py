"""A model to hand out: a folder with `model.safetensors`, `model.json`, a model card and, where asked, `model.onnx`.

safetensors holds numbers alone, so opening a bundle from anywhere cannot run code. `model.json` holds what is needed to
build the task, and what is known about the weights: the data, its terms, the command, the results with their protocol.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import math
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import torch
from torch import Tensor

from visionkit.atomic import atomic_folder
from visionkit.construction import Justified
from visionkit.errors import CheckpointError, UsageError
from visionkit.model_facts import FORMAT, MAX_BYTES, WEIGHTS, file_hash, read_facts, require_file
from visionkit.model_files import FACTS, is_bundle

if TYPE_CHECKING:
    from visionkit.task import VisionTask

CARD, GRAPH = "README.md", "model.onnx"

_CARD_TITLES = {"data": "Data", "terms": "Terms", "command": "Command", "seed": "Seed"}


@dataclass(frozen=True)
class Bundle:
    """What `model.json` states, read and checked.

    Attributes:
        folder: The bundle.
        task: Name of the task.
        config: Constructor arguments of the task.
        card: Facts for people: `data`, `terms`, `command`, `seed`, `results` and whatever else was given.
        versions: Versions of the packages that wrote it.
        inputs: Names of the task's inputs in their order; None where an older version wrote the bundle.
    """

    folder: Path
    task: str
    config: dict[str, Any]
    card: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    inputs: list[str] | None = None

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / WEIGHTS

    @property
    def onnx(self) -> Path | None:
        """The exported graph, or None."""
        path = self.folder / GRAPH
        return path if path.is_file() else None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return tuple(self.config.get("classes") or ())


def save_bundle(
    task: VisionTask,
    folder: str | Path,
    *,
    card: Mapping[str, Any],
    half: bool = False,
    overwrite: bool = False,
    complete: Callable[[Path], None] | None = None,
) -> Path:
    """Writes a bundle, whole or not at all.

    Args:
        task: Task with its weights.
        folder: Where it shall be.
        card: Facts in plain types, which win over those that the task has (`VisionTask.card`). Known keys are `name`,
            `summary`, `data`, `terms`, `command`, `seed` and `results`, a list of `{"metric", "value", "split",
            "protocol"}`, and `figure`, the name of an image in the folder with predictions on photographs that the
            model has never seen; others are kept and listed.
        half: Store weights as float16, half the size; statistics and normalization stay float32. All are float32 again
            when read.
        overwrite: Replace a bundle that is there; anything else that is there is never replaced.
        complete: Called with the unfinished folder to put more files in, such as `model.onnx`. When it raises, no
            bundle appears.

    Returns:
        The folder.

    Raises:
        UsageError: Something already exists.
        EnvironmentFault: The disk is full.
    """
    from visionkit.out_of_distribution import write_statistics
    from visionkit.plain_values import plain

    card, statistics = {**task.card, **card}, task.statistics
    target, task = Path(folder), task.merged().served()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        if not target.is_dir() or not is_bundle(target):
            raise UsageError(f"{target}: already exists and is no bundle; give another folder")
        if not overwrite:
            raise UsageError(f"{target}: a bundle already exists; give another folder or allow overwriting")
    facts: dict[str, Any] = {
        "format": FORMAT,
        "task": task.name,
        "inputs": list(task.inputs),
        "config": task.config,
        "card": _finite(plain(card)),
        "weights": {"dtype": "float16" if half else "float32", "parameters": sum(p.numel() for p in task.parameters())},
        "versions": versions(),
    }
    with atomic_folder(target) as part:
        _save_weights(_tensors(task, half), part / WEIGHTS)
        facts["weights"]["sha256"] = file_hash(part / WEIGHTS)
        (part / FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (part / CARD).write_text(render_card(facts, target.name), encoding="utf-8")
        (part / WEIGHTS).chmod((part / FACTS).stat().st_mode)  # safetensors lets its owner alone read what it writes
        if statistics is not None:
            write_statistics(part, statistics)
        if complete is not None:
            complete(part)
    return target


def _save_weights(tensors: dict[str, Tensor], path: Path) -> None:
    """Writes safetensors; what the system reports on the way is an `OSError`, as from any other file."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def _finite(value: Any) -> Any:
    """The value with null in place of numbers that JSON does not have, such as a metric of NaN."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tensors(task: VisionTask, half: bool) -> dict[str, Tensor]:
    parameters = {name for name, _ in task.named_parameters()}
    out: dict[str, Tensor] = {}
    for name, value in task.state_dict().items():
        # A copy of its own: safetensors refuses tensors that share memory, as tied weights do.
        tensor = value.detach().cpu().contiguous().clone()
        if half and name in parameters and tensor.dtype == torch.float32:
            small = tensor.half()
            tensor = small if torch.isfinite(small).all() else tensor
        out[name] = tensor
    return out


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what comes out."""
    return dict(_versions())


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    """Looked for once in a process: each look reads a file of a package, and a run's report states them often."""
    found = [("python", platform.python_version())]
    for package in ("visionkit", "torch", "torchvision", "timm", "lightning"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append((package, importlib.metadata.version(package)))
    return tuple(found)


def read_bundle(folder: str | Path) -> Bundle:
    """Reads and checks `model.json`; opens no weights.

    Raises:
        CheckpointError: No bundle, or one that this version cannot read.
    """
    folder = Path(folder)
    facts = read_facts(folder)
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{folder}: the bundle has no {WEIGHTS}")
    return Bundle(folder, facts["task"], facts["config"], facts["card"], facts["versions"], facts["inputs"])


def justified(bundle: Bundle) -> Justified:
    """How large a network the weights of a bundle justify, from their header alone.

    Raises:
        CheckpointError: The header is damaged, or describes more than the file holds.
    """
    path = bundle.weights
    try:
        size = require_file(path)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, MAX_BYTES):
                raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
            header = json.loads(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("its header is no table of tensors")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged or no safetensors file: {str(error).splitlines()[0][:200]}") from error
    return Justified(size, len(header))


def read_weights(bundle: Bundle) -> dict[str, Tensor]:
    """The weights of a bundle, on the CPU.

    Raises:
        CheckpointError: The file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(bundle.weights)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{bundle.weights}: damaged or no safetensors file: {str(error).splitlines()[0][:200]}"
        ) from error


def render_card(facts: Mapping[str, Any], name: str) -> str:
    """The model card in Markdown, from what `model.json` holds."""
    card, config = dict(facts["card"]), facts["config"]
    lines = [f"# {card.pop('name', name)}", "", str(card.pop("summary", f"A visionkit model for {facts['task']}.")), ""]
    spec = config.get("input") or {}
    rows = {
        "Task": facts["task"],
        "Backbone": config.get("backbone"),
        "Input": f"{spec['size'][0]} x {spec['size'][1]}, {spec['resize_mode']}"
        if "size" in spec and "resize_mode" in spec
        else None,
        "Parameters": f"{facts['weights']['parameters']:,} ({facts['weights']['dtype']})",
    }
    results = card.pop("results", None)
    figure = card.pop("figure", None)
    card.pop("splits", None)  # for `visionkit test`, not for people
    rows |= {title: card.pop(key, "not stated") for key, title in _CARD_TITLES.items()}
    rows |= {key.replace("_", " ").capitalize(): value for key, value in card.items()}
    lines += [f"- {title}: {_shown(value)}" for title, value in rows.items() if value is not None]
    lines += ["", "## Results", "", *_results(results)]
    if isinstance(figure, str):
        lines += ["", "## Photographs it has never seen", "", f"![predictions]({quote(figure)})"]
    classes = list(config.get("classes") or ())
    if classes:
        lines += ["", "## Classes", "", f"{len(classes)}: {', '.join(map(str, classes))}"]
    lines += [
        "",
        "## Use",
        "",
        "```python",
        "from visionkit import load",
        "",
        f'load("{name}")({_call(facts)})',
        "```",
        "",
    ]
    lines += [
        "Written with " + ", ".join(f"{package} {version}" for package, version in facts["versions"].items()) + ".",
        "",
    ]
    return "\n".join(lines)


def _call(facts: Mapping[str, Any]) -> str:
    """What the model is called with, as Python."""
    names, frames = facts.get("inputs") or ["image"], (facts["config"].get("input") or {}).get("frames", 1)
    if len(names) == 1 and frames == 1:
        return '"image.jpg"'
    given = {name: [f"{name}{k}.jpg" for k in range(1, frames + 1)] if frames > 1 else f"{name}.jpg" for name in names}
    return json.dumps(given)


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return f"`{json.dumps(value, ensure_ascii=False)}`"
    text = " ".join(str(value).split())
    return f"`{text}`" if text.startswith("visionkit ") else text


def _results(results: Any) -> list[str]:
    if not results:
        return ["None were measured."]
    if not isinstance(results, Sequence) or not all(isinstance(row, Mapping) for row in results):
        raise UsageError('card.results: a list of {"metric", "value", "split", "protocol"} is expected')
    protocols = {str(row.get("protocol", "")) for row in results}
    once = len(results) > 1 and len(protocols) == 1  # stated below the table, not in each of its rows
    between = ["95 % interval"] if any(row.get("interval") for row in results) else []
    columns = ["metric", "value", *between, "split", *(() if once else ("protocol",))]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in results:
        value = row.get("value")
        shown = "n/a" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
        ends = row.get("interval")
        interval = f"{ends[0]:.4f} to {ends[1]:.4f}" if isinstance(ends, Sequence) and len(ends) == 2 else ""
        own = {"value": shown, **dict.fromkeys(between, interval)}
        cells = {name: str(row.get(name, "")) for name in columns} | own
        lines.append(f"| {' | '.join(cells.values())} |")
    return [*lines, *(["", f"Protocol: {protocols.pop()}"] if once and protocols != {""} else [])]
