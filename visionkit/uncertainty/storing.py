"""Writes a calibration into a model that is stored: its weights, its graphs and everything else stay as they are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionkit.atomic import atomic_file
from visionkit.bundle import CARD, render_card
from visionkit.checkpoint_files import AtomicCheckpointIO, read_checkpoint
from visionkit.model_facts import read_facts
from visionkit.model_files import FACTS
from visionkit.plain_values import plain
from visionkit.uncertainty.conformal import ConformalConfig

STALE = "calibration_error"
"""A result that a temperature changes; accuracy is the same at every temperature."""


def store_calibration(model: Path, temperature: float, conformal: ConformalConfig | None, text: str = "") -> None:
    """Sets what a stored classifier makes of its logits, in its bundle or checkpoint, whole or not at all.

    Args:
        model: A `.ckpt` or the folder of a bundle.
        temperature: What logits are divided by; 1 for none.
        conformal: How prediction sets are made, or None for none.
        text: Entry `calibration` of the model card; empty for none.

    Raises:
        CheckpointError: The model cannot be read.
        EnvironmentFault: The disk is full, or the file cannot be written.
    """
    changed = {"temperature": temperature, "conformal": plain(conformal)}
    if model.is_dir():
        facts = read_facts(model)
        facts["config"] |= changed
        facts["card"] = _card(facts["card"], text)
        _write(model / FACTS, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        _write(model / CARD, render_card(facts, model.name))
        return
    checkpoint, then = read_checkpoint(model), model.stat()
    header = checkpoint["visionkit"]
    header["config"] = {**header["config"], **changed}
    header["card"] = _card(header.get("card") or {}, text)
    AtomicCheckpointIO().save_checkpoint(checkpoint, model)
    os.utime(model, ns=(then.st_atime_ns, then.st_mtime_ns))  # the best checkpoint of a run is known by its age


def _card(card: Mapping[str, Any], text: str) -> dict[str, Any]:
    known = {key: value for key, value in card.items() if key != "calibration"}
    if isinstance(rows := known.get("results"), list):
        known["results"] = [row for row in rows if row.get("metric") != STALE]
    return {**known, **({"calibration": text} if text else {})}


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode("utf-8"))
