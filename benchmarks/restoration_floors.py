"""Models of restoration beside what needs no training, on the same degraded images.

`python -m benchmarks.restoration_floors KIND MODEL [MODEL ...] --images FOLDER [--count 40] [--out results.json]`

KIND is what degrades the images: `denoise15`, `denoise25` and `denoise50` (Gaussian noise, neither clipped nor rounded;
beside OpenCV's non-local means, which take the rounded image), `deblur` (motion along a line of 3 to 21 pixels) or
`inpaint` (strokes of a brush on a tenth to four tenths of the image; beside both methods of OpenCV). The same holes,
motions and noise are drawn for every model. PSNR and SSIM are means over the images, of served 8-bit images; of holes
PSNR counts missing pixels alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Restore = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
"""A degraded image (h, w, C) float32 on a scale of 255, and the mask of its holes (h, w) bool, to the restored one."""

KINDS = ("denoise15", "denoise25", "denoise50", "deblur", "inpaint")


def parts(kind: str) -> list[Any]:
    """What degrades the images."""
    from datamodules.degradations import FreeFormHoles, GaussianNoise, LinearMotionBlur

    if kind == "inpaint":
        return [FreeFormHoles(coverage=(0.1, 0.4), width=(4, 16), length=(10, 50))]
    return [LinearMotionBlur((3, 21), (0, 180))] if kind == "deblur" else [GaussianNoise(float(kind[-2:]))]


def floors(kind: str) -> dict[str, Restore]:
    """What needs no training, by name."""
    from visionkit.families.restoration.classical import inpaint, non_local_means

    def levels(image: np.ndarray) -> np.ndarray:
        whole = np.clip(image + 0.5, 0, 255).astype(np.uint8)
        return whole[:, :, 0] if whole.shape[2] == 1 else whole

    if kind == "inpaint":
        return {
            "Telea": lambda image, mask: inpaint(levels(image), _there(mask), "telea"),
            "Navier-Stokes": lambda image, mask: inpaint(levels(image), _there(mask), "navier_stokes"),
        }
    if kind == "deblur":
        return {}
    return {"non-local means": lambda image, mask: non_local_means(levels(image), float(kind[-2:]))}


def _there(mask: np.ndarray | None) -> np.ndarray:
    assert mask is not None
    return mask


def served(path: str) -> tuple[str, int, Restore]:
    """A model, its channels and how it is called."""
    from visionkit import load
    from visionkit.images import ImageSource

    predictor = load(path)
    task: Any = predictor.task

    def restore(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        given: dict[str, Any] = {"image": ImageSource(image, white=255)}
        if "mask" in task.inputs:
            given["mask"] = _there(mask).astype(np.uint8) * 255
        pixels: np.ndarray = predictor(given).pixels  # type: ignore[attr-defined]
        return pixels if pixels.dtype == np.uint8 else pixels / np.float32(257)

    return path, task.input.channels, restore


def samples(kind: str, folder: str, count: int, channels: int) -> Iterator[tuple[np.ndarray, np.ndarray, Any]]:
    """Degraded image, clean image and mask, by file pixels."""
    from datamodules.restoration import RestorationData
    from visionkit.geometry import InputSpec
    from visionkit.inputs import last_frame

    spec = InputSpec(resize_mode="native", divisor=1, channels=channels, bits=32, fill=None)
    conditions = ["mask"] if kind == "inpaint" else []
    data = RestorationData(test_root=folder, degradations=parts(kind), conditions=conditions, input=spec)
    for sample in list(data.samples("test"))[:count]:
        mask = None
        if conditions:
            mask = last_frame(sample.inputs["mask"]).read(1)[:, :, 0] > 127
        image = sample.image.read(channels, bits=32).astype(np.float32)
        yield image, np.asarray(sample.target["clean"]).transpose(1, 2, 0), mask


def measured(kind: str, restore: Restore, folder: str, count: int, channels: int) -> dict[str, float]:
    """Mean PSNR and SSIM."""
    import torch

    from tasks.restoration.metrics import RestorationQuality

    def planes(pixels: np.ndarray) -> torch.Tensor:
        pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
        return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), dtype=np.float32))

    metric = RestorationQuality(holes=kind == "inpaint")
    for image, clean, mask in samples(kind, folder, count, channels):
        given = None if mask is None else [torch.from_numpy(mask)[None]]
        metric.update([planes(restore(image, mask))], [planes(clean)], [planes(image)], given)
    return {name: float(value) for name, value in metric.compute().items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--images", required=True, help="folder of clean photographs that no model has seen")
    parser.add_argument("--count", type=int, default=40, help="photographs that are taken (default: 40)")
    parser.add_argument("--out", type=Path, help="file of the values, json")
    given = parser.parse_args(argv)
    found: dict[str, dict[str, float]] = {}
    models = [served(path) for path in given.models]
    channels = models[0][1]
    for name, each, restore in models:
        if each != channels:
            parser.error(f"{name}: a model of {each} channels beside one of {channels}; measure them by themselves")
        found[name] = measured(given.kind, restore, given.images, given.count, channels)
    for name, restore in floors(given.kind).items():
        found[name] = measured(given.kind, restore, given.images, given.count, channels)
    names = list(next(iter(found.values())))
    print(f"| method | {' | '.join(names)} |\n" + "|---" * (len(names) + 1) + "|")
    for name, values in found.items():
        print(f"| {name} | {' | '.join(f'{values[each]:.4g}' for each in names)} |")
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
