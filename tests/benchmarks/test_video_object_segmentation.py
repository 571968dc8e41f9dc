"""The comparison on DAVIS runs with stand-ins for the methods, keeps its cells, and prints one row per method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import video_object_segmentation
from tests.visionkit.families.propagation.disks import clip


class Still:
    """Leaves the mask where it is."""

    def begin(self, frame: Any, mask: np.ndarray) -> None:
        self.mask = mask

    def update(self, frame: Any) -> np.ndarray:
        return self.mask


def test_cells_are_kept_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for kind, frames in zip(("JPEGImages", "Annotations"), clip(4), strict=True):
        folder = tmp_path / kind / "480p" / "disk"
        folder.mkdir(parents=True)
        for number, pixels in enumerate(frames):
            Image.fromarray(pixels).save(folder / f"{number:05}.png")
    monkeypatch.setattr("visionkit.families.propagation.propagator.propagator_names", lambda: ["still"])
    monkeypatch.setattr("visionkit.families.propagation.propagator.make_propagator", lambda name, arguments: Still())
    out = tmp_path / "cells.jsonl"
    arguments = ["--data", str(tmp_path), "--out", str(out)]
    assert video_object_segmentation.main(arguments) == 0 == video_object_segmentation.main(arguments)
    assert len(out.read_text().splitlines()) == 1 and "| still | 0." in capsys.readouterr().out
