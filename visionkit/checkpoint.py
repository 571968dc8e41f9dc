"""Stored models: the one path by which checkpoints, bundles and public names are opened.

A checkpoint is Lightning's, plus `{"visionkit": {"format", "task", "config"}}`. Its `state_dict` holds the weights to
be used (the averaged ones where averaging is on). The task's name is looked up among the installed tasks, so a file
never names a module to import. Every failure is one line of `CheckpointError`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from visionkit.bundle import Bundle, justified, read_bundle, read_weights, save_bundle
from visionkit.checkpoint_files import (
    AtomicCheckpointIO,
    check_whole,
    first_line,
    header_of,
    misfit,
    open_checkpoint,
    read_checkpoint,
    stored_size,
)
from visionkit.construction import Budget, Justified, WithoutInit
from visionkit.distillation import PREFIX
from visionkit.errors import CheckpointError, EnvironmentFault, UsageError, some_of, suggest
from visionkit.hub import local
from visionkit.model_facts import shown
from visionkit.model_files import HUB, public_name
from visionkit.out_of_distribution import FeatureStatistics, read_statistics
from visionkit.registry import task_class, task_names

if TYPE_CHECKING:
    from visionkit.task import VisionTask

__all__ = [
    "AtomicCheckpointIO",
    "Bundle",
    "StoredModel",
    "describe",
    "find_last",
    "load_task",
    "read_bundle",
    "read_checkpoint",
    "read_model",
    "save_bundle",
    "save_checkpoint",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredModel:
    """A model as it lies in a file, or behind a public name: what it is, and its weights once they are asked for.

    Attributes:
        source: The path or the public name, for messages.
        task: Name of the task.
        config: Constructor arguments of the task.
        weights: Reads the weights.
        justified: How large a network they justify; None where the weights are no file.
        card: Facts for the model card.
        statistics: What the features of its own images are like, where that is known.
        inputs: Names of its inputs in their order, where the file states them.
    """

    source: str
    task: str
    config: dict[str, Any]
    weights: Callable[[], dict[str, Tensor]]
    justified: Justified | None = None
    card: dict[str, Any] = field(default_factory=dict)
    statistics: FeatureStatistics | None = None
    inputs: list[str] | None = None

    def build(self) -> VisionTask:
        """Builds the task without downloading anything and fills it with the weights.

        Raises:
            CheckpointError: The task is not installed, or configuration and weights do not fit it.
        """
        with WithoutInit():
            task = self.blank()
        self.load_into(task)
        return task

    def blank(self) -> VisionTask:
        """Builds the task without its weights, for an exported graph that has them.

        Raises:
            CheckpointError: The task is not installed, or the configuration does not fit it.
        """
        names = task_names()
        if self.task not in names:
            raise CheckpointError(
                f"{self.source}: its task {self.task!r} is not installed; installed are {', '.join(names) or 'none'}"
                f"{suggest(self.task, names)}"
            )
        built_by = task_class(self.task)
        config = dict(self.config)
        if "pretrained" in inspect.signature(built_by.__init__).parameters:
            config["pretrained"] = False
        if "distill" in config:
            config["distill"] = None  # a teacher belongs to training alone
        try:
            _refuse_other_files(config)
            with Budget(self.justified) if self.justified is not None else nullcontext():
                task = built_by.from_config(config)
        except EnvironmentFault:
            raise
        except Exception as error:  # whatever a constructor raises, the arguments in the file are the cause
            raise CheckpointError(
                f"{self.source}: its configuration builds no {self.task} task: {first_line(error)}"
            ) from error
        self._check_inputs(task)
        task.source = self.source
        task.card, task.statistics = dict(self.card), self.statistics
        return task

    def _check_inputs(self, task: VisionTask) -> None:
        """Refuses a task whose inputs have other names, another order or other numbers of frames than the model's."""
        frames = (self.config.get("input") or {}).get("frames", task.input.frames)
        if (self.inputs or list(task.inputs)) != list(task.inputs) or frames != task.input.frames:
            raise CheckpointError(
                f"{self.source}: its inputs are {_inputs(self.inputs or task.inputs, frames)}, and those of the "
                f"{task.name} task installed here are {_inputs(task.inputs, task.input.frames)}; export the model again"
            )

    def load_into(self, task: VisionTask) -> None:
        """Fills a task that already exists.

        Raises:
            CheckpointError: It is another task, knows other classes, or its tensors have other names or shapes.
        """
        from visionkit.names import classes_differ

        if task.name != self.task:
            raise CheckpointError(f"{self.source}: holds a model of {self.task}, and {task.name} is asked for")
        classes = self.config.get("classes")
        if classes is not None and tuple(classes) != task.classes:
            raise CheckpointError(f"{self.source}: {classes_differ(tuple(classes), task.classes)}")
        own = task.state_dict()
        state = {key: value for key, value in self.weights().items() if not str(key).startswith(PREFIX)}
        odd = [str(key) for key, value in state.items() if not _is_dense(value)]
        if odd:
            raise CheckpointError(f"{self.source}: what it holds as weights is no dense tensor: {some_of(odd)}")
        if why := misfit(own, state):
            raise CheckpointError(f"{self.source}: its weights do not fit the {task.name} task: {why}")
        parameters = {name for name, _ in task.named_parameters()}
        broken = [
            key
            for key, value in state.items()
            if not bool(torch.isfinite(value).all()) and (key in parameters or not torch.equal(own[key], value))
        ]
        if broken:
            raise CheckpointError(
                f"{self.source}: its weights are not finite: {some_of(broken)} hold NaN or infinity; the training "
                "diverged, so take an earlier checkpoint"
            )
        task.load_state_dict(state)
        task.source = self.source


