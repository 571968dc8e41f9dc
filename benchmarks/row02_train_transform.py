"""Row 2: the whole training transform, from JPEG bytes to a (3, 224, 224) uint8 tensor, over decoding the same bytes.

Random part of random shape, flipping, brightness, contrast, saturation and hue. Arms:

- `decode`: simplejpeg, whole image: the physical limit without scaled decoding, and the faster one of the usual
  decoders.
- `ours`: `SampleDataset` with `ClassificationAugment`, exactly what a worker runs.
- `torchvision`: PIL and torchvision v2 on uint8 tensors, as its documentation advises.
- `albumentations`: OpenCV and albumentations, normalized to float as its documentation has it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import timing
from benchmarks.sample_images import jpegs
from benchmarks.timing import Goal, Options, Report, Stopwatch
from datamodules.augmentation import ClassificationAugment
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.loading import SampleDataset
from visionkit.preprocess import Preprocessor
from visionkit.types import Sample, View
from visionkit.workers import settle_worker

SIDE = 224


class Samples(Sequence[Sample]):
    """As the readers do it: a sample, whose header is not known yet, is made each time it is asked for."""

    def __init__(self, files: list[bytes]) -> None:
        self.files = files
        self.label = torch.tensor(0)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        return Sample.of(ImageSource(self.files[index]), {"labels": self.label}, str(index))


def dataset(files: list[bytes]) -> SampleDataset:
    """What a worker has, over encoded images in memory."""
    augment = ClassificationAugment(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    samples = Samples(files)
    return SampleDataset(samples, Preprocessor(InputSpec(size=(SIDE, SIDE))), 0, augment)


def arms(files: list[bytes]) -> dict[str, timing.Arm]:
    """Every arm brings all files to network input once; epochs differ, so crops do."""
    import albumentations
    import cv2
    import simplejpeg
    from torchvision.transforms import v2

    settle_worker()  # every arm has what a worker has: one thread, and memory that is kept
    data = dataset(files)
    epoch = iter(range(1_000_000))

    def decode(watch: Stopwatch) -> Any:
        for file in files:
            simplejpeg.decode_jpeg(file)

    def ours(watch: Stopwatch) -> Any:
        now = next(epoch)
        for index in range(len(files)):
            data[now, index]

    jitter = v2.Compose(
        [
            v2.PILToTensor(),
            v2.RandomResizedCrop(SIDE, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
        ]
    )

    def torchvision(watch: Stopwatch) -> Any:
        for file in files:
            jitter(Image.open(io.BytesIO(file)).convert("RGB"))

    compose = albumentations.Compose(
        [
            albumentations.RandomResizedCrop((SIDE, SIDE)),
            albumentations.HorizontalFlip(),
            albumentations.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1), p=1.0),
            albumentations.Normalize(),
            albumentations.ToTensorV2(),
        ]
    )

    def albumentation(watch: Stopwatch) -> Any:
        for file in files:
            pixels: Any = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
            compose(image=cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))

    return {"decode": decode, "ours": ours, "torchvision": torchvision, "albumentations": albumentation}


def assert_equal(files: list[bytes]) -> None:
    """The same cut of the same file is the same image by ours and by Pillow's antialiased resize, to rounding."""
    spec = InputSpec(size=(SIDE, SIDE))
    for file in files[:4]:
        whole = Image.open(io.BytesIO(file)).convert("RGB")
        box = (10, 20, whole.width - 31, whole.height - 14)
        image = Preprocessor(spec)(Sample.of(ImageSource(np.asarray(whole)), view=View(box)))["inputs"]["image"]
        wanted = np.asarray(whole.crop(box).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        gap = np.abs(image.permute(1, 2, 0).numpy().astype(int) - wanted)
        assert gap.max() <= 2, f"ours and Pillow differ by {gap.max()} gray levels"


def run(options: Options) -> Report:
    clock = options.clock or "cpu"
    report = Report(2, "train transform over raw JPEG decoding, images per second and core", clock)
    with timing.watched(report):
        for size, limit, count in (((500, 375), 0.80, 48), ((2000, 1500), 1.2, 8)):
            count = 2 if options.quick else count
            files, message = jpegs(size, count, options.data)
            assert_equal(files)
            sides = arms(files)
            times = timing.measure(
                sides,
                rounds=options.rounds or (2 if options.quick else 15),
                clock=clock,
                attempts=1 if options.quick else 3,
                wanted=lambda t: [t.speed("ours", "decode")],
            )
            name = f"{size[0]}x{size[1]}"
            kilobytes = sum(map(len, files)) / len(files) / 1000
            report.note(f"{name}: {count} images of {message}, {kilobytes:.0f} kB each")
            report.add(f"{name}: decoding alone", times.per_unit("decode", count * 1e-3), unit="ms")
            report.add(f"{name}: ours over decoding", times.speed("ours", "decode"), Goal(limit), times=times)
            report.add(f"{name}: PIL and torchvision v2", times.speed("torchvision", "decode"))
            report.add(f"{name}: OpenCV and albumentations, float", times.speed("albumentations", "decode"))
    return report


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))
