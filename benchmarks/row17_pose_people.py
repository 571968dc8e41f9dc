"""Row 17: how the time of a pose grows with the people in an image, bottom-up and top-down, ResNet-50, 1 thread.

- `bottom_up_N`: an OpenPose network on a whole image of 1280x960. Its weights are random and would find nobody, so
  the network runs and its maps are then replaced by drawn ones of N people; reading them back is the real thing.
- `top_down_N`: N crops of 256x192 behind boxes that are given, by SimpleBaseline; the detector is not counted.
- `predict`, `network`: row 4 for poses: `predictor(array)` of the same image as one person over the bare network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks import timing
from benchmarks.sample_images import jpegs
from benchmarks.timing import Goal, Options, Report, Stopwatch
from tasks.pose import PoseTask
from tasks.pose.fields import draw_fields
from tasks.pose.network import FieldOutputs
from visionkit.chain import Chain
from visionkit.families.keypoints.heatmaps import draw_gaussians
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource, read_image
from visionkit.predictor import Predictor
from visionkit.tiling import Located

MANY = 10


def figures(count: int, size: tuple[int, int], rng: np.random.Generator) -> torch.Tensor:
    """(N, 17, 3) standing figures beside each other in input pixels, two rows of five."""
    half = [(2, -47), (5, -46), (12, -34), (17, -17), (19, 0), (8, 2), (9, 26), (10, 48)]  # the left side
    shape = np.array([(0, -45), *((side * x, y) for x, y in half for side in (1, -1))], dtype=np.float64)
    out = np.full((count, 17, 3), 2.0)
    for number in range(count):
        middle = size[1] * (number % 5 + 0.5) / 5, size[0] * (number // 5 + 0.5) / 2
        out[number, :, :2] = shape * min(size) / 250 + middle + rng.uniform(-1, 1, (17, 2))
    return torch.from_numpy(out).float()


class DrawnMaps:
    """An engine that runs the network and hands over drawn maps of the same shape."""

    def __init__(self, task: PoseTask, people: torch.Tensor) -> None:
        self.task, self.people = task, people
        self.drawn: FieldOutputs | None = None

    @torch.inference_mode()
    def __call__(self, *inputs: torch.Tensor) -> Any:
        outputs = self.task(*inputs)
        if self.drawn is None:
            size = outputs.heatmaps.shape[-2:]
            stages = outputs.heatmaps.shape[1]
            maps = draw_gaussians(self.people[..., :2], size, self.task.architecture.cell, 1.0).amax(dim=0)
            fields = draw_fields(self.people, self.task.skeleton.limbs, size, self.task.architecture.cell, 1.0)
            self.drawn = FieldOutputs(maps.expand(1, stages, *maps.shape), fields.expand(1, stages, *fields.shape))
        return self.drawn


class _Finder:
    """Finds the same boxes in every image."""

    def __init__(self, found: Located) -> None:
        self.found = found

    def __call__(self, image: Any) -> Located:
        return self.found


def _predict(predictor: Any, image: np.ndarray) -> timing.Arm:
    return lambda watch: predictor(image)


def run(options: Options) -> Report:
    clock = options.clock or "cpu"
    report = Report(17, "time of a pose by the number of people; predict over the bare network", clock)
    backbone = "test_resnet" if options.quick else "resnet50"
    small: dict[str, int] = {"width": 16} if options.quick else {}
    staged = {**small, "stage_width": 16} if options.quick else {}
    with timing.watched(report):
        torch.manual_seed(0)
        image = read_image(jpegs((1280, 960), 1, options.data)[0][0])
        side = 128 if options.quick else 384
        spec = InputSpec(size=(side, side), resize_mode="letterbox")
        whole = PoseTask(backbone, architecture="openpose", input=spec, openpose=staged).eval()
        single = PoseTask(
            backbone,
            input=InputSpec(size=(64, 48) if options.quick else (256, 192), resize_mode="stretch"),
            simple_baseline=small,
        )
        single.eval()
        for task in (whole, single):
            task.setup("predict")
        rng = np.random.default_rng(0)
        arms: dict[str, timing.Arm] = {}
        for count in (1, MANY):
            bottom: Any = Predictor(whole, DrawnMaps(whole, figures(count, spec.size, rng)))
            found = len(bottom(image))
            assert found == count, f"{found} of {count} synthetic people were read back"
            arms[f"bottom_up_{count}"] = _predict(bottom, image)
            located = Located(rng.uniform((0, 0, 500, 500), (400, 300, 900, 900), (count, 4)), np.ones(count))
            chain: Any = Chain(_Finder(located), Predictor(single))
            assert len(chain(image)) == count
            arms[f"top_down_{count}"] = _predict(chain, image)
        predictor = Predictor(single)
        ready = predictor.prepare(image, single.plan(ImageSource(image)).views[0])["inputs"]["image"][None]

        @torch.inference_mode()
        def network(watch: Stopwatch) -> Any:
            return single(ready).heatmaps

        rounds, attempts = options.rounds or (2 if options.quick else 11), 1 if options.quick else 3
        times = timing.measure(
            arms,
            rounds=rounds,
            clock=clock,
            attempts=attempts,
            wanted=lambda t: [t.ratio(f"bottom_up_{MANY}", "bottom_up_1")],
        )
        up, down = (times.ratio(f"{kind}_{MANY}", f"{kind}_1") for kind in ("bottom_up", "top_down"))
        report.add("bottom-up, 10 people over 1", up, Goal(1.3, "at most"), times=times)
        report.add("top-down, 10 people over 1", down, Goal(float(MANY), "at most"), times=times)
        report.add("bottom-up over top-down, one person", times.ratio("bottom_up_1", "top_down_1"))
        # By themselves: a difference of hundredths would drown in rounds of seconds.
        pair: dict[str, timing.Arm] = {"network": network, "predict": lambda watch: predictor(image)}
        times = timing.measure(pair, rounds=3 * rounds, clock=clock, attempts=attempts)
        report.add(
            "predict over the network, one crop", times.ratio("predict", "network"), Goal(1.05, "at most"), times=times
        )
    return report


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))
