"""What a run keeps beside its records, so that it can go on: its id and the number of its last row."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from visionkit.errors import VisionKitError

_STATE = "resume.json"


def read_state(folder: Path) -> dict[str, Any]:
    """The `id` and `row` of the run in this folder; empty where there was none."""
    try:
        state = json.loads((folder / "wandb" / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Written at every row, so renamed into place but not flushed to disk: a killed process leaves it whole."""
    path = folder / "wandb" / _STATE
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(state), encoding="utf-8")
    part.replace(path)


@contextmanager
def staging(folder: Path) -> Iterator[None]:
    """Files of artifacts and tables wait for their upload beside the run's records, not in the home of the user."""
    if os.environ.get("WANDB_DATA_DIR"):
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str(folder.absolute() / "wandb")
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]


def exit_code(error: BaseException | None) -> int:
    """The exit status that a failed run is closed with."""
    if isinstance(error, VisionKitError):
        return error.status
    return 130 if isinstance(error, KeyboardInterrupt) else 1
