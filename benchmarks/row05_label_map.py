"""Row 5: class scores to a label map at file size, over enlarging all scores and taking the highest.

Scores are those of a decoder of stride 4 on a 512x512 input, the file has 1280x960 pixels. They are smooth, and one
class is highest over larger parts, as in what networks give: the fraction of cells on borders between classes is
printed.

- `ours`: `labels_in_file`, which interpolates only the cells whose corners disagree.
- `peer`: bilinear interpolation of every class, then argmax.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from benchmarks import timing
from benchmarks.timing import Goal, Options, Quartiles, Report, Stopwatch
from visionkit.families.dense.label_maps import best, labels_in_file
from visionkit.geometry import Geometry, InputSpec

FILE = (960, 1280)


def scores(classes: int, side: int = 128) -> torch.Tensor:
    """(classes, side, side): some tens of parts, each with a class of its own, and a little noise on top."""
    generator = torch.manual_seed(0)
    parts = F.interpolate(torch.randn(1, classes, 8, 8, generator=generator), size=(side, side), mode="bicubic")[0]
    return 4 * parts + 0.1 * torch.randn(classes, side, side, generator=generator)


def run(options: Options) -> Report:
    clock = options.clock or "cpu"
    report = Report(5, "class scores (stride 4 of 512x512) to labels at 1280x960", clock)
    with timing.watched(report):
        geometry = Geometry.plan(InputSpec(size=(512, 512), resize_mode="stretch"), FILE)
        for classes in (21,) if options.quick else (21, 150):
            given = scores(classes)
            coarse = best(given)
            borders = float((coarse[:-1, :-1] != coarse[1:, 1:]).float().mean())

            def ours(watch: Stopwatch, given: torch.Tensor = given) -> Any:
                return labels_in_file(given, geometry, (512, 512))

            def peer(watch: Stopwatch, given: torch.Tensor = given) -> Any:
                return F.interpolate(given[None], size=FILE, mode="bilinear", align_corners=False)[0].argmax(dim=0)

            equal = float((torch.from_numpy(ours(Stopwatch(clock))) == peer(Stopwatch(clock))).float().mean())
            assert equal >= 0.9999, equal
            times = timing.measure(
                {"ours": ours, "peer": peer},
                rounds=options.rounds or (2 if options.quick else 9),
                clock=clock,
                attempts=1 if options.quick else 3,
            )
            report.add(f"{classes} classes: cells on borders", Quartiles.of([100 * borders]), unit="%")
            report.add(f"{classes} classes: equal pixels", Quartiles.of([equal]), Goal(0.9999), unit="")
            report.add(f"{classes} classes: ours", times.per_unit("ours", 1e-3), unit="ms")
            report.add(
                f"{classes} classes: interpolate and argmax over ours",
                times.speed("ours", "peer"),
                Goal(12.0),
                times=times,
            )
    return report


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))
