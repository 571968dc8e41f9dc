"""What RT-DETR and D-FINE have in common as architectures: queries, losses and the selection of predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from visionkit.argument_types import at_least
from visionkit.backbones import Backbone
from visionkit.errors import UsageError, suggest
from visionkit.families.detection.architecture import DetectionArchitecture
from visionkit.families.detection.boxes import Objects, encode_fractions, gather_objects
from visionkit.families.detection.detr.decoders import BoxDecoder, DecoderSizes, DistributionDecoder
from visionkit.families.detection.detr.denoising import noisy_copies
from visionkit.families.detection.detr.hybrid_encoder import Fusion, HybridEncoder, branch_width
from visionkit.families.detection.detr.layers import Seen
from visionkit.families.detection.detr.loss import Stages, denoising_losses, matched_losses
from visionkit.families.detection.detr.matching import Matched, MatchWeights, match_queries
from visionkit.families.detection.detr.network import DETRNetwork, DETROutputs, QueryHead
from visionkit.families.detection.detr.published import Published, load_published
from visionkit.families.detection.select import SelectedBoxes, Thresholds
from visionkit.task import VisionTask

LARGE: dict[str, Any] = {
    "strides": (8, 16, 32),
    "neck_channels": 256,
    "encoder_feedforward": 1024,
    "encoder_blocks": 3,
    "encoder_expansion": 1.0,
    "channels": 256,
    "feedforward": 1024,
    "layers": 6,
}
"""What the large sizes of both published networks agree on."""


class SelectedQueries(NamedTuple):
    """The highest scores of one image, as many rows as there may be detections.

    Rows at or below the threshold have score 0 and a box without area, which is no prediction.

    Attributes:
        boxes: (N, 4) float32 in input pixels.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64, 0-based without background.
        rows: (N,) int64, the query of each.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    rows: Tensor


