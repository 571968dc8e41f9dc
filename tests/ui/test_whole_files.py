"""What gradio keeps for visitors is whole at every moment."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gradio import processing_utils
from PIL import Image

from ui.server.gradio_hardening import whole_files

whole_files()
SAVED: dict[str, Callable[[str], str]] = {
    "image": lambda cache: processing_utils.save_pil_to_cache(Image.new("RGB", (9, 9)), cache, format="png"),
    "array": lambda cache: processing_utils.save_img_array_to_cache(np.ones((8, 8, 3), np.uint8), cache, "png"),
    "bytes": lambda cache: processing_utils.save_bytes_to_cache(b"ID3 sound", "a.mp3", cache),
    "base64": lambda cache: processing_utils.save_base64_to_cache("data:text/plain;base64,aGVsbG8=", cache),
}


@pytest.mark.parametrize("what", SAVED)
def test_a_file_that_is_served_is_not_written_anew(what: str, tmp_path: Path) -> None:
    """Visitors who get the same image share its file; one who is being served it must not see the second writing."""
    first = Path(SAVED[what](str(tmp_path)))
    assert first.is_relative_to(tmp_path.resolve()) and first.stat().st_size > 0
    with first.open("rb") as served:
        again = Path(SAVED[what](str(tmp_path)))
        assert again == first
        assert os.fstat(served.fileno()).st_nlink == 0, "the new file took the place of the one that is read"
        assert served.read() == again.read_bytes()
    assert [each.name for each in tmp_path.iterdir()] == [first.parent.name]
