"""Reads the record files of an offline W&B run, which W&B itself has no public reader for."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple


class Read(NamedTuple):
    """What one record file holds."""

    folder: Path
    id: str
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    metrics: dict[str, str]
    artifacts: dict[str, Any]
    exit: int | None
    preempting: bool


def read_run(folder: Path) -> Read:
    """Reads a finished run; wandb's own process may still be writing the end of it."""
    for _ in range(100):
        if (read := _read(folder)).exit is not None:
            return read
        time.sleep(0.1)
    raise AssertionError(f"{folder} has no end")


def _read(folder: Path) -> Read:
    """Reads a run's records: LevelDB framing (blocks of 32 KiB, 7 bytes before each piece), protobuf inside."""
    from wandb.proto import wandb_internal_pb2 as protocol

    data = next(folder.glob("*.wandb")).read_bytes()
    records: list[Any] = []
    pieces, at = b"", 7
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        pieces += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            records.append(protocol.Record.FromString(pieces))
            pieces = b""
    out = Read(folder, "", {}, [], {}, {}, {}, None, any(r.HasField("preempting") for r in records))
    for record in records:
        kind = record.WhichOneof("record_type")
        if kind == "run" and not out.id:
            out = out._replace(id=record.run.run_id)
            out.config.update(_items(record.run.config.update))
        elif kind == "config":
            out.config.update(_items(record.config.update))
        elif kind == "history":
            out.history.append(_items(record.history.item))
        elif kind == "summary":
            out.summary.update(_items(record.summary.update))
        elif kind == "metric":
            out.metrics[record.metric.glob_name or record.metric.name] = record.metric.step_metric
        elif kind == "artifact" and record.artifact.type == "model":
            out.artifacts[record.artifact.name] = record.artifact
        elif kind == "exit":
            out = out._replace(exit=record.exit.exit_code)
    return out


def _items(items: Any) -> dict[str, Any]:
    return {(".".join(item.nested_key) or item.key): json.loads(item.value_json) for item in items}


def folders(run: Path) -> list[Path]:
    return sorted((run / "wandb").glob("*run-*"))


def teardown() -> None:
    """Ends wandb's own process, which read the environment when it began."""
    import wandb

    wandb.teardown()
