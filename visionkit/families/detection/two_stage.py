"""R-CNN on a feature pyramid: proposals, a box head for each, and room for heads that process the final boxes.

`forward` gives one type in every mode: what is stated at every anchor, the proposals, and what the box head states
about each. The losses add the true boxes to the proposals by `read_boxes`, and heads for masks or keypoints are run by
`read_rois` once the final boxes are known, so thresholds stay free and an exported graph needs no training mode.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.ops import roi_align, roi_pool

from visionkit.backbones import Backbone, Features
from visionkit.errors import UsageError, suggest
from visionkit.families.detection.aggregation import ProposalAggregation, References
from visionkit.families.detection.boxes import Weights, clip_boxes, decode_boxes
from visionkit.families.detection.fpn import FPNNeck
from visionkit.families.detection.proposals import Proposals, RegionProposals, RPNMaps
from visionkit.families.detection.roi_align import align_regions
from visionkit.nn.norms import HeadNorm, head_norm

BOX_WEIGHTS: Weights = (10.0, 10.0, 5.0, 5.0)

Pooling = Literal["align", "pool"]


class RoIPyramid(nn.Module):
    """Cuts boxes out of a pyramid, each from the level that suits its size (Lin et al., 2017).

    Args:
        strides: Strides of the levels.
        side: Places a side of what is cut out.
        pooling: `align` samples between places (He et al., 2017), `pool` takes the maximum of rounded cells (Girshick,
            2015).
        canonical: A box of this side, in input pixels, is cut from the level of stride 16.
    """

    def __init__(self, strides: Sequence[int], side: int, pooling: Pooling = "align", canonical: float = 224.0) -> None:
        super().__init__()
        if pooling not in get_args(Pooling):
            allowed = get_args(Pooling)
            raise UsageError(f"pooling {pooling!r}: allowed are {', '.join(allowed)}{suggest(pooling, allowed)}")
        self.strides, self.side, self.pooling, self.canonical = tuple(strides), side, pooling, canonical

    def forward(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Cuts out.

        Args:
            maps: (B, C, h, w) of each stride.
            rois: (R, 5): number of the image, and the box in input pixels.

        Returns:
            (R, C, side, side).
        """
        exporting = torch.compiler.is_exporting()
        level = self._level(rois[:, 1:])
        if self.pooling == "align" and rois.device.type == "cpu" and not exporting:
            return align_regions(maps, self.strides, level, rois, self.side)
        if len(maps) == 1:
            return self._cut(maps[0], rois, self.strides[0])
        out = torch.zeros(
            rois.shape[0], maps[0].shape[1], self.side, self.side, dtype=maps[0].dtype, device=rois.device
        )
        for number, (map_, stride) in enumerate(zip(maps, self.strides, strict=True)):
            if exporting:  # no shape may depend on the values
                there = (level == number)[:, None]
                part = self._cut(map_, torch.where(there, rois, 0.0), stride)
                out = torch.where(there[..., None, None], part, out)
            else:
                index = (level == number).nonzero().squeeze(1)
                out = out.index_copy(0, index, self._cut(map_, rois[index], stride).to(out.dtype))
        return out

    def _level(self, boxes: Tensor) -> Tensor:
        side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0).sqrt()
        octave = (4 + (side / self.canonical).clamp(min=1e-6).log2() + 1e-6).floor()
        levels = torch.tensor(self.strides, dtype=torch.float32, device=boxes.device).log2().round()
        return (octave.clamp(levels[0], levels[-1])[:, None] - levels).abs().argmin(dim=1)

    def _cut(self, map_: Tensor, rois: Tensor, stride: int) -> Tensor:
        if self.pooling == "pool":
            return cast(Tensor, roi_pool(map_.float(), rois, self.side, 1.0 / stride)).to(map_.dtype)
        return cast(Tensor, roi_align(map_.float(), rois, self.side, 1.0 / stride, sampling_ratio=2)).to(map_.dtype)


