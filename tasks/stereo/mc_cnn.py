"""MC-CNN (Zbontar and LeCun, 2016): how well two patches match, and the classical pipeline behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.stereo.architecture import StereoArchitecture
from tasks.stereo.loss import known
from visionkit.errors import UsageError
from visionkit.families.matching import cross_based, refinement
from visionkit.families.matching.cost_volume import shifted
from visionkit.families.matching.semi_global import Penalties, semi_global
from visionkit.geometry import InputSpec

_LUMA = (0.299, 0.587, 0.114)


class MatchingOutputs(NamedTuple):
    """Raw outputs of networks that score matches.

    Attributes:
        cost: (B, D, h, w) float32, smaller is more likely; empty in training, where the loss takes the features.
        gray: (B, 2, h, w) float32, left and right as gray images of mean 0 and deviation 1.
        features: For the loss alone: (B, C, h, w) of the left and of the right image.
    """

    cost: Tensor
    gray: Tensor
    features: tuple[Tensor, ...] = ()


class PatchNetwork(nn.Module):
    """Siamese 3x3 convolutions on gray images, run densely on whole images; a subclass scores two features.

    Args:
        layers: Number of convolutions, each of which lets a pixel see two more pixels each way.
        width: Channels.
        max_disparity: Number of disparities.
    """

    worst: ClassVar[float]

    def __init__(self, layers: int, width: int, max_disparity: int) -> None:
        super().__init__()
        convolutions: list[nn.Module] = []
        for number in range(layers):
            convolutions += [nn.Conv2d(width if number else 1, width, 3, padding=1), nn.ReLU()]
        self.features = nn.Sequential(*convolutions)
        self.bins = max_disparity

    def forward(self, left: Tensor, right: Tensor) -> MatchingOutputs:
        """(B, 3, h, w) float RGB in [0, 1] each."""
        channels = torch.cat([left, right]).split(1, dim=1)
        gray = sum(weight * channel for weight, channel in zip(_LUMA, channels, strict=True))
        assert isinstance(gray, Tensor)
        mean, spread = gray.mean(dim=(2, 3), keepdim=True), gray.std(dim=(2, 3), keepdim=True, correction=0)
        gray = (gray - mean) / spread.clamp(min=1e-3)
        batch, maps = left.shape[0], self.embed(gray)
        ours, theirs = maps[:batch], maps[batch:]
        shown = torch.cat([gray[:batch], gray[batch:]], dim=1).float()
        if self.training:
            return MatchingOutputs(ours.new_zeros(batch, 0, *ours.shape[-2:]), shown, (ours, theirs))
        return MatchingOutputs(self._costs(ours, theirs), shown, (ours, theirs))

    def _costs(self, ours: Tensor, theirs: Tensor) -> Tensor:
        ours, theirs = self.prepared(ours, theirs)
        line = torch.arange(ours.shape[-1], device=ours.device)
        costs = [
            torch.where(line >= shift, -self.match(ours, moved), self.worst)
            for shift, moved in enumerate(shifted(theirs, self.bins))
        ]
        return torch.stack(costs, dim=1).float()

    def embed(self, gray: Tensor) -> Tensor:
        """(B, 1, h, w) to the features (B, C, h, w) of every pixel's patch."""
        raise NotImplementedError

    def prepared(self, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        """What depends on one of the two images alone, computed once for all disparities."""
        return ours, theirs

    def match(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """How well prepared features of two patches match, (B, C, h, w) each to (B, h, w); larger is better."""
        raise NotImplementedError


class FastNetwork(PatchNetwork):
    """The cosine between the features of two patches."""

    worst = 1.0

    def embed(self, gray: Tensor) -> Tensor:
        return F.normalize(self.features[:-1](gray), dim=1)  # no activation behind the last convolution

    def match(self, ours: Tensor, theirs: Tensor) -> Tensor:
        return (ours * theirs).sum(dim=1)


class AccurateNetwork(PatchNetwork):
    """Fully connected layers that see the features of both patches.

    Args:
        layers: See `PatchNetwork`.
        width: See `PatchNetwork`.
        max_disparity: See `PatchNetwork`.
        hidden: Number of fully connected layers before the last one.
        units: Number of units of each of these layers.
    """

    worst = 0.0

    def __init__(self, layers: int, width: int, max_disparity: int, hidden: int, units: int) -> None:
        super().__init__(layers, width, max_disparity)
        self.first = nn.Conv2d(2 * width, units, 1)
        rest: list[nn.Module] = []
        for _ in range(hidden - 1):
            rest += [nn.ReLU(), nn.Conv2d(units, units, 1)]
        self.rest = nn.Sequential(*rest, nn.ReLU(), nn.Conv2d(units, 1, 1))

    def embed(self, gray: Tensor) -> Tensor:
        out: Tensor = self.features(gray)
        return out

    def prepared(self, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        # The first layer of features side by side is a sum of one half each.
        left, right = self.first.weight.chunk(2, dim=1)
        return F.conv2d(ours, left, self.first.bias), F.conv2d(theirs, right)

    def match(self, ours: Tensor, theirs: Tensor) -> Tensor:
        return self.logits(ours, theirs).sigmoid()

    def logits(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Of prepared features, (B, C, h, w) each to (B, h, w)."""
        out: Tensor = self.rest(ours + theirs)[:, 0]
        return out


@dataclass(frozen=True)
class MCCNN(StereoArchitecture):
    """What both networks of MC-CNN share: pairs of patches that are trained on, and the pipeline behind the costs.

    Attributes:
        max_disparity: Number of disparities, in pixels of the input.
        layers: Number of 3x3 convolutions.
        width: Channels of the convolutions.
        pairs: Number of patches of each image that a step trains on.
        positive: A matching patch lies up to this many pixels beside the true place.
        negative: A patch that does not match lies this far beside the true place, smallest and largest distance.
        cross_length: Arms of the crosses that costs are aggregated over are shorter than this.
        cross_threshold: Difference of gray values, in deviations of the image, that ends an arm.
        cross_before: Number of aggregations before semi-global matching.
        cross_after: Number of aggregations behind it.
        p1: Cost of a change of disparity by one pixel between neighbors.
        p2: Cost of a larger change.
        q1: Divides both at an edge of one image.
        q2: Divides both at an edge of both images.
        vertical: Divides `p1` between rows.
        edge: Difference of neighboring gray values, in deviations of the image, that is an edge.
        refine: Check left against right, interpolate, find sub-pixel places and smooth.
        blur_sigma: Deviation of the bilateral filter in pixels; 0 leaves it out.
        blur_threshold: Pixels of disparity that the bilateral filter does not mix.
    """

    layers: int = 4
    width: int = 64
    pairs: int = 4096
    positive: float = 0.5
    negative: tuple[float, float] = (1.5, 6.0)
    cross_length: int = 5
    cross_threshold: float = 0.13
    cross_before: int = 0
    cross_after: int = 0
    p1: float = 1.0
    p2: float = 8.0
    q1: float = 3.0
    q2: float = 6.0
    vertical: float = 1.5
    edge: float = 0.08
    refine: bool = True
    blur_sigma: float = 2.0
    blur_threshold: float = 2.0

    divisor: ClassVar[int] = 1
    outputs: ClassVar[type[tuple[Any, ...]]] = MatchingOutputs

    def losses(self, network: Any, outputs: MatchingOutputs, target: Any) -> dict[str, Tensor]:
        """The loss of patches at random places: each with a matching one and with one beside it."""
        ours, theirs = outputs.features
        truth, batch, width = target["disparity"], ours.shape[0], target["disparity"].shape[-1]
        place = self._draw(network, (batch, self.pairs), truth.device)
        index = (place * truth[0].numel()).long().clamp(max=truth[0].numel() - 1)
        disparity = truth.flatten(1).gather(1, index)
        column, row = index % width, index.div(width, rounding_mode="floor")
        near, far = (self._draw(network, index.shape, truth.device) for _ in range(2))
        side = torch.where(far < 0.5, -1.0, 1.0)
        low, high = self.negative
        distance = low + (2 * far % 1.0) * (high - low)
        matching = (column - disparity + self.positive * (2 * near - 1)).round()
        other = (column - disparity + side * distance).round()
        inside = (matching >= 0) & (matching < width) & (other >= 0) & (other < width)
        there = known(target).flatten(1).gather(1, index) & inside
        left = _at(ours, row, column)
        right, wrong = (_at(theirs, row, each.long().clamp(0, width - 1)) for each in (matching, other))
        each = self._pair_loss(network, left, right, wrong)
        return {self._term: torch.where(there, each, 0.0).sum() / there.sum().clamp(min=1)}

    _term: ClassVar[str]

    def _pair_loss(self, network: Any, left: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
        raise NotImplementedError

    def _draw(self, network: Any, shape: Any, device: torch.device) -> Tensor:
        """Uniform numbers in [0, 1), in evaluation always the same."""
        if network.training:
            return torch.rand(shape, device=device)
        return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)

    def decode(self, network: Any, outputs: MatchingOutputs) -> Tensor:
        """(B, h, w) float32 disparity in pixels of the input, behind the whole pipeline."""
        cost, gray = outputs.cost.float(), outputs.gray
        left, right = gray[:, 0], gray[:, 1]
        ours = self._aggregated(cost, left, right)
        disparity = ours.argmin(dim=1)
        if not self.refine:
            return disparity.float()
        # The right image, flipped, is a left image whose points the flipped left one shows at x - d.
        back = refinement.of_right_image(cost, network.worst).flip(-1)
        theirs = self._aggregated(back, right.flip(-1), left.flip(-1)).argmin(dim=1).flip(-1)
        disparity = refinement.interpolated(disparity, theirs, cost.shape[1])
        found = refinement.median_filter(refinement.subpixel(disparity, ours))
        return refinement.bilateral_filter(found, self.blur_sigma, self.blur_threshold) if self.blur_sigma else found

    def _aggregated(self, cost: Tensor, left: Tensor, right: Tensor) -> Tensor:
        penalties = Penalties(self.p1, self.p2, self.q1, self.q2, self.vertical, self.edge)
        if not (self.cross_before or self.cross_after):
            return semi_global(cost, left, right, penalties)
        ours, theirs = (cross_based.arms_of(image, self.cross_length, self.cross_threshold) for image in (left, right))
        cost = cross_based.aggregate(cost, ours, theirs, self.cross_before)
        cost = semi_global(cost, left, right, penalties)
        return cross_based.aggregate(cost, ours, theirs, self.cross_after)


def _at(maps: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Features at places, (B, C, h, w) and (B, n) each to (B, C, 1, n)."""
    index = (row * maps.shape[-1] + column)[:, None].expand(-1, maps.shape[1], -1)
    return maps.flatten(2).gather(2, index)[:, :, None]


@dataclass(frozen=True)
class MCCNNFast(MCCNN):
    """MC-CNN-fst (Zbontar and LeCun, 2016), 111,424 parameters: the cosine of features, trained by a hinge loss.

    Attributes:
        margin: By how much a match scores better than what lies beside it.
    """

    margin: float = 0.2

    _term: ClassVar[str] = "hinge"

    def build(self, backbone: None, spec: InputSpec) -> FastNetwork:
        """The network with random weights."""
        _check(self)
        return FastNetwork(self.layers, self.width, self.max_disparity)

    def _pair_loss(self, network: FastNetwork, left: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
        better = network.match(left, right) - network.match(left, wrong)
        return (self.margin - better)[:, 0].clamp(min=0)


@dataclass(frozen=True)
class MCCNNAccurate(MCCNN):
    """MC-CNN-acrt (Zbontar and LeCun, 2015), 870,449 parameters: fully connected layers on both patches.

    Attributes:
        width: Channels of the convolutions.
        pairs: Number of patches of each image that a step trains on.
        hidden: Number of fully connected layers before the last one.
        units: Number of units of each of these layers.
        cross_before: Number of aggregations before semi-global matching.
        p1: Cost of a change of disparity by one pixel between neighbors.
        p2: Cost of a larger change.
    """

    width: int = 112
    pairs: int = 512
    cross_before: int = 2
    p1: float = 1.32
    p2: float = 18.1
    hidden: int = 4
    units: int = 384

    _term: ClassVar[str] = "cross_entropy"

    def build(self, backbone: None, spec: InputSpec) -> AccurateNetwork:
        """The network with random weights."""
        _check(self)
        return AccurateNetwork(self.layers, self.width, self.max_disparity, self.hidden, self.units)

    def _pair_loss(self, network: AccurateNetwork, left: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
        good, bad = (network.logits(*network.prepared(left, each))[:, 0] for each in (right, wrong))
        return (F.softplus(-good) + F.softplus(bad)) / 2


def _check(architecture: MCCNN) -> None:
    low, high = architecture.negative
    if not architecture.positive < low <= high:
        raise UsageError(
            f"model: positive {architecture.positive:g} and negative {list(architecture.negative)}: a patch that does "
            "not match lies farther from the true place than one that does; give the smallest distance first"
        )
