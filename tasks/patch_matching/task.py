"""Patch matching: do two patches show the same point?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from torch import Tensor
from torchmetrics import MetricCollection

from tasks.patch_matching.analysis import PairAnalysis
from tasks.patch_matching.architecture import PatchArchitecture
from tasks.patch_matching.loss import LossName, match_loss
from tasks.patch_matching.metrics import MatchMetrics, curve_table
from tasks.patch_matching.network import PatchNetwork, PatchOutputs
from tasks.patch_matching.postprocess import judged, to_matches
from visionkit.analysis.base import Analysis
from visionkit.architecture_task import ArchitectureTask
from visionkit.architectures import Architectures
from visionkit.errors import UsageError, suggest
from visionkit.geometry import Geometry, InputSpec
from visionkit.nn.normalize import Normalize
from visionkit.predictions import Prediction
from visionkit.run_report.charts import Chart, Curves
from visionkit.types import Batch

THRESHOLD = "threshold"
"""Fact of the model card that holds the score from which a pair counts as a match."""


class PatchMatchingTask(ArchitectureTask):
    """Compares two patches: a score that is high where they show the same point (Zagoruyko and Komodakis, 2015).

    The score from which a pair counts as a match is chosen on the validation split of each epoch and kept with the
    weights; a model that was never validated takes 0, where the losses part the pairs.

    Args:
        architecture: Name of the network.
        loss: `hinge`, as in the paper, or `bce`, binary cross-entropy, whose score is the logarithm of the odds.
        **shared: See `VisionTask`; each architecture has its arguments under its name. The input is by default gray
            patches of 64x64, both of one size; `tied` off takes two of different sizes.

    Example:
        >>> task = PatchMatchingTask("siamese")
        >>> patches = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
        >>> task(patches, patches).score.shape
        torch.Size([2])
    """

    name = "patch_matching"
    title = "Patch matching"
    question = "Do two patches show the same point?"
    kinds = ("patch_match",)
    monitor = ("val/fpr95", "min")
    inputs = ("first", "second")
    targets = ("match",)
    outputs = PatchOutputs
    architectures = Architectures[PatchArchitecture]("patch_matching")
    withheld = ("classes",)

    architecture: PatchArchitecture
    network: PatchNetwork

    def __init__(
        self,
        architecture: str = "siamese",
        *,
        loss: LossName = "hinge",
        **shared: Any,
    ) -> None:
        shared["input"] = InputSpec.of(shared.get("input"), self.default_input())
        super().__init__(architecture=architecture, **shared)
        if loss not in get_args(LossName):
            raise UsageError(f"model.loss {loss!r}: allowed are hinge, bce{suggest(loss, get_args(LossName))}")
        if self.input.resize_mode == "native":
            raise UsageError("model.input.resize_mode native: patches are compared at one size; take stretch")
        self.loss = loss
        self.network = self.architecture.build(self.input)
        # A backbone takes its own mean off; the paper's networks take off that of each patch.
        self.normalize = Normalize((0.0,), (1.0,))
        self.metrics = MetricCollection({"pairs": MatchMetrics()})

    @classmethod
    def default_input(cls, **init_args: Any) -> InputSpec:
        """Gray patches of 64x64, as in the paper."""
        return InputSpec(size=(64, 64), resize_mode="stretch", channels=1)

    def losses(self, outputs: PatchOutputs, target: Any) -> dict[str, Tensor]:
        return {self.loss: match_loss(self.loss, outputs.score.float(), target["match"])}

    def decode(self, outputs: PatchOutputs, threshold: float | None = None) -> Tensor:
        """(B, 2) float32: score and threshold.

        Args:
            outputs: Raw outputs.
            threshold: Score from which a pair counts as a match; the model's own by default.
        """
        chosen = self.card.get(THRESHOLD, 0.0) if threshold is None else threshold
        return judged(outputs.score, float(chosen))

    def restore(self, decoded: Tensor, geometry: Sequence[Geometry]) -> list[Prediction]:
        return list(to_matches(decoded))

    def measure(self, decoded: Tensor, batch: Batch) -> None:
        self.metrics.update(decoded[:, 0], batch["target"]["match"])

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        chosen = float(self.trainer.callback_metrics["val/threshold"])
        if self.trainer.state.fn == "fit" and chosen == chosen:
            self.card = {**self.card, THRESHOLD: chosen}

    def tabulate(self, computed: Mapping[str, Tensor]) -> dict[str, list[dict[str, Any]]]:
        return {"roc": curve_table(computed["roc"])} if "roc" in computed else {}

    def analysis(self) -> Analysis:
        return PairAnalysis()

    def charts(self) -> dict[str, Chart]:
        return {"roc": Curves("fpr", "recall", ("recall",))}

    @property
    def protocol(self) -> str:
        height, width = self.input.size
        return (
            f"{self.chosen} on {'gray' if self.input.channels == 1 else 'color'} patches of {height}x{width}; fpr95: "
            "fraction of other pairs that are accepted where 95 % of the matches are; every score a threshold"
        )