class BoxHead(nn.Module):
    """Two hidden layers, or convolutions and one, then classes and a box for each of them; torchvision's.

    Args:
        strides: Strides of the levels.
        width: Their channels.
        classes: K.
        hidden: Width of the hidden layers.
        pooling: See `RoIPyramid`.
        canonical: See `RoIPyramid`.
        convs: Convolutions before one hidden layer, in place of two hidden layers where 0.
        norm: Normalization layers of the convolutions, see `visionkit.nn.norms.head_norm`.
        aggregate: Behind each hidden layer, take in what proposals of other frames show.
    """

    side = 7

    def __init__(
        self,
        strides: Sequence[int],
        width: int,
        classes: int,
        hidden: int,
        pooling: Pooling,
        canonical: float,
        convs: int = 0,
        norm: HeadNorm = "none",
        aggregate: bool = False,
    ) -> None:
        super().__init__()
        self.pool = RoIPyramid(strides, self.side, pooling, canonical)
        self.layers: nn.Module = (
            FastRCNNConvFCHead((width, self.side, self.side), [width] * convs, [hidden], head_norm(norm))
            if convs
            else TwoMLPHead(width * self.side**2, hidden)
        )
        self.predictor = FastRCNNPredictor(hidden, 1 + classes)
        self.classes = classes
        self.aggregations = nn.ModuleList(ProposalAggregation(hidden) for _ in self._hidden()[1]) if aggregate else None

    def forward(
        self, maps: Sequence[Tensor], boxes: Tensor, references: References | None = None
    ) -> tuple[Tensor, Tensor]:
        """Boxes (B, P, 4) to logits (B, P, 1 + K), background first, and deltas (B, P, K, 4).

        Args:
            maps: (B, C, h, w) of each stride.
            boxes: (B, P, 4) in input pixels.
            references: For a head that aggregates, proposals of other frames.
        """
        batch, count = boxes.shape[:2]
        cut = self.pool(maps, with_image(boxes))
        hidden = self.layers(cut) if references is None else self._aggregated(cut, references, (batch, count))
        logits, deltas = self.predictor(hidden)
        deltas = deltas.reshape(batch, count, 1 + self.classes, 4)[:, :, 1:]
        return logits.reshape(batch, count, 1 + self.classes), deltas

    def describe(self, maps: Sequence[Tensor], boxes: Tensor, valid: Tensor) -> References:
        """Boxes as references for those of other frames.

        Args:
            maps: (B, C, h, w) of each stride.
            boxes: (B, P, 4) in input pixels.
            valid: (B, P) bool.
        """
        before, layers = self._hidden()
        values, found = before(self.pool(maps, with_image(boxes))), []
        for layer in layers:
            found.append(layer(values))
            values = found[-1].relu()
        return References(torch.stack(found, dim=1).unflatten(0, tuple(boxes.shape[:2])), valid)

    def _aggregated(self, cut: Tensor, references: References, shape: tuple[int, int]) -> Tensor:
        assert self.aggregations is not None
        before, layers = self._hidden()
        values: Tensor = before(cut)
        for number, (layer, aggregation) in enumerate(zip(layers, self.aggregations, strict=True)):
            own = layer(values).unflatten(0, shape)
            values = aggregation(own, references.features[:, :, number], references.valid).flatten(0, 1).relu()
        return values

    def _hidden(self) -> tuple[nn.Module, list[nn.Module]]:
        """What comes before the hidden layers, and these, each of which ReLU follows."""
        if isinstance(self.layers, TwoMLPHead):
            return nn.Flatten(), [self.layers.fc6, self.layers.fc7]
        *body, last, _ = cast(nn.Sequential, self.layers)
        return nn.Sequential(*body), [last]


def with_image(boxes: Tensor) -> Tensor:
    """(B, P, 4) boxes to (B * P, 5): the number of the image first."""
    number = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)[:, None, None]
    return torch.cat([number.expand(-1, boxes.shape[1], 1), boxes], dim=-1).reshape(-1, 5)


