"""The page stands before anything heavy is imported: what the networks need is loaded behind it."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "torchvision", "timm", "lightning", "onnxruntime", "wandb", "albumentations", "torchmetrics", "scipy")


def test_the_page_is_made_without_what_is_heavy() -> None:
    """Row 12 of the benchmarks times it; here it is that nothing of it is imported, on whatever machine."""
    code = (
        "import sys, tempfile\n"
        "from pathlib import Path\n"
        "from ui.app import Settings, application\n"
        "from ui.catalogue import Catalogue\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    application(Settings(Catalogue(), 'http://127.0.0.1:1', Path(folder)))\n"
        f"print('HEAVY', [name for name in {HEAVY} if name in sys.modules])\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert told.stdout.strip().endswith("HEAVY []"), told.stdout + told.stderr[-2000:]


def test_gradio_is_imported_without_writing_beside_itself() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "from ui.serving.gradio_import import without_stubs\n"
            "without_stubs(); without_stubs()\n"
            "import pathlib, sys\n"
            "from unittest import mock\n"
            "with mock.patch.object(pathlib.Path, 'write_text', side_effect=AssertionError('writes')):\n"
            "    import gradio.component_meta as module, gradio as gr\n"
            "assert gr.Image.upload and module.create_or_modify_pyi(None, '', []) is None\n"
            "assert not any(type(finder).__module__.startswith('ui.') for finder in sys.meta_path)",
        ],
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
