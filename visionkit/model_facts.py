"""What `model.json` may hold, checked before anything is built; imports nothing heavy, so listings can use it too."""

from __future__ import annotations

import hashlib
import json
import math
import stat
from pathlib import Path
from typing import Any

from visionkit.errors import CheckpointError
from visionkit.model_files import FACTS, check_bundle_folder
from visionkit.renamed import renamed

FORMAT = 1
"""Format number of checkpoints and bundles; a higher number is refused with the advice to update."""

WEIGHTS = "model.safetensors"

MAX_BYTES = 16 * 2**20
"""Largest description of a model that is read: `model.json`, or the header of a weights file."""

MAX_DEPTH, MAX_VALUES, MAX_TEXT = 16, 2**18, 2**16
"""Levels of nesting, values in all, and characters of one text that a description may have."""


def require_file(path: Path) -> int:
    """Refuses what is no ordinary file before it is opened: reading a pipe or a device may never end.

    Args:
        path: File to read.

    Returns:
        Its size in bytes.

    Raises:
        CheckpointError: It is a pipe, a device, a socket or a folder.
        OSError: It is not there, or cannot be reached.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{path}: not an ordinary file (a folder, pipe or device); give the model's own file")
    return found.st_size


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_facts(folder: Path) -> dict[str, Any]:
    """Reads and checks the `model.json` of a bundle.

    Args:
        folder: The bundle.

    Returns:
        Its content, with `task`, `config`, `inputs` (or None), `card` and `versions` of the right types.

    Raises:
        CheckpointError: It is missing, cannot be read, or holds something that visionkit does not write.
    """
    check_bundle_folder(folder)
    path = folder / FACTS
    try:
        size = require_file(path)
        if size > MAX_BYTES:
            raise CheckpointError(f"{path}: {size:,} bytes; the description of a model has at most {MAX_BYTES:,}")
        facts = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise CheckpointError(f"{path}: cannot be read: nested too deeply") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {str(error).splitlines()[0][:200]}") from error
    if not isinstance(facts, dict):
        raise CheckpointError(f"{path}: not written by visionkit: it holds no object with `task` and `config`")
    check_header(facts, path)
    for key in ("card", "versions", "weights", "graphs"):
        if not isinstance(facts.get(key) or {}, dict):
            raise CheckpointError(f"{path}: {key}: should be an object, not {shown(facts[key])}")
        facts[key] = facts.get(key) or {}
    check_plain(facts["card"], f"{path}: card")
    facts["versions"] = {key: str(value)[:64] for key, value in facts["versions"].items()}
    return facts


def check_header(header: dict[str, Any], path: Path) -> None:
    """Refuses a description without a task and a configuration of plain values, or of a format unknown here.

    The arguments of an older version get their names of today, and `inputs` that it does not state are None.

    Raises:
        CheckpointError: The line states which entry is wrong.
    """
    if not isinstance(header.get("task"), str) or not isinstance(header.get("config"), dict):
        raise CheckpointError(f"{path}: not written by visionkit: `task` and `config` are not there")
    number = header.get("format")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise CheckpointError(f"{path}: not written by visionkit: format {shown(number)}")
    if number > FORMAT:
        raise CheckpointError(
            f"{path}: format {shown(number)} is newer than this visionkit reads ({FORMAT}); update visionkit"
        )
    config = header["config"]
    check_plain(config, f"{path}: config")
    classes = config.get("classes")
    if classes is not None and not (isinstance(classes, (list, tuple)) and all(isinstance(c, str) for c in classes)):
        raise CheckpointError(f"{path}: config.classes: should be a list of names, not {shown(classes)}")
    inputs = header.setdefault("inputs", None)
    if inputs is not None and not (isinstance(inputs, list) and inputs and all(isinstance(n, str) for n in inputs)):
        raise CheckpointError(f"{path}: inputs: should be a list of names, not {shown(inputs)}")
    header["config"] = renamed(header["task"], config)


def check_plain(value: Any, place: str) -> None:
    """Refuses values that JSON does not have, numbers that are not finite, and what is too deep, long or large.

    Args:
        value: Value, as it was read; nested lists may share parts, as pickles can.
        place: Where it stands, for the message.

    Raises:
        CheckpointError: The first value that does not fit.
    """
    waiting, count = [(value, 0)], 0
    while waiting:
        each, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH or count + len(waiting) > MAX_VALUES:
            raise CheckpointError(f"{place}: deeper than {MAX_DEPTH} levels, or more than {MAX_VALUES:,} values")
        if isinstance(each, dict):
            if not all(isinstance(key, str) and len(key) <= MAX_TEXT for key in each):
                raise CheckpointError(f"{place}: a key is not a text of at most {MAX_TEXT:,} characters")
            waiting.extend((item, depth + 1) for item in each.values())
        elif isinstance(each, (list, tuple)):
            if len(each) > MAX_VALUES:
                raise CheckpointError(f"{place}: a list of {len(each):,} values; at most {MAX_VALUES:,} are read")
            waiting.extend((item, depth + 1) for item in each)
        elif isinstance(each, str):
            if len(each) > MAX_TEXT:
                raise CheckpointError(f"{place}: a text of {len(each):,} characters; at most {MAX_TEXT:,} are read")
        elif isinstance(each, float):
            if not math.isfinite(each):
                raise CheckpointError(f"{place}: {each} is not a finite number")
        elif isinstance(each, int):
            if abs(each) >= 2**63:
                raise CheckpointError(f"{place}: a number of more than 64 bits")
        elif each is not None:
            raise CheckpointError(f"{place}: a value of type {type(each).__name__}; plain values are expected")


def shown(value: Any) -> str:
    """A value as messages quote it: one line, not too long, whatever it is."""
    if isinstance(value, (dict, list, tuple)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a number of more than 64 bits"
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
