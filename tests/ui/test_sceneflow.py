"""`visionkit sceneflow`: motion in space by two models, or by depth files and one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.contracts.cases import build
from ui.cli import main
from visionkit.checkpoint import save_checkpoint
from visionkit.synthetic import ClipSettings
from visionkit.synthetic.pairs import draw_scene_flow


def test_stereo_or_depth_and_flow_make_motion(tmp_path: Path, capsys: Any) -> None:
    torch.manual_seed(0)
    for name in ("stereo", "optical_flow"):
        save_checkpoint(build(name).eval(), tmp_path / f"{name}.ckpt")
    pair = draw_scene_flow(0, 3, ClipSettings(size=(64, 128), length=2), (0.2, 0.2))
    reach = pair.before.camera.fx * pair.before.baseline
    for number, each in enumerate((pair.before, pair.after)):
        for side in ("left", "right"):
            Image.fromarray(getattr(each, side)).save(tmp_path / f"{side}{number}.png")
        np.save(tmp_path / f"depth{number}.npy", reach / each.disparity)

    def files(kind: str, end: str = "png") -> list[str]:
        return [str(tmp_path / f"{kind}{number}.{end}") for number in (0, 1)]

    camera = ",".join(f"{value:.6f}" for value in pair.before.camera)
    given = ["sceneflow", "--flow", str(tmp_path / "optical_flow.ckpt"), "--images", *files("left"), "--camera", camera]
    by_stereo = ["--stereo", str(tmp_path / "stereo.ckpt"), "--right", *files("right"), "--baseline", "0.2"]
    for name, source in (("a", by_stereo), ("b", ["--depth", *files("depth", "npy")])):
        assert main([*given, *source, "--out", str(tmp_path / name)]) == 0
        assert "of the points are known" in capsys.readouterr().err
        motion = np.load(tmp_path / name / "motion.npy")
        assert motion.shape == (3, 64, 128) and Image.open(tmp_path / name / "motion.png").size == (128, 64)
        assert (tmp_path / name / "motion.ply").read_bytes().startswith(b"ply")
        known = np.isfinite(motion).all(axis=0)
        assert known.any() and np.array_equal(known, np.isfinite(motion[0]))
    assert main([*given, *by_stereo, "--out", str(tmp_path / "a")]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*given, "--out", str(tmp_path / "c")]) == 2
    assert "depth comes from one of them" in capsys.readouterr().err
    turned = ["--flow", str(tmp_path / "stereo.ckpt"), "--images", *files("left"), "--camera", camera]
    assert main(["sceneflow", *turned, "--depth", *files("depth", "npy"), "--out", str(tmp_path / "c")]) == 2