@functools.lru_cache
def two_stage_outputs(strides: tuple[int, ...], maps_served: bool, aggregate: bool = False) -> Any:
    """The type of the outputs: one field for each map that a head cuts from.

    Fields with a default are for the losses alone and not part of an exported graph; the maps are among them unless a
    head reads them to predict.

    Args:
        strides: Strides of the maps.
        maps_served: Whether the maps are needed to predict.
        aggregate: Whether the box head aggregates proposals of other frames.

    Returns:
        A NamedTuple of `proposals` (B, P, 4) and `proposal_scores` (B, P); `logits` (B, P, 1 + K), background first;
        `boxes` (B, P, K, 4) in input pixels, cut off at the image; `map4`, `map8`, ... (B, C, h, w); `deltas`
        (B, P, K, 4); `anchor_logits` (B, A); `anchor_deltas` (B, A, 4); `anchors` (A, 4); where it aggregates,
        `reference_features` (B, R, L, D) and `reference_valid` (B, R), see `References`.
    """
    served = ["proposals", "proposal_scores", "logits", "boxes"]
    trained = ["deltas", "anchor_logits", "anchor_deltas", "anchors"]
    trained += ["reference_features", "reference_valid"] if aggregate else []
    maps = [f"map{stride}" for stride in strides]
    served, trained = (served + maps, trained) if maps_served else (served, maps + trained)
    made = NamedTuple("TwoStageOutputs", [(name, Any) for name in served + trained])  # type: ignore[misc]
    made.__new__.__defaults__ = (None,) * len(trained)
    made._field_defaults = dict.fromkeys(trained)
    return made


