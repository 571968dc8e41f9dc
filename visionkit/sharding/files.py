"""Checkpoints of a sharded network: every process writes its shards into a folder beside the checkpoint's file.

The file holds all else, and names the folder, so it is still the one thing that is replaced at once, listed, linked and
opened. The shards are written by torch.distributed.checkpoint as safetensors: reading them runs no code, and any number
of processes can read them, one alone among them.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visionkit.atomic import no_space, sync_folder
from visionkit.checkpoint_files import SHARDED, AtomicCheckpointIO, open_checkpoint
from visionkit.errors import CheckpointError
from visionkit.sharding.tensors import is_dtensor

FOLDER = "shards"
"""Folder beside the checkpoints of a run, with a folder for each save."""

_NAME = re.compile(rf"{FOLDER}/[\w-]+")

KeyPath = tuple[Any, ...]
"""Keys that lead to a tensor in a checkpoint."""

ShardedState = dict[str, Tensor]
"""Sharded tensors of a checkpoint by their keys, joined by slashes."""


def save(checkpoint: dict[str, Any], path: Path, rank: int, world: int) -> None:
    """Writes a checkpoint with sharded tensors; every process has to call it.

    Args:
        checkpoint: Content of the checkpoint, whose sharded tensors are values of dictionaries.
        path: Path of the file to write, in a folder that all processes share.
        rank: Rank of this process.
        world: Number of processes.

    Raises:
        EnvironmentFault: The disk is full or the folder cannot be written; an older file at `path` is unharmed.
    """
    import torch.distributed as dist

    shards: ShardedState = {}
    paths: list[KeyPath] = []
    rest = _without_shards(checkpoint, (), shards, paths)
    name = [f"{FOLDER}/step{int(checkpoint.get('global_step', 0)):06d}-{uuid.uuid4().hex[:8]}"]
    dist.broadcast_object_list(name)
    folder = path.parent / name[0]
    error = _write(shards, folder, rank)
    names: list[str] = []
    if error is None:
        try:
            names = [each.name for each in folder.iterdir()]
        except OSError as failure:
            error = failure
    files: dict[str, tuple[int, int]] = {}
    # Listings of a network file system may lag behind, but each process sees what it wrote: the union is complete.
    listings: list[Any] = [None] * world
    dist.all_gather_object(listings, names)
    if error is None:
        try:
            for name_ in sorted(set().union(*listings))[rank::world]:
                files[name_] = _flushed(folder / name_)  # raises where a listed file is not there
        except OSError as failure:
            error = failure
    found: list[Any] = [None] * world
    dist.all_gather_object(found, error if error is None else str(error.strerror or error))
    known: list[Any] = [None] * world
    dist.all_gather_object(known, files)
    if any(each is not None for each in found):
        if rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
        raise no_space(path, error or OSError(0, next(each for each in found if each is not None))) from error
    if rank == 0:
        sync_folder(folder)
        rest[SHARDED] = {
            "folder": name[0],
            "world": world,
            "tensors": [list(each) for each in paths],
            "files": {key: list(value) for each in known for key, value in each.items()},
        }
        AtomicCheckpointIO().save_checkpoint(rest, path)


def _without_shards(tree: Any, at: KeyPath, shards: ShardedState, paths: list[KeyPath]) -> Any:
    """Copies nested dictionaries and lists without the sharded tensors, which are collected in `shards`."""
    if isinstance(tree, dict):
        out = {}
        for key, value in tree.items():
            if is_dtensor(value):
                paths.append((*at, key))
                shards[_joined(paths[-1])] = value.contiguous()
            else:
                out[key] = _without_shards(value, (*at, key), shards, paths)
        return out
    if isinstance(tree, list):
        return [_without_shards(value, (*at, number), shards, paths) for number, value in enumerate(tree)]
    return tree


def _joined(path: Sequence[Any]) -> str:
    return "/".join(map(str, path))


def _write(shards: ShardedState, folder: Path, rank: int) -> OSError | None:
    """Writes the shards and returns the disk failure of any process that stopped it, or None."""
    import torch.distributed as dist
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save as save_sharded

    failed: OSError | None = None
    try:
        if rank == 0:
            folder.mkdir(parents=True)
    except OSError as error:
        failed = error
    stopped = [None if failed is None else failed.strerror]
    dist.broadcast_object_list(stopped)
    if stopped[0] is not None:
        return failed or OSError(0, stopped[0])
    try:
        save_sharded(dict(shards), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        reasons = [failure[0] for failure in error.failures.values()]
        return next((each for each in reasons if isinstance(each, OSError)), OSError(0, str(reasons[0])[:200]))
    return None


def _flushed(path: Path) -> tuple[int, int]:
    """Flushes a file to the disk and returns its size and checksum."""
    size, checksum = 0, 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
        os.fsync(file.fileno())
    return size, checksum


# ---------------------------------------------------------------------- reading


def folder_of(path: Path, checkpoint: dict[str, Any]) -> Path:
    """Returns the folder with the shards of a checkpoint, after checking that every file is there in its full size.

    Raises:
        CheckpointError: The folder or a file is missing, or a file is cut off.
    """
    stated = checkpoint[SHARDED]
    try:
        name, files = stated["folder"], {str(key): tuple(map(int, value)) for key, value in stated["files"].items()}
        if not _NAME.fullmatch(name) or any(Path(each).name != each for each in files):
            raise ValueError(name)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged: it does not state where its weights are") from error
    folder: Path = path.parent / name
    missing = [each for each in files if not (folder / each).is_file()]
    if missing:
        raise CheckpointError(
            f"{path}: its weights are in the folder {folder}, which has no {missing[0]}: copy that folder too, or "
            "export the model where it was trained"
        )
    short = [each for each, (size, _) in files.items() if (folder / each).stat().st_size != size]
    if short:
        raise CheckpointError(f"{folder / short[0]}: cut off, so {path} cannot be read; take another checkpoint")
    return folder


def size_of(path: Path, checkpoint: dict[str, Any]) -> tuple[int, int]:
    """Returns the bytes of a checkpoint's file and its shards, and the number of sharded weights."""
    if SHARDED not in checkpoint:
        return path.stat().st_size, 0
    folder = folder_of(path, checkpoint)
    weights = sum(each[:1] == ["state_dict"] for each in checkpoint[SHARDED]["tensors"])
    return path.stat().st_size + sum(each.stat().st_size for each in folder.iterdir()), weights