@dataclass(frozen=True)
class DETR(DetectionArchitecture):
    """A detector with queries, whose arguments are by default those of a published size.

    Attributes:
        size: Published size; arguments that are not given are its own.
        strides: Strides of the backbone's maps that are used.
        neck_channels: Channels of the encoder's maps, a multiple of `heads` and of 4.
        encoder_feedforward: Width of the hidden layer of the encoder's attention.
        encoder_blocks: Convolution blocks where the encoder fuses two maps.
        encoder_expansion: Width of these blocks as a fraction of `neck_channels`.
        channels: Channels of the queries, a multiple of `heads`.
        feedforward: Width of the hidden layers of the decoder.
        layers: Layers of the decoder.
        points: Samples of an attention head on each map, one number per stride.
        heads: Heads of every attention.
        queries: Number of queries per image, hence of objects that can be found.
        denoising: Noisy copies of true boxes that help in training; at least one per object is always made.
        label_noise: Half of this fraction of the copies' labels is drawn again at random.
        box_noise: How far the copies' corners move, as a part of half a side.
    """

    size: str = ""
    strides: Sequence[int] | None = None  # type: ignore[assignment]  # never None once it is made
    neck_channels: int | None = None
    encoder_feedforward: int | None = None
    encoder_blocks: int | None = None
    encoder_expansion: float | None = None
    channels: int | None = None
    feedforward: int | None = None
    layers: int | None = None
    points: Sequence[int] | None = None
    heads: int = 8
    queries: int = 300
    denoising: int = 100
    label_noise: float = 0.5
    box_noise: float = 1.0

    nms: ClassVar[float] = 1.0
    tile_overlap: ClassVar[float] = 0.5
    public: ClassVar[Mapping[str, Published]] = {}
    place: ClassVar[str]
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Arguments of each published size."""
    fusion: ClassVar[Fusion]

    def __post_init__(self) -> None:
        place = f"model.{self.place}"
        if self.size not in self.sizes:
            raise UsageError(
                f"{place}.size {self.size!r}: allowed are {', '.join(self.sizes)}{suggest(self.size, self.sizes)}"
            )
        points = self.points
        for name, value in self.sizes[self.size].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        own = self.settled
        if not own.strides:
            raise UsageError(f"{place}.strides: at least one is needed")
        if points is None:
            # Another pyramid than the published one: as many samples on every map as on the first.
            object.__setattr__(self, "points", (tuple(own.points) * len(own.strides))[: len(own.strides)])
        elif len(points) != len(own.strides):
            raise UsageError(
                f"{place}.points {list(points)}: one number per stride is needed, and strides are {list(own.strides)}"
            )
        counted = ("encoder_feedforward", "feedforward", "layers", "heads", "queries", "encoder_blocks")
        at_least(place, 1, **{name: getattr(own, name) for name in counted})
        at_least(place, 1, **{f"points.{number}": count for number, count in enumerate(own.points)})
        at_least(place, 0, denoising=self.denoising, label_noise=self.label_noise, box_noise=self.box_noise)
        for name, step in (("neck_channels", 4), ("channels", 1)):
            value = getattr(self, name)
            if value < 1 or value % self.heads or value % step:
                raise UsageError(
                    f"{place}.{name} {value}: must be a multiple of heads ({self.heads})"
                    + (f" and of {step}" if step > 1 else "")
                )
        if branch_width(self.fusion, own.neck_channels, own.encoder_expansion) < 1:
            raise UsageError(
                f"{place}.encoder_expansion {self.encoder_expansion:g}: leaves no channel of {self.neck_channels}"
            )

    @property
    def settled(self) -> Any:
        """Itself, all of whose arguments are set, by the user or else by the size."""
        return self

    @classmethod
    def load_public(cls, task: type[VisionTask], name: str) -> VisionTask:
        return load_published(task, cls.place, name, cls.public)

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        return DETROutputs

    @property
    def layers_used(self) -> int:
        """Layers of the decoder that are run outside of training."""
        return cast(int, self.layers)

    def decoder(self, sizes: DecoderSizes, classes: int) -> BoxDecoder | DistributionDecoder:
        """The decoder for K classes."""
        raise NotImplementedError

    def build(self, backbone: Backbone, classes: int) -> nn.Module:
        return self.assemble(backbone, classes)

    def assemble(self, backbone: Backbone, classes: int, head: QueryHead | None = None) -> DETRNetwork:
        """The network on a backbone; `head` predicts more of every query than class and box, see `outputs`."""
        own = self.settled
        encoder = HybridEncoder(
            {stride: backbone.channels[stride] for stride in sorted(own.strides)},
            own.neck_channels,
            self.heads,
            own.encoder_feedforward,
            self.fusion,
            own.encoder_blocks,
            own.encoder_expansion,
        )
        sizes = DecoderSizes(own.channels, self.heads, own.feedforward, own.points, own.layers, self.layers_used)
        decoder = self.decoder(sizes, classes)
        return DETRNetwork(
            backbone,
            encoder,
            own.neck_channels,
            decoder,
            own.channels,
            classes,
            self.queries,
            isinstance(decoder, BoxDecoder),
            head,
            self.outputs,
        )

    def losses(self, network: Any, outputs: Any, target: Any) -> dict[str, Tensor]:
        """Terms of the matched queries, summed over the stages, and in training one of the denoising queries."""
        objects = fractions(gather_objects(target, outputs.logits.device), outputs.size)
        bins, scale = getattr(network.decoder, "bins", None), getattr(network.decoder, "scale", 1.0)
        stages = Stages(outputs.all_logits, outputs.all_boxes, outputs.corners, outputs.first)
        more = self.further_cost(network, outputs, target)
        matched = match_queries(stages.logits, stages.boxes, objects, MatchWeights(), more)
        terms, counts = matched_losses(stages, objects, matched, bins, scale, network.training)
        terms |= self.further_losses(network, outputs, target, objects, matched)
        if outputs.keys is None:
            return terms
        count, classes = outputs.logits.shape[1], outputs.logits.shape[2]
        copies = noisy_copies(objects, classes, count, self.denoising, self.label_noise, self.box_noise)
        shapes = [(height, width) for height, width in outputs.shapes.tolist()]
        queries = network.denoising_labels(copies.labels).to(outputs.memory.dtype)
        seen = Seen(outputs.keys, outputs.values, copies.mask)
        found = network.decoder(queries, copies.boxes, outputs.memory, shapes, seen)
        logits, boxes = found.logits, found.boxes
        if found.first_logits is not None:
            logits = torch.cat([logits, found.first_logits[None]])
            boxes = torch.cat([boxes, found.first_boxes[None]])
        own = Stages(logits, boxes, found.corners, found.first)
        terms["denoising"] = denoising_losses(own, objects, copies.objects, copies.groups, counts, bins, scale)
        return terms

    def further_cost(self, network: Any, outputs: Any, target: Any) -> Tensor | None:
        """(L, B, Q, N) what matching a query of a layer with an object costs beside its class and box."""
        return None

    def further_losses(
        self, network: Any, outputs: Any, target: Any, objects: Objects, matched: Matched
    ) -> dict[str, Tensor]:
        """Terms of what else is predicted of every query."""
        return {}

    def select(self, outputs: Any, limits: Thresholds) -> list[SelectedQueries]:
        """The highest scores over queries and classes. The device is not waited for."""
        scores = outputs.logits.float().sigmoid().flatten(1)
        scores, index = scores.topk(min(limits.detections, scores.shape[1]), dim=1)
        classes = outputs.logits.shape[-1]
        rows, labels = index // classes, index % classes
        boxes = outputs.boxes.gather(1, rows[..., None].expand(-1, -1, 4))
        good = scores > limits.score
        boxes, scores = torch.where(good[..., None], boxes, 0.0), torch.where(good, scores, 0.0)
        found = [SelectedQueries(*each) for each in zip(boxes, scores, labels, rows, strict=True)]
        return found if limits.nms >= 1 else [_suppressed(each, limits.nms) for each in found]

    def decode(self, network: Any, outputs: Any, limits: Thresholds) -> list[SelectedBoxes]:
        return [SelectedBoxes(*each[:3]) for each in self.select(outputs, limits)]


def fractions(objects: Objects, size: Tensor) -> Objects:
    """Objects whose boxes are center and sides as fractions of an image of `size` (2,) height and width."""
    height, width = size.tolist()
    whole = objects.boxes.new_zeros(1, 4)  # filled in place: a tensor of Python numbers would wait for the device
    whole[:, 2].fill_(width)
    whole[:, 3].fill_(height)
    return objects._replace(boxes=encode_fractions(objects.boxes, whole))


def _suppressed(found: SelectedQueries, overlap: float) -> SelectedQueries:
    keep = batched_nms(found.boxes, found.scores, found.labels, overlap)
    return SelectedQueries(*(each[keep] for each in found))
