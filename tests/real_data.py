"""Where tests find real images: `VISIONKIT_DATA`, or the folder `../shared/data` beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def real_data(relative: str) -> Path:
    """The path of a real file or folder; skips the test, with the reason, where it is absent.

    Args:
        relative: Path inside the data folder, e.g. `"classification/cifar10_jpg.zip"`.
    """
    folder = Path(os.environ.get("VISIONKIT_DATA") or ROOT.parent / "shared" / "data")
    path = folder / relative
    if not path.exists():
        pytest.skip(f"the real data {relative} is absent; set VISIONKIT_DATA to the folder that holds it")
    return path
