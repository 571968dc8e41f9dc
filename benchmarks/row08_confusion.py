"""Row 8: updating a confusion matrix with a batch of 4 x 512 x 512, over torchmetrics.

- `ours`: `confusion`, a two-dimensional histogram of bytes.
- `torchmetrics`: `MulticlassConfusionMatrix.update` as it is; the goal is against this.
- `unchecked`: the same with `validate_args=False`, which processes no value; printed beside it.

Predictions are bytes for ours, as `decode` gives them, and int64 for torchmetrics, as argmax gives them; the truth is
int64 for both. 3 % of it is ignored.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks import timing
from benchmarks.timing import Goal, Options, Report, Stopwatch
from tasks.semantic_segmentation.metrics import confusion


def run(options: Options) -> Report:
    from torchmetrics.classification import MulticlassConfusionMatrix

    clock = options.clock or "cpu"
    report = Report(8, "confusion matrix update, 4 x 512 x 512", clock)
    with timing.watched(report):
        side = 64 if options.quick else 512
        for classes in (21, 150):
            generator = torch.manual_seed(0)
            truth = torch.randint(0, classes, (4, side // 16, side // 16), generator=generator)
            truth = truth.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)
            wrong = torch.rand(truth.shape, generator=generator) < 0.2
            claimed = torch.where(wrong, torch.randint(0, classes, truth.shape, generator=generator), truth)
            truth[torch.rand(truth.shape, generator=generator) < 0.03] = 255
            small = claimed.to(torch.uint8)
            theirs, unchecked = (
                MulticlassConfusionMatrix(classes, ignore_index=255, validate_args=checked) for checked in (True, False)
            )

            def ours(watch: Stopwatch, small: Any = small, truth: Any = truth, classes: int = classes) -> Any:
                return confusion(small, truth, classes)

            def peer(watch: Stopwatch, claimed: Any = claimed, truth: Any = truth, theirs: Any = theirs) -> Any:
                theirs.reset()
                theirs.update(claimed, truth)
                return theirs.confmat

            def bare(watch: Stopwatch, claimed: Any = claimed, truth: Any = truth, theirs: Any = unchecked) -> Any:
                theirs.reset()
                theirs.update(claimed, truth)

            assert torch.equal(ours(Stopwatch(clock)), peer(Stopwatch(clock)))
            times = timing.measure(
                {"ours": ours, "torchmetrics": peer, "unchecked": bare},
                rounds=options.rounds or (2 if options.quick else 15),
                clock=clock,
                attempts=1 if options.quick else 3,
                wanted=lambda t: [t.speed("ours", "torchmetrics")],
            )
            report.add(f"{classes} classes: torchmetrics unchecked over ours", times.speed("ours", "unchecked"))
            report.add(f"{classes} classes: ours", times.per_unit("ours", 1e-3), unit="ms")
            report.add(f"{classes} classes: torchmetrics", times.per_unit("torchmetrics", 1e-3), unit="ms")
            report.add(
                f"{classes} classes: torchmetrics over ours",
                times.speed("ours", "torchmetrics"),
                Goal(30.0),
                times=times,
            )
    return report


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))
