"""The file of a checkpoint: written so that a kill or a full disk harms none, read so that none can run code."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from torch import Tensor

from visionkit.atomic import atomic_file
from visionkit.errors import CheckpointError, UsageError, some_of
from visionkit.model_facts import check_header
from visionkit.model_files import check_checkpoint

SHARDED = "sharded"
"""Key under which a checkpoint states the folder of its sharded tensors, see `visionkit.sharding.files`."""

MAX_PICKLE = 8 * 2**20
"""Largest part of a checkpoint, beside the numbers of its tensors, that is read: each byte of it can cost a hundred."""


class AtomicCheckpointIO(CheckpointIO):
    """Writes a checkpoint beside its target, flushes it and renames it; reads without running code.

    Lightning's own holds the state twice in memory, and leaves a broken file on a full disk or where the temporary
    folder is on another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Writes `checkpoint` to `path`, whole or not at all.

        Raises:
            EnvironmentFault: The disk is full or the folder cannot be written; an older file at `path` is unharmed.
        """
        if storage_options is not None:
            raise UsageError("AtomicCheckpointIO takes no storage_options: it writes to a local or mounted folder")
        with atomic_file(Path(path)) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Reads a checkpoint of plain values and tensors; any other is refused, whatever `weights_only` states.

        Raises:
            CheckpointError: Not there, damaged, or holding code.
        """
        return open_checkpoint(Path(path), map_location or "cpu")

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes one file; a missing one is no error."""
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Reads a `.ckpt` of visionkit whole, checked for its format.

    Raises:
        CheckpointError: Not there, damaged, holding code, of another program or of a newer version.
    """
    checkpoint = open_checkpoint(Path(path), map_location)
    header_of(checkpoint, Path(path))
    return checkpoint


def open_checkpoint(path: Path, map_location: Any, mmap: bool = False, shards: bool = True) -> dict[str, Any]:
    """Reads a zip of tensors and plain values. Without `mmap` every byte is read and its checksum compared.

    Args:
        path: Path of the file to read.
        map_location: Device of the tensors, sharded ones included, in any form that `torch.load` takes.
        mmap: Read no tensors.
        shards: Also read the sharded tensors of the folder beside the file.
    """
    check_checkpoint(path)
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(archive, size, path)
            # torch compares no checksums: a flipped bit would become a weight.
            if not mmap and (broken := archive.testzip()) is not None:
                raise CheckpointError(f"{path}: damaged (wrong checksum in {broken[:80]!r}); take another checkpoint")
        loaded = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|global:?|function|class)\s+`?([A-Za-z_][\w.]*\.[\w.]+)", str(error))
        what = f" ({named[1][:80]})" if named else ""
        raise CheckpointError(
            f"{path}: it holds Python objects{what} beside tensors and plain values; such a file can run code and is "
            "refused"
        ) from error
    except Exception as error:  # torch, zipfile and pickle raise nearly anything on a damaged file
        raise CheckpointError(f"{path}: damaged or cut off ({first_line(error)}); take another checkpoint") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: a checkpoint of another program: it holds a {type(loaded).__name__}")
    if shards and not mmap and SHARDED in loaded:
        from visionkit.sharding.files import check_shards, fill

        check_shards(path, loaded)
        fill(path, loaded, device=_device_of(map_location))
    return loaded


def _device_of(map_location: Any) -> torch.device:
    """The device to which `torch.load` moves a tensor of the CPU by a name, a device, a mapping or a function."""
    buffer = io.BytesIO()
    torch.save(torch.zeros(1), buffer)
    buffer.seek(0)
    moved: Tensor = torch.load(buffer, map_location=map_location, weights_only=True)
    return moved.device


def check_whole(path: Path) -> None:
    """Reads every byte of a checkpoint and compares checksums; sharded tensors are not loaded for it.

    Raises:
        CheckpointError: As `read_checkpoint`.
    """
    checkpoint = open_checkpoint(path, "cpu", shards=False)
    header_of(checkpoint, path)
    if SHARDED in checkpoint:
        from visionkit.sharding.files import check_shards

        check_shards(path, checkpoint)


def stored_size(path: Path, checkpoint: Mapping[str, Any]) -> tuple[int, int]:
    """Bytes of a checkpoint with all that belongs to it, and how many of its weights lie beside the file."""
    if SHARDED not in checkpoint:
        return path.stat().st_size, 0
    from visionkit.sharding.files import size_of

    return size_of(path, dict(checkpoint))


def header_of(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The entry of visionkit in a checkpoint, checked: the task and its configuration.

    Raises:
        CheckpointError: Of another program or of a newer version.
    """
    header = checkpoint.get("visionkit")
    if not isinstance(header, dict):
        raise CheckpointError(
            f"{path}: a checkpoint of another program: it has no `visionkit` entry naming a task and its configuration"
        )
    check_header(header, path)
    return header


def _check_entries(archive: zipfile.ZipFile, size: int, path: Path) -> None:
    """Refuses an archive that unpacks to more than it is, before anything of it is unpacked."""
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(f"{path}: its entries are compressed, which no checkpoint of visionkit is; it is refused")
    if sum(entry.file_size for entry in entries) > size:
        raise CheckpointError(f"{path}: damaged: its entries state more bytes than the file has; it is refused")
    described = max((entry.file_size for entry in entries if entry.filename.endswith(".pkl")), default=0)
    if described > MAX_PICKLE:
        raise CheckpointError(
            f"{path}: {described:,} bytes describe its tensors; at most {MAX_PICKLE:,} are read, so it is refused"
        )


def first_line(error: BaseException) -> str:
    """The first sentence of what another library reports, to stand in a line of ours."""
    text = str(error).strip().splitlines()
    return text[0].split(". ")[0][:200] if text else type(error).__name__


def misfit(own: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """Why stored weights cannot be loaded strictly; empty where they can.

    Args:
        own: The `state_dict` of the task.
        state: What is stored.
    """
    for what, keys in (("lacks", own.keys() - state.keys()), ("has unknown", state.keys() - own.keys())):
        if keys:
            return f"it {what} {some_of(sorted(keys))}"
    shapes = [
        f"{key} is {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in own.items()
        if isinstance(value, torch.Tensor) and value.shape != state[key].shape
    ]
    return some_of(shapes) if shapes else ""
