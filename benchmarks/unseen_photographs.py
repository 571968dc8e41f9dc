"""Draws what a model predicts on ten photographs that none of the example models was trained on, on one sheet.

`python -m benchmarks.unseen_photographs MODEL --out sheet.jpg [--detector MODEL] [--kind deblur]`. The photographs come
with scikit-image and scikit-learn, are free and the same for all models, also where a model finds nothing in them. For
a model of restoration, KIND of `benchmarks.restoration_floors` degrades them; each is drawn degraded on the left and
restored on the right.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

PHOTOGRAPHS = {
    "skimage": (
        *("data/astronaut.png", "data/camera.png", "data/chelsea.png", "data/coffee.png", "data/rocket.jpg"),
        *("data/coins.png", "data/brick.png", "data/hubble_deep_field.jpg"),
    ),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
"""Files below a package; their authors stand beside them."""

COLUMNS, TILE = 5, (220, 260)


def photographs() -> list[Path]:
    """The ten files.

    Raises:
        FileNotFoundError: A package is not installed, or lacks one.
    """
    found = []
    for package, names in PHOTOGRAPHS.items():
        spec = find_spec(package)
        folders = list(spec.submodule_search_locations or ()) if spec is not None else []
        if not folders:
            raise FileNotFoundError(f"{package}: not installed; its photographs are needed")
        found += [Path(folders[0], name) for name in names]
    if missing := [path for path in found if not path.is_file()]:
        raise FileNotFoundError(f"{missing[0]}: no such file")
    return found


def sheet(images: Sequence[np.ndarray]) -> Image.Image:
    """Images on one sheet, each as large as its tile allows."""
    height, width = TILE
    rows = -(-len(images) // COLUMNS)
    canvas = Image.new("RGB", (COLUMNS * width, rows * height), "white")
    for number, pixels in enumerate(images):
        image = Image.fromarray(pixels)
        image.thumbnail((width - 6, height - 6), Image.Resampling.LANCZOS)
        row, column = divmod(number, COLUMNS)
        canvas.paste(image, (column * width + (width - image.width) // 2, row * height + (height - image.height) // 2))
    return canvas


def degraded_and_restored(model: str, kind: str) -> list[np.ndarray]:
    """Each photograph, its left half as it was given to the model and its right half as that restored it."""
    from benchmarks.restoration_floors import parts, served
    from datamodules.degradations import DegradationChain
    from visionkit.images import ImageSource

    chain, (_, channels, restore) = DegradationChain(parts(kind)), served(model)
    drawn = []
    for number, path in enumerate(photographs()):
        degraded = chain(ImageSource(path).read(channels), np.random.default_rng(number))
        both, middle = degraded.image.copy(), degraded.image.shape[1] // 2
        both[:, middle:] = np.atleast_3d(restore(degraded.image, degraded.mask))[:, middle:]
        pixels = np.clip(both + 0.5, 0, 255).astype(np.uint8)
        drawn.append(pixels if channels == 3 else pixels.repeat(3, axis=2))
    return drawn


def main() -> int:
    from visionkit import load
    from visionkit.chain import Chain
    from visionkit.images import ImageSource

    parser = argparse.ArgumentParser(prog="python -m benchmarks.unseen_photographs", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--detector", help="finds what a model of single crops is shown")
    parser.add_argument("--kind", help="of a model of restoration: what degrades the photographs, such as deblur")
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.kind is not None:
        sheet(degraded_and_restored(args.model, args.kind)).save(args.out, quality=82, optimize=True)
        return 0
    model = load(args.model)
    predict = model if args.detector is None else Chain(load(args.detector), model)
    drawn = []
    for path in photographs():
        prediction = predict(path)
        print(f"{path.name}: {prediction.text()}")
        drawn.append(prediction.draw(ImageSource(path).read()))
    sheet(drawn).save(args.out, quality=82, optimize=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
