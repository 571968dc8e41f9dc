"""What pulls images of one person together and pushes people apart; none of it is served.

The margin losses compare an embedding with one learned direction per person. Their matrix (people x D) is all that
grows with the number of people; `MarginHead` holds it whole. For millions of people it is to be cut by people over the
ranks (PartialFC, An et al., 2022): a head then sees the embeddings of all ranks and its own people's directions, and
only the softmax's sums travel. That head would take this one's place here, with the same call, and nothing else would
know of it.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.errors import UsageError, suggest

LossName = Literal["softmax", "l_softmax", "sphereface", "cosface", "arcface", "subcenter_arcface", "triplet"]
LOSSES: tuple[str, ...] = get_args(LossName)

_DEFAULTS: dict[str, tuple[float, float]] = {
    "softmax": (0.0, 1.0),
    "l_softmax": (4.0, 1.0),
    "sphereface": (4.0, 1.0),
    "cosface": (0.35, 64.0),
    "arcface": (28.6, 64.0),
    "subcenter_arcface": (28.6, 64.0),
    "triplet": (0.2, 1.0),
}
"""Margin and scale of each paper: degrees for ArcFace, a cosine for CosFace, a factor for the first two."""


class SoftmaxHead(nn.Module):
    """Plain softmax over the people of the training split: the baseline without a margin.

    Args:
        identities: Number of people.
        embedding: Width D.
    """

    def __init__(self, identities: int, embedding: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(embedding, identities)

    def forward(self, embedding: Tensor, identity: Tensor) -> Tensor:
        """(B, D) and (B,) to the mean loss."""
        return F.cross_entropy(self.classifier(embedding), identity)


class MarginHead(nn.Module):
    """A margin loss of pytorch-metric-learning with its matrix of directions.

    Args:
        loss: Loss of that library; takes embeddings (B, D) and identities (B,).
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, embedding: Tensor, identity: Tensor) -> Tensor:
        """(B, D) and (B,) to the mean loss."""
        value: Tensor = self.loss(embedding, identity)
        return value


class TripletLoss(nn.Module):
    """Triplets whose negative is farther than the positive but within the margin (FaceNet, Schroff et al., 2015).

    Needs several images per person in a batch: `data.per_identity`. Distances are of normalized embeddings. Where a
    batch has no such triplet, the hardest negatives are taken in their place, so that training continues.

    Args:
        margin: Margin in distance.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        from pytorch_metric_learning.losses import TripletMarginLoss
        from pytorch_metric_learning.miners import TripletMarginMiner

        self.loss = TripletMarginLoss(margin=margin)
        self.semihard = TripletMarginMiner(margin=margin, type_of_triplets="semihard")
        self.hard = TripletMarginMiner(margin=margin, type_of_triplets="hard")

    def forward(self, embedding: Tensor, identity: Tensor) -> Tensor:
        """(B, D) and (B,) to the mean loss of the triplets that were mined."""
        triplets = self.semihard(embedding, identity)
        if len(triplets[0]) == 0:
            triplets = self.hard(embedding, identity)
        value: Tensor = self.loss(embedding, identity, triplets)
        return value + 0.0 * embedding.sum()  # a batch without any triplet still has a gradient, of zeros


class FaceLoss(nn.Module):
    """One of the losses by name, always in float32: a margin is a few bits wide in bfloat16.

    Args:
        name: See `LOSSES`.
        identities: People of the training split.
        embedding: Width D.
        margin: The paper's by default: degrees for `arcface` and `subcenter_arcface`, a cosine for `cosface`, a
            whole factor for `l_softmax` and `sphereface`, a distance for `triplet`.
        scale: Scale of the sphere on which cosines are compared (the papers' scale s); the paper's by default. Few
            people need a small one.
        sub_centers: For `subcenter_arcface`, directions per person.

    Raises:
        UsageError: An unknown loss.
    """

    def __init__(
        self,
        name: str,
        identities: int,
        embedding: int,
        margin: float | None = None,
        scale: float | None = None,
        sub_centers: int = 3,
    ) -> None:
        super().__init__()
        if name not in LOSSES:
            raise UsageError(f"model.loss {name!r}: allowed are {', '.join(LOSSES)}{suggest(name, LOSSES)}")
        own_margin, own_radius = _DEFAULTS[name]
        margin, scale = own_margin if margin is None else margin, own_radius if scale is None else scale
        if scale <= 0 or margin < 0:
            raise UsageError(f"model.scale {scale} must be above 0 and model.margin {margin} at least 0")
        self.name, self.identities = name, identities
        self.head = _build(name, identities, embedding, margin, scale, sub_centers)

    def forward(self, embedding: Tensor, identity: Tensor) -> Tensor:
        """Mean loss of a batch.

        Args:
            embedding: (B, D) float.
            identity: (B,) int64 below `identities`.
        """
        with torch.autocast(embedding.device.type, enabled=False):
            value: Tensor = self.head(embedding.float(), identity)
        return value


def _build(name: str, identities: int, embedding: int, margin: float, scale: float, sub_centers: int) -> nn.Module:
    if name == "softmax":
        return SoftmaxHead(identities, embedding)
    if name == "triplet":
        return TripletLoss(margin)
    from pytorch_metric_learning import losses

    size: dict[str, Any] = {"num_classes": identities, "embedding_size": embedding}
    if name in ("l_softmax", "sphereface"):
        if margin != int(margin) or margin < 1:
            raise UsageError(f"model.margin {margin:g}: {name} multiplies the angle by it; give a whole number from 1")
        kind = losses.LargeMarginSoftmaxLoss if name == "l_softmax" else losses.SphereFaceLoss
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of numpy's, meant for that library
            return MarginHead(kind(**size, margin=int(margin), scale=scale))
    if name == "cosface":
        return MarginHead(losses.CosFaceLoss(**size, margin=margin, scale=scale))
    if name == "arcface":
        return MarginHead(losses.ArcFaceLoss(**size, margin=margin, scale=scale))
    return MarginHead(losses.SubCenterArcFaceLoss(**size, margin=margin, scale=scale, sub_centers=sub_centers))