def _inputs(names: Sequence[str], frames: Any) -> str:
    return ", ".join(names) + (f" of {shown(frames)} frames" if frames != 1 else "")


def _is_dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not (value.is_meta or value.is_quantized)


def _refuse_other_files(config: Mapping[str, Any]) -> None:
    """A stored model is whole: no argument of it may name another file of this machine, however deep it stands."""
    skeleton = config.get("skeleton")
    named = skeleton if isinstance(skeleton, str) and skeleton.endswith((".yaml", ".yml")) else None
    named = named or config.get("weights")
    for value in config.values():  # a stored model names architectures, never repositories
        named = value if isinstance(value, str) and value.startswith(f"{HUB}:") else named
    if named is not None:
        raise CheckpointError(f"it names another file ({shown(named)}), which is not opened")
    if config.get("pretrained"):
        raise CheckpointError("it asks for public weights beside its own")
    for value in config.values():
        if isinstance(value, Mapping):
            _refuse_other_files(value)


def load_task(path: str | Path, map_location: str | torch.device = "cpu") -> VisionTask:
    """Builds the task that a checkpoint, a bundle or a public name holds, with its weights, in evaluation mode.

    Args:
        path: A `.ckpt` file, the folder of a run (its best checkpoint) or of a bundle, or a public name such as
            `timm:resnet50` or `hf-hub:user/name`. Only the last may download.
        map_location: Device of the task.

    Raises:
        CheckpointError: The file or the folder cannot be used; the line states why.
        UsageError: An unknown public name.
        EnvironmentFault: The public weights are not at hand and the network does not respond.

    Example:
        >>> task = load_task("runs/flowers/checkpoints/last.ckpt")
        >>> task.classes
        ('daisy', 'tulip')
    """
    public = public_name(path := local(path))
    task = _from_public(*public) if public else read_model(path).build()
    return task.eval().to(map_location)


def read_model(path: str | Path) -> StoredModel:
    """States what a checkpoint, a bundle or a public name holds; weights are read when they are asked for.

    Raises:
        CheckpointError, UsageError, EnvironmentFault: As `load_task`.
    """
    public = public_name(path := local(path))
    if public:
        task = _from_public(*public)
        return StoredModel(str(path), task.name, task.config, task.state_dict)
    path = Path(path)
    if path.is_dir():
        bundle = read_bundle(path)
        size = justified(bundle)
        known = bundle.card, read_statistics(path)
        return StoredModel(
            str(path), bundle.task, bundle.config, partial(read_weights, bundle), size, *known, bundle.inputs
        )
    checkpoint = open_checkpoint(path, "meta", mmap=True)
    header, state = header_of(checkpoint, path), checkpoint.get("state_dict")
    bytes_, beside = stored_size(path, checkpoint)
    size = Justified(bytes_, (len(state) if isinstance(state, dict) else 0) + beside)
    known = _known(header, path)
    return StoredModel(
        str(path), header["task"], header["config"], partial(_state, path), size, *known, header["inputs"]
    )


