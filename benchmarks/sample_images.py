"""JPEG files of stated sizes, for the rows that decode."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

QUALITY = 90
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg")
"""Of scikit-image's wheel, where no real data is at hand."""


def photographs(data: Path | None, count: int) -> tuple[list[Path], str]:
    """Real photographs: those of `data`, else of the real data that the tests use, else scikit-image's own.

    Returns:
        At most `count` files, evenly taken, and where they are from.
    """
    shared = Path(os.environ.get("VISIONKIT_DATA", Path(__file__).resolve().parent.parent.parent / "shared" / "data"))
    folder = data or shared / "semantic_segmentation" / "camvid_subset"
    found = sorted(
        path for path in folder.rglob("*") if path.suffix in (".png", ".jpg") and "annot" not in str(path.parent)
    )
    message = "the given folder" if data else "CamVid"
    if not found:
        import skimage.data

        found = [Path(skimage.data.__file__).parent / name for name in PHOTOS]
        found, message = [path for path in found if path.is_file()], "scikit-image's photos"
    step = max(1, len(found) // count)
    return found[::step][:count], message


def jpegs(size: tuple[int, int], count: int, data: Path | None = None) -> tuple[list[bytes], str]:
    """Photographs as JPEG of quality 90, 4:2:0.

    Args:
        size: Width and height: each photograph is cut to this shape and resized.
        count: How many; photographs are taken again, flipped, where there are fewer.
        data: See `photographs`.

    Returns:
        The encoded files and where the photographs are from.
    """
    paths, message = photographs(data, count)
    out = []
    for index in range(count):
        with Image.open(paths[index % len(paths)]) as photo:
            image = photo.convert("RGB")
        width, height = image.size
        scale = min(width / size[0], height / size[1])
        cut_w, cut_h = size[0] * scale, size[1] * scale
        left, top = (width - cut_w) / 2, (height - cut_h) / 2
        image = image.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + cut_w, top + cut_h))
        if (index // len(paths)) % 2:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if scale < 1:
            # An enlarged image has no fine detail and compresses too well: put the grain of a sensor back.
            grain = np.random.default_rng(index).normal(0, 3, (size[1], size[0], 1))
            image = Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=QUALITY, subsampling="4:2:0")
        out.append(file.getvalue())
    return out, message
