"""A wrong argument or path costs no imports, and neither does what needs no network: torch is not touched."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
from PIL import Image

LINES = [
    (2, "fit -c nope.yaml"),
    (2, "fit -c classification --trainer.max_epoch 3"),
    (3, "fit -c classification --data FolderData --data.root nofolder"),
    (4, "fit --init_from nope.ckpt"),
    (4, "test --ckpt_path nope"),
    (2, "validate --ckpt_path best"),
    (4, "predict nope.ckpt photo.jpg"),
    (3, "predict timm:resnet18 nofolder/"),
    (3, "predict timm:resnet18 . --boxes nope.json"),
    (4, "predict timm:resnet18 . --detector nope"),
    (2, "predict timm:resnet18 . --draw"),
    (4, "export nope --out a"),
    (3, "export timm:resnet18 --out a --card nope.yaml"),
    (4, "split nope.ckpt --out a"),
    (4, "join a=nope.ckpt b=nope.ckpt --out a"),
    (3, "convert nope --to coco --out a"),
    (3, "doctor nope"),
    (2, "doctor here --select nope"),
    (0, "doctor --list"),
    (2, "scenes --out ."),
    (3, "gallery enrol people nope.jpg --name Ada"),
    (3, "gallery identify nope nope.jpg"),
    (4, "gallery verify a.jpg b.jpg --model nope"),
    (2, "models --models nope"),
    (2, "serve --models nope"),
    (2, "follow here --box 1,2,3"),
    (3, "follow here --box 1,2,3,4 --tracker kcf"),
    (3, "propagate here --mask nope.png --out a"),
    (2, "predict timm:resnet18 here --track srot"),
    (2, "predict timm:resnet18 here --rescore nope"),
    (0, "evaluate tracks tracks.txt tracks.txt"),
    (0, "evaluate following gt.txt gt.txt"),
    (0, "evaluate video-masks masks masks"),
    (0, "evaluate trajectory poses.txt poses.txt"),
    (0, "--help"),
    (0, "fit --help"),
    (0, "predict --help"),
]


def test_torch_is_imported_where_it_is_needed_alone(tmp_path):
    (tmp_path / "here").write_text("")
    (tmp_path / "gt.txt").write_text("1,1,10,10\n2,1,12,10\n3,1,14,10\n")
    (tmp_path / "tracks.txt").write_text("1,1,10,10,40,80,1,-1,-1,-1\n2,1,12,10,40,80,1,-1,-1,-1\n")
    (tmp_path / "poses.txt").write_text("0 0 0 0 0 0 0 1\n1 1 0 0 0 0 0 1\n2 2 1 0 0 0 0 1\n")
    (tmp_path / "masks").mkdir()
    for number in range(3):
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "masks" / f"{number:05}.png")
    code = (
        "import sys\n"
        "from ui.cli import main\n"
        f"for status, line in {LINES!r}:\n"
        "    got = main(line.split())\n"
        "    heavy = [name for name in ('torch', 'lightning', 'timm', 'gradio') if name in sys.modules]\n"
        "    if got != status or heavy:\n"
        "        print('WRONG', line, got, heavy)\n"
    )
    message = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert message.returncode == 0, message.stderr
    assert "WRONG" not in message.stdout, message.stdout
    lines = message.stderr.strip().splitlines()
    assert len(lines) == sum(1 for status, _ in LINES if status), message.stderr
