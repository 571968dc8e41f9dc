"""The table of restoration beside what needs no training: an untrained network is measured as what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.restoration_floors import main
from tasks.restoration import RestorationTask
from visionkit.checkpoint import save_checkpoint


def test_models_and_floors_are_measured_on_the_same_images(tmp_path: Path, capsys) -> None:
    ramp = np.linspace(0, 255, 40, dtype=np.uint8)[None].repeat(32, axis=0)
    (tmp_path / "images").mkdir()
    Image.fromarray(np.stack([ramp] * 3, 2)).save(tmp_path / "images" / "ramp.png")
    for kind, given in (("inpaint", {"condition": "mask"}), ("denoise25", {}), ("deblur", {})):
        model = tmp_path / f"{kind}.ckpt"
        save_checkpoint(
            RestorationTask(nafnet={"width": 4, "encoder": (1,), "middle": 1, "decoder": (1,), **given}), model
        )
        assert main([kind, str(model), "--images", str(tmp_path / "images")]) == 0
        rows = capsys.readouterr().out.splitlines()
        cells = {
            row.split(" | ")[0].strip("| "): [float(each) for each in row.strip("| ").split(" | ")[1:]]
            for row in rows[2:]
        }
        names = {"inpaint": {"Telea", "Navier-Stokes"}, "denoise25": {"non-local means"}, "deblur": set()}[kind]
        assert cells.keys() == {str(model), *names}
        inputs = {values[2] for values in cells.values()}
        assert len(inputs) == 1, "all were given the same image"
        if kind == "denoise25":
            assert abs(inputs.pop() - 20.17) < 0.3
        assert all(cells[name][0] > cells[name][2] + 3 for name in names), "a ramp is easy"
