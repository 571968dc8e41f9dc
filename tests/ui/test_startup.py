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
        "from ui.server.api import Settings\n"
        "from ui.server.app import application\n"
        "from ui.model_registry import ModelRegistry\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    application(Settings(ModelRegistry(), 'http://127.0.0.1:1', Path(folder)))\n"
        f"print('HEAVY', [name for name in {HEAVY} if name in sys.modules])\n"
    )
    message = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert message.stdout.strip().endswith("HEAVY []"), message.stdout + message.stderr[-2000:]


def test_gradio_is_imported_without_reading_its_own_sources() -> None:
    """It would parse the source of every component to write type stubs beside it, at each start."""
    code = (
        "import sys\n"
        "import ui\n"
        "import ast\n"
        "parsed, parse = [], ast.parse\n"
        "ast.parse = lambda *given, **more: (parsed.append(1), parse(*given, **more))[1]\n"
        "import gradio\n"
        "assert gradio.Image.upload and not any(type(each).__module__.startswith('ui.') for each in sys.meta_path)\n"
        "print('PARSED', len(parsed))\n"
    )
    message = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert message.returncode == 0, message.stderr
    assert int(message.stdout.rpartition("PARSED ")[2]) < 10, "about two hundred without the hook"
