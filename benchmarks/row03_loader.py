"""Row 3: the loader with two workers over two independent processes that do the same work and send nothing.

- `independent`: two processes, each brings half of the images to batches by the same data set and `collate`, and
  drops them.
- `ours`: the data module's training loader with two workers, persistent; the main process takes the batches and
  drops them.
- `float`: the same loader, whose workers normalize to float as most code does: four times the bytes through the
  pipe.

This row goes by the wall clock, since several processes work at once. It needs two idle cores.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks import timing
from benchmarks.row02_train_transform import Samples
from benchmarks.sample_images import jpegs
from benchmarks.timing import Goal, Options, Report, Stopwatch
from datamodules.augmentation import ClassificationAugment
from visionkit.data import Split, VisionDataModule
from visionkit.geometry import InputSpec
from visionkit.loading import SampleDataset, collate
from visionkit.preprocess import Preprocessor
from visionkit.types import Batch, Example, Sample
from visionkit.workers import settle_worker

WORKERS = 2
BATCH = 64
SIDE = 224


class Images(VisionDataModule):
    """JPEG files in memory, repeated to the requested length."""

    def __init__(self, files: list[bytes], **kwargs: Any) -> None:
        super().__init__(
            input=InputSpec(size=(SIDE, SIDE)), classes=["one"], batch_size=BATCH, num_workers=WORKERS, **kwargs
        )
        self.jpegs = files

    def dataset(self, split: Split) -> Sequence[Sample]:
        return Samples(self.jpegs)


def augment() -> ClassificationAugment:
    """Crop, flip and colors: see row 2."""
    return ClassificationAugment(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)


def collate_float(examples: Sequence[Example]) -> Batch:
    """What workers do elsewhere: float, normalized, channels first."""
    batch = collate(examples)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    image = batch["inputs"]["image"].float().div_(255).sub_(mean[:, None, None]).div_(std[:, None, None])
    return {**batch, "inputs": {"image": image.contiguous()}}


def _independent(files: list[bytes], part: int, begin: Any, done: Any) -> None:
    """Half of the batches of an epoch, as often as asked."""
    settle_worker()
    data = SampleDataset(Samples(files), Preprocessor(InputSpec(size=(SIDE, SIDE))), 0, augment())
    epoch = 0
    while begin.recv():
        for first in range(part * BATCH, len(files) - BATCH + 1, WORKERS * BATCH):
            collate([data[epoch, index] for index in range(first, first + BATCH)])
        epoch += 1
        done.send(True)


class Pair:
    """Two processes that wait for work."""

    def __init__(self, files: list[bytes]) -> None:
        context = multiprocessing.get_context("fork")
        self.ends: list[tuple[Any, Any]] = []
        for part in range(WORKERS):
            their_begin, begin = context.Pipe(duplex=False)
            done, their_done = context.Pipe(duplex=False)
            context.Process(target=_independent, args=(files, part, their_begin, their_done), daemon=True).start()
            self.ends.append((begin, done))

    def __call__(self, watch: Stopwatch) -> None:
        for begin, _ in self.ends:
            begin.send(True)
        for _, done in self.ends:
            done.recv()

    def close(self) -> None:
        """Lets the processes end."""
        for begin, _ in self.ends:
            begin.send(False)


def epochs(loader: DataLoader[Example]) -> timing.Arm:
    """One pass through a loader; its workers stay."""
    counter = iter(range(1_000_000))

    def run_through(watch: Stopwatch) -> None:
        loader.sampler.set_epoch(next(counter))  # type: ignore[attr-defined]
        for batch in loader:
            assert batch["inputs"]["image"].shape[0] == BATCH

    return run_through


def assert_equal(loader: DataLoader[Example], files: list[bytes]) -> None:
    """The loader gives what the data set gives, in the sampler's order."""
    data = SampleDataset(Samples(files), Preprocessor(InputSpec(size=(SIDE, SIDE))), 0, augment())
    loader.sampler.set_epoch(0)  # type: ignore[attr-defined]
    order = list(loader.sampler)[:BATCH]
    batch = next(iter(loader))
    assert torch.equal(batch["inputs"]["image"], collate([data[item] for item in order])["inputs"]["image"]), (
        "the workers give other images"
    )


def run(options: Options) -> Report:
    clock = options.clock or "wall"
    report = Report(3, "loader with 2 workers over 2 independent processes", clock)
    with timing.watched(report):
        few, message = jpegs((500, 375), 4 if options.quick else 64, options.data)
        files = few * (BATCH * (4 if options.quick else 24) // len(few))
        report.note(f"{len(files)} images of 500x375 an epoch, from {message}; batches of {BATCH}")
        pair = Pair(files)
        module = Images(files, augment=augment())
        ours, plain = module.loader("train"), module.loader("train")
        plain.collate_fn = collate_float
        assert_equal(ours, files)
        sides: dict[str, timing.Arm] = {"independent": pair, "ours": epochs(ours), "float": epochs(plain)}
        times = timing.measure(
            sides,
            rounds=options.rounds or (2 if options.quick else 9),
            clock=clock,
            attempts=1 if options.quick else 3,
            wanted=lambda t: [t.speed("ours", "independent")],
        )
        pair.close()
        rate = timing.Quartiles.of([len(files) / seconds for seconds in times.seconds["ours"]])
        report.add("ours, images per second", rate, unit="/s")
        report.add("ours over independent processes", times.speed("ours", "independent"), Goal(0.93), times=times)
        report.add("normalizing to float in the workers", times.speed("float", "independent"))
    return report


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))