class TwoStageNetwork(nn.Module):
    """Faster R-CNN (Ren et al., 2015), and with a head for the final boxes Mask R-CNN (He et al., 2017).

    Args:
        backbone: Gives a pyramid.
        neck: Brings it to one width; its finest levels, those of the backbone, are cut from.
        proposals: The first stage.
        box_head: The second.
        roi_head: Run on the final boxes: `(maps, rois (R, 5)) -> Tensor` with R rows.
        aggregate: Best proposals of each other frame that the box head aggregates; 0 for a head that does not.

    Attributes:
        outputs: Type of what `forward` gives.
        keypoints: Number of keypoints that the last head finds, where it finds any.
    """

    def __init__(
        self,
        backbone: Backbone,
        neck: FPNNeck,
        proposals: RegionProposals,
        box_head: BoxHead,
        roi_head: nn.Module | None = None,
        aggregate: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.proposals, self.box_head = backbone, neck, proposals, box_head
        self.roi_head, self.aggregate = roi_head, aggregate
        self.outputs = two_stage_outputs(neck.own, roi_head is not None, aggregate > 0)
        self.keypoints = 0

    def forward(self, image: Tensor, references: References | None = None) -> Any:
        """(B, C, H, W) normalized images, or clips (B, T, C, H, W), to the outputs of both stages.

        Args:
            image: Of a clip the last frame is predicted on; the others are references of a head that aggregates.
            references: Such references, where they are known already.
        """
        size = (image.shape[-2], image.shape[-1])
        if image.dim() == 4:
            return self.read(self.backbone(image), size, references)
        if not self.aggregate:
            raise UsageError("clips: this detector takes single frames; set aggregate, or leave reference_frames out")
        batch, frames = image.shape[:2]
        pyramid, stated, found = self._propose(self.backbone(image.flatten(0, 1)), size)
        own, others = ([each.unflatten(0, (batch, frames))[:, part] for each in pyramid] for part in (-1, slice(-1)))
        others = [each.flatten(0, 1) for each in others]
        boxes, scores = (each.unflatten(0, (batch, frames)) for each in found)
        if frames > 1:
            best = boxes[:, :-1, : self.aggregate], scores[:, :-1, : self.aggregate]
            known = self.box_head.describe(others, best[0].flatten(0, 1), best[1].flatten(0, 1) >= 0)
            references = References(*(each.unflatten(0, (batch, frames - 1)).flatten(1, 2) for each in known))
        stated = stated._replace(
            logits=stated.logits.unflatten(0, (batch, frames))[:, -1],
            deltas=stated.deltas.unflatten(0, (batch, frames))[:, -1],
        )
        return self._decide(own, stated, Proposals(boxes[:, -1], scores[:, -1]), size, references)

    def read(self, features: Features, size: tuple[int, int], references: References | None = None) -> Any:
        """The half behind the backbone: a pass that other heads share is enough. `size` is the image's."""
        return self._decide(*self._propose(features, size), size, references)

    def _propose(self, features: Features, size: tuple[int, int]) -> tuple[list[Tensor], RPNMaps, Proposals]:
        pyramid = self.neck(features.pyramid)
        stated: RPNMaps = self.proposals(list(pyramid.values()), size)
        found = self.proposals.propose(stated, size)
        return [pyramid[stride] for stride in self.neck.own], stated, found

    def _decide(
        self,
        maps: list[Tensor],
        stated: RPNMaps,
        found: Proposals,
        size: tuple[int, int],
        references: References | None,
    ) -> Any:
        if self.aggregate:  # a frame is among its own references
            own = self._described(maps, found)
            references = own if references is None else References.joined([references, own])
        logits, deltas = self.box_head(maps, found.boxes, references)
        boxes = clip_boxes(decode_boxes(deltas.detach(), found.boxes[:, :, None], BOX_WEIGHTS), size)
        known = (
            {} if references is None else dict(zip(("reference_features", "reference_valid"), references, strict=True))
        )
        return self.outputs(
            proposals=found.boxes,
            proposal_scores=found.scores,
            logits=logits,
            boxes=boxes,
            deltas=deltas,
            anchor_logits=stated.logits,
            anchor_deltas=stated.deltas,
            anchors=stated.anchors,
            **{f"map{stride}": map_ for stride, map_ in zip(self.neck.own, maps, strict=True)},
            **known,
        )

    def _described(self, maps: Sequence[Tensor], found: Proposals) -> References:
        boxes, scores = found.boxes[:, : self.aggregate], found.scores[:, : self.aggregate]
        return self.box_head.describe(maps, boxes, scores >= 0)

    def described(self, outputs: Any) -> References:
        """The best proposals of images, as references for other frames."""
        return self._described(self.maps_of(outputs), Proposals(outputs.proposals, outputs.proposal_scores))

    def maps_of(self, outputs: Any) -> list[Tensor]:
        """The maps that heads cut from."""
        return [getattr(outputs, f"map{stride}") for stride in self.neck.own]

    def read_boxes(self, outputs: Any, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """What the box head states about other boxes (B, N, 4) of the same images, as `BoxHead.forward`."""
        known = References(outputs.reference_features, outputs.reference_valid) if self.aggregate else None
        return cast(tuple[Tensor, Tensor], self.box_head(self.maps_of(outputs), boxes, known))

    def read_rois(self, outputs: Any, rois: Tensor) -> Tensor:
        """What the last head states about boxes (R, 5), the number of the image first."""
        return cast(Tensor, self.second_stage()(*self.maps_of(outputs), rois))

    def second_stage(self) -> SecondStageGraph:
        """The last head as a network of its own."""
        if self.roi_head is None:
            raise UsageError("this network has no head for the final boxes")
        return SecondStageGraph(self.roi_head, self.neck.own)


class SecondStageGraph(nn.Module):
    """A head for the final boxes, as it is exported: `(*maps, rois (R, 5))` to what it states about each.

    Args:
        head: `(maps, rois) -> Tensor`; it is shared, not copied.
        strides: Strides of the maps.

    Attributes:
        inputs: Names of the inputs.
    """

    def __init__(self, head: nn.Module, strides: Sequence[int]) -> None:
        super().__init__()
        self.head = head
        self.inputs = (*(f"map{stride}" for stride in strides), "rois")

    def forward(self, *inputs: Tensor) -> Tensor:
        """Maps (B, C, h, w) of each stride, then boxes; rows in the order of the boxes."""
        return cast(Tensor, self.head(inputs[:-1], inputs[-1]))


def anchor_sizes(strides: Sequence[int], scale: float = 8.0) -> list[tuple[float]]:
    """One side a level: so many strides (32 to 512 on strides of 4 to 64, as published)."""
    return [(stride * scale,) for stride in strides]