def _known(header: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], FeatureStatistics | None]:
    """The model card and the statistics of a checkpoint, as far as it has them."""
    card, statistics = header.get("card"), header.get("features")
    try:
        read = FeatureStatistics.from_json(statistics) if statistics is not None else None
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return (dict(card) if isinstance(card, dict) else {}), read


def _state(path: Path) -> dict[str, Tensor]:
    state = read_checkpoint(path).get("state_dict")
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: it holds no weights (`state_dict`)")
    return state


def _from_public(scheme: str, name: str) -> VisionTask:
    """Asks the installed tasks that know the scheme, in order of name, until one has the model."""
    refusals: list[UsageError] = []
    known: set[str] = {HUB}
    for task in map(task_class, task_names()):
        known.update(task.public_schemes)
        if scheme in task.public_schemes:
            try:
                return task.from_public(scheme, name)
            except UsageError as error:
                refusals.append(error)
    if refusals:
        raise refusals[0]
    raise UsageError(
        f"{scheme}:{name}: no such file, and {scheme!r} is no source of public weights; known are "
        f"{', '.join(f'{s}:<name>' for s in sorted(known)) or 'none'}{suggest(scheme, known)}"
    )


def save_checkpoint(task: VisionTask, path: Path, overwrite: bool = False) -> Path:
    """Writes a task with its weights as a checkpoint that was not trained any further.

    Raises:
        UsageError: Something already exists.
        EnvironmentFault: The disk is full or the folder cannot be written.
    """
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: already exists; give another name or --overwrite")
    checkpoint: dict[str, Any] = {"state_dict": task.state_dict(), "global_step": 0, "epoch": 0}
    task.on_save_checkpoint(checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    AtomicCheckpointIO().save_checkpoint(checkpoint, path)
    return path


def describe(path: str | Path) -> dict[str, Any]:
    """The facts about a checkpoint or a bundle that a listing shows; reads no weights.

    Returns:
        `path`, `kind` ("checkpoint" or "bundle"), `task`, `classes` (list), `backbone` (or None), `bytes`; for a
        checkpoint `step` and `epoch`, for a bundle `card`.

    Raises:
        CheckpointError: Neither of the two.
    """
    path = Path(path)
    if path.is_dir():
        bundle = read_bundle(path)
        task, config, size = bundle.task, bundle.config, bundle.weights.stat().st_size
        more: dict[str, Any] = {"kind": "bundle", "card": bundle.card}
    else:
        checkpoint = open_checkpoint(path, "meta", mmap=True)
        header = header_of(checkpoint, path)
        task, config, size = header["task"], header["config"], stored_size(path, checkpoint)[0]
        more = {"kind": "checkpoint", "step": checkpoint.get("global_step"), "epoch": checkpoint.get("epoch")}
    classes = list(config.get("classes") or ())
    return {
        "path": str(path),
        "task": task,
        "classes": classes,
        "backbone": config.get("backbone"),
        "bytes": size,
        **more,
    }


def find_last(folder: str | Path) -> Path | None:
    """The newest whole checkpoint of a run, to resume from.

    Args:
        folder: A folder of checkpoints, or a run with one inside.

    Returns:
        `last.ckpt` where it can be read to its end: it is where the run stands, also after going back to an earlier
        checkpoint. Otherwise the one with the most steps that can (a later file wins among equals), or None. Each that
        cannot be read is named in a warning.
    """
    folder = Path(folder)
    found: list[tuple[bool, int, float, Path]] = []
    for path in {*folder.glob("*.ckpt"), *folder.glob("checkpoints/*.ckpt")}:
        try:
            facts = describe(path)
            found.append((path.name == "last.ckpt", int(facts["step"] or 0), path.stat().st_mtime, path))
        except CheckpointError as error:
            log.warning("skipped: %s", error)
    for *_, path in sorted(found, reverse=True):
        try:
            check_whole(path)
            return path
        except CheckpointError as error:
            log.warning("skipped: %s", error)
    return None