def check_shards(path: Path, checkpoint: dict[str, Any]) -> None:
    """Reads every byte of the shards and compares checksums.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    folder = folder_of(path, checkpoint)
    for name, (_, checksum) in checkpoint[SHARDED]["files"].items():
        with (folder / name).open("rb") as file:
            found = 0
            while block := file.read(1 << 22):
                found = zlib.crc32(block, found)
        if found != checksum:
            raise CheckpointError(f"{folder / name}: damaged (wrong checksum), so {path} cannot be read")


def fill(
    path: Path,
    checkpoint: dict[str, Any],
    make: Callable[[KeyPath, torch.Size, torch.dtype], Tensor] | None = None,
    only: str = "",
    together: bool = False,
    device: torch.device | str = "cpu",
) -> None:
    """Loads the sharded tensors into a checkpoint that was opened without them.

    Args:
        path: Path of the checkpoint's file.
        checkpoint: Content of the file; changed in place.
        make: Makes the tensor to load into from its keys, shape and type, such as a sharded one. By default tensors are
            unsharded.
        only: Load only the tensors under this first key; by default all of them.
        together: All processes of a group call it together, and each reads what its own tensors need.
        device: Device to which tensors are moved that `make` did not make.

    Raises:
        CheckpointError: Shards are missing, or do not fit what the file states.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    folder = folder_of(path, checkpoint)
    wanted = {_joined(each): tuple(each) for each in checkpoint[SHARDED]["tensors"]}
    try:
        reader = HuggingFaceStorageReader(str(folder))
        known = reader.read_metadata().state_dict_metadata
        _check_metadata(known, wanted, sum(each.stat().st_size for each in folder.iterdir()))
        tensors = {}
        for key, at in wanted.items():
            if not only or at[0] == only:
                size, dtype = known[key].size, known[key].properties.dtype  # type: ignore[union-attr]
                tensors[key] = torch.empty(size, dtype=dtype) if make is None else make(at, size, dtype)
        if tensors:
            load(tensors, storage_reader=reader, no_dist=not together)
        for key, value in tensors.items():
            _insert(checkpoint, wanted[key], value if make is not None else value.to(device))
    except CheckpointError:
        raise
    except Exception as error:  # whatever a library below raises on files that do not fit together
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{folder}: the shards of {path} cannot be read ({reason[:200]})") from error


def _check_metadata(known: Any, wanted: dict[str, KeyPath], size: int) -> None:
    if known.keys() != wanted.keys():
        raise CheckpointError(f"it has {len(known)} tensors, and {len(wanted)} are stated")
    total = 0
    for each in known.values():
        numbers = each.size.numel()
        if sum(chunk.sizes.numel() for chunk in each.chunks) != numbers:
            raise CheckpointError("a shard of a tensor is missing")
        total += numbers * each.properties.dtype.itemsize
    if total > size:
        raise CheckpointError("its tensors are larger than its files")


def _insert(tree: Any, path: KeyPath, value: Tensor) -> None:
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = value


# ---------------------------------------------------------------------- what is not needed any more


def _referenced(folder: Path) -> Iterator[str]:
    for path in folder.glob("*.ckpt"):
        checkpoint = open_checkpoint(path, "meta", mmap=True)
        if SHARDED in checkpoint:
            yield str(checkpoint[SHARDED].get("folder", ""))


def remove_unused(folder: Path) -> None:
    """Removes the shards that no checkpoint in a folder names any more; if one cannot be read, nothing is removed."""
    shards = folder / FOLDER
    if not shards.is_dir():
        return
    try:
        used = set(_referenced(folder))
    except CheckpointError:
        return
    for each in shards.iterdir():
        if f"{FOLDER}/{each.name}" not in used:
            shutil.rmtree(each, ignore_errors=True)
    if not any(shards.iterdir()):
        shards.rmdir()
