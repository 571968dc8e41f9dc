"""A mask whose marks are all dark is refused wherever masks are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.degradations.holes import MaskFolder
from datamodules.restoration import RestorationData
from ui.cli import main
from visionkit.errors import DataError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.mask_files import read_mask

DARK = "the largest value of this mask is 1, and white is 255"


def marked(white: int) -> np.ndarray:
    mask = np.zeros((32, 32), np.uint8)
    mask[8:16, 8:16] = white
    return mask


def folder(path: Path, pixels: np.ndarray) -> Path:
    path.mkdir()
    Image.fromarray(pixels).save(path / "a.png")
    return path


def test_white_is_what_is_meant_and_black_where_it_is_inverted() -> None:
    assert np.array_equal(read_mask(ImageSource(marked(255))), marked(255) > 0)
    assert np.array_equal(read_mask(ImageSource(marked(255)), invert=True), marked(255) == 0)
    assert not read_mask(ImageSource(marked(0))).any()
    with pytest.raises(DataError, match=DARK):
        read_mask(ImageSource(marked(1)))


def test_dark_masks_of_data_and_of_an_evaluation_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = folder(tmp_path / "images", np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    masks = folder(tmp_path / "masks", marked(1))
    data = RestorationData(
        str(images), val_root=str(images), val_masks=str(masks), conditions=["mask"],
        degradations=MaskFolder(str(masks)), patch_size=16, input=InputSpec((16, 16), "native", divisor=1),
    )  # fmt: skip
    with pytest.raises(DataError, match=DARK):
        data.samples("val")[0].inputs["mask"]
    with pytest.raises(DataError, match=DARK):
        MaskFolder(str(masks)).mask_of(32, 32, np.random.default_rng(0))
    assert main(["evaluate", "images", str(images), str(images), "--masks", str(masks)]) == DataError.status
    assert DARK in capsys.readouterr().err
