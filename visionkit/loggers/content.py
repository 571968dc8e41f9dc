"""What goes to a tracker, in plain values: images, tables, a configuration that people can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visionkit.predictions import Overlay

Rows = Sequence[Mapping[str, Any]]
"""A table as tasks give it: each row maps column to value."""


@dataclass(frozen=True, eq=False)
class LoggedImage:
    """One drawn sample, on its way to a logger.

    Attributes:
        id: ID of the sample.
        plain: (h, w, 3) uint8, the image itself.
        drawn: (h, w, 3) uint8, what is known beside what is stated.
        row: What a table states about it: scalars by column.
        layers: What lies over `plain` in a viewer that can switch it on and off: `truth`, `prediction`.
    """

    id: str
    plain: np.ndarray
    drawn: np.ndarray
    row: Mapping[str, str | float | bool]
    layers: Mapping[str, Overlay] = field(default_factory=dict)

    @property
    def caption(self) -> str:
        """The row on one line."""
        shown = (
            f"{name} {value:.2f}" if isinstance(value, float) else f"{name} {value}" for name, value in self.row.items()
        )
        return ", ".join(shown) or self.id


def readable_config(value: Any) -> Any:
    """A configuration as people filter by it: no parser marks, classes by their short names, no trackers.

    `{"class_path": "tasks.x.XTask", "init_args": {"lr": 1}}` becomes `{"class": "XTask", "lr": 1}`.
    """
    if isinstance(value, Mapping):
        if "class_path" in value:
            arguments = value.get("init_args") or {}
            return {"class": str(value["class_path"]).rpartition(".")[2], **readable_config(arguments)}
        hidden = ("logger", "ckpt_path")
        shown = {key: item for key, item in value.items() if not key.startswith("_") and key not in hidden}
        return {key: readable_config(item) for key, item in shown.items()}
    if isinstance(value, (list, tuple)):
        return [readable_config(item) for item in value]
    return value


def square(rows: Rows) -> list[list[Any]] | None:
    """The cells above zero of a table whose row names are its column names; None for any other table."""
    first, *names = rows[0]
    if len(names) < 2 or [row[first] for row in rows] != names:
        return None
    return [[row[first], name, row[name]] for row in rows for name in names if row[name]]
