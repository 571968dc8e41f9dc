"""What a command imports before it has predicted: each of these packages costs as much as the rest of its start."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

EXAMPLE_MODELS = Path(__file__).parents[2] / "ui" / "starters"

PREDICT = """
import sys
from ui.cli import main

assert main(["predict", sys.argv[1], sys.argv[2], "--out", sys.argv[3]]) == 0
unneeded = ("torch._dynamo", "wandb", "scipy.signal", "scipy.stats", "albumentations", "gradio", "pandas", "matplotlib")
assert [name for name in unneeded if name in sys.modules] == []

# Whoever needs the compiler or wandb afterwards has the real ones, and lightning knows what the compiler made.
import torch, wandb, scipy.signal, torchvision.ops
from lightning.fabric.wrappers import OptimizedModule
from timm.layers.typing import disable_compiler

layer = torch.nn.Linear(2, 2)
assert not isinstance(layer, OptimizedModule)
assert callable(wandb.init) and callable(scipy.signal.find_peaks)
assert isinstance(torch.compile(layer), OptimizedModule) and torch.compiler.disable is not disable_compiler
assert disable_compiler(lambda number: number + 1)(2) == 3
pooling = sys.modules["torchvision.ops.roi_align"]
assert pooling.is_compile_supported("cpu") is torch._dynamo.utils.is_compile_supported("cpu")
print("as requested")
"""


def test_a_prediction_imports_neither_compiler_nor_tracker_nor_augmentation(tmp_path):
    image = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(image)
    model = EXAMPLE_MODELS / "pose" / "people"
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, str(model), str(image), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0 and done.stdout.endswith("as requested\n"), done.stderr[-2000:]
