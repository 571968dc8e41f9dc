"""The network: backbone, hybrid encoder, selection of queries, decoder."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from visionkit.backbones import Backbone, Features
from visionkit.families.detection.boxes import clip_boxes
from visionkit.families.detection.detr.decoders import BoxDecoder, DistributionDecoder
from visionkit.families.detection.detr.deformable import Shapes
from visionkit.families.detection.detr.hybrid_encoder import HybridEncoder
from visionkit.families.detection.detr.layers import MLP, class_head


class DETROutputs(NamedTuple):
    """Raw outputs, one row per query; there is nothing to suppress.

    Fields with a default are for the losses alone and not part of an exported graph. Boxes among them are center and
    sides as fractions of the image.

    Attributes:
        logits: (B, Q, K) class logits, each class judged by itself.
        boxes: (B, Q, 4) float32 in input pixels, cut off at the image.
        all_logits: (S, B, Q, K) of every stage: the L layers, D-FINE's first boxes, the selected positions.
        all_boxes: (S, B, Q, 4) of every stage.
        corners: (L, B, Q, 4 * (bins + 1)) logits of the sides' offsets, D-FINE's.
        first: (B, Q, 4) boxes that these offsets begin at.
        keys: (L, B, Q, width) of each layer's self-attention, which denoising queries see; in training alone.
        values: (L, B, Q, width), likewise, the queries that each layer is given; also where there is a further head.
        queries: (B, Q, width) that the last layer gives.
        memory: (B, A, width) positions of all maps; in training alone.
        shapes: (M, 2) int64, height and width of each map.
        size: (2,) int64, height and width of the image.
    """

    logits: Tensor
    boxes: Tensor
    all_logits: Tensor | None = None
    all_boxes: Tensor | None = None
    corners: Tensor | None = None
    first: Tensor | None = None
    keys: Tensor | None = None
    values: Tensor | None = None
    queries: Tensor | None = None
    memory: Tensor | None = None
    shapes: Tensor | None = None
    size: Tensor | None = None


def outputs_with(name: str, *further: str) -> Any:
    """The type of the outputs of a network whose queries have a further head.

    Args:
        name: Name of the type.
        *further: Fields that the head gives; they are part of an exported graph, as logits and boxes are.
    """
    trained = DETROutputs._fields[2:]
    made = NamedTuple(name, [(each, Any) for each in (*DETROutputs._fields[:2], *further, *trained)])  # type: ignore[misc]
    made.__new__.__defaults__ = (None,) * len(trained)
    made._field_defaults = dict.fromkeys(trained)
    return made


class QueryHead(nn.Module):
    """Predicts more of every query than class and box."""

    @abstractmethod
    def read(
        self, queries: Tensor, boxes: Tensor, features: Features, maps: list[Tensor], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """What is predicted of the queries, by the names of fields of the outputs.

        Args:
            queries: (B, Q, width) that the last layer gives.
            boxes: (B, Q, 4) their center and sides as fractions of the image.
            features: The backbone's.
            maps: The encoder's maps, finest first.
            size: Height and width of the image.
        """


def layers_of(outputs: Any) -> Tensor:
    """(L, B, Q, width): the queries that each layer gives."""
    return torch.cat([outputs.values[1:], outputs.queries[None]])


class DETRNetwork(nn.Module):
    """A detector with queries on any pyramid.

    Args:
        backbone: Gives a pyramid.
        encoder: Fuses its maps.
        encoder_width: Channels of the encoder's maps.
        decoder: Runs the queries.
        width: Channels of the queries.
        classes: K.
        queries: Number of queries; fewer where the maps have fewer positions.
        project: Project the encoder's maps even where they have the queries' width, as RT-DETR does.
        head: What else is predicted of every query.
        outputs: Type of what `forward` gives.
    """

    def __init__(
        self,
        backbone: Backbone,
        encoder: HybridEncoder,
        encoder_width: int,
        decoder: BoxDecoder | DistributionDecoder,
        width: int,
        classes: int,
        queries: int,
        project: bool,
        head: QueryHead | None = None,
        outputs: Any = DETROutputs,
    ) -> None:
        super().__init__()
        self.backbone, self.encoder, self.decoder, self.queries = backbone, encoder, decoder, queries
        self.head, self.outputs = head, outputs
        direct = encoder_width == width and not project
        self.projections = nn.ModuleList(
            nn.Identity() if direct else _Projection(encoder_width, width) for _ in encoder.strides
        )
        self.selection = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        nn.init.xavier_uniform_(cast(nn.Linear, self.selection[0]).weight)
        self.selection_classes = class_head(width, classes)
        self.selection_box = MLP(width, width, width, 4, zero=True)
        # One row more, of zeros, for the denoising queries that pad a batch.
        self.denoising_labels = nn.Embedding(classes + 1, width, padding_idx=classes)

    def forward(self, image: Tensor) -> Any:
        """(B, C, H, W) normalized images to outputs of every query."""
        return self.read(self.backbone(image), (image.shape[-2], image.shape[-1]))

    def read(self, features: Features, size: tuple[int, int]) -> Any:
        """The head's half: a backbone pass that other heads share is enough. `size` is the image's."""
        fused = self.encoder([features.pyramid[stride] for stride in self.encoder.strides])
        maps = [layer(map_) for layer, map_ in zip(self.projections, fused, strict=True)]
        shapes = [(map_.shape[-2], map_.shape[-1]) for map_ in maps]
        memory = torch.cat([map_.flatten(2).transpose(1, 2) for map_ in maps], dim=1)
        queries, start, chosen_logits = self._select(memory, shapes)
        decoded = self.decoder(queries, start.detach(), memory, shapes)
        stages = [(decoded.logits, decoded.boxes)]
        if decoded.first_logits is not None and decoded.first_boxes is not None:
            stages.append((decoded.first_logits[None], decoded.first_boxes[None]))
        stages.append((chosen_logits[None], start.sigmoid()[None]))
        all_logits, all_boxes = (torch.cat(each) for each in zip(*stages, strict=True))
        last = decoded.boxes[-1].detach()
        center, half = last[..., :2], last[..., 2:] / 2
        sides = torch.cat([center - half, center + half], dim=-1).unbind(-1)
        boxes = torch.stack([side * size[1 - axis % 2] for axis, side in enumerate(sides)], dim=-1)
        boxes = clip_boxes(boxes, size)
        further = {} if self.head is None else self.head.read(decoded.queries, last, features, fused, size)
        if self.training or self.head is not None:
            further |= {"values": decoded.values, "queries": decoded.queries}
        if self.training:
            further |= {"keys": decoded.keys, "memory": memory}
        return self.outputs(
            logits=decoded.logits[-1],
            boxes=boxes,
            all_logits=all_logits,
            all_boxes=all_boxes,
            corners=decoded.corners,
            first=decoded.first,
            shapes=torch.tensor(shapes),
            size=torch.tensor(size),
            **further,
        )

    def _select(self, memory: Tensor, shapes: Shapes) -> tuple[Tensor, Tensor, Tensor]:
        """The positions that look most like an object become queries.

        Returns:
            (B, Q, width) queries, without gradient, (B, Q, 4) logits of their boxes, (B, Q, K) of their classes.
        """
        anchors, inside = position_boxes(shapes, memory.device)
        seen = self.selection(memory * inside.to(memory.dtype))
        logits = self.selection_classes(seen)
        count = min(self.queries, memory.shape[1])
        rows = logits.amax(dim=-1).topk(count, dim=1).indices[..., None]
        chosen = seen.gather(1, rows.expand(-1, -1, seen.shape[-1]))
        own = anchors[rows.squeeze(-1)]
        boxes = self.selection_box(chosen).float() + own
        return chosen.detach(), boxes, logits.gather(1, rows.expand(-1, -1, logits.shape[-1]))


class _Projection(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        nn.init.xavier_uniform_(self.conv.weight)


SMALLEST, MARGIN, OUTSIDE = 0.05, 0.01, 1e4


def position_boxes(shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
    """The boxes that positions begin with: squares of 0.05 of the image on the finest map, twice as large on the next.

    Args:
        shapes: Shapes of the maps.
        device: Where they are made.

    Returns:
        (A, 4) logits of center and sides, and (A, 1) bool; boxes closer to the border than 0.01 are none.
    """
    parts = []
    for level, (height, width) in enumerate(shapes):
        y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
        x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
        down, across = torch.meshgrid(y, x, indexing="ij")
        side = torch.full_like(down, SMALLEST * 2.0**level)
        parts.append(torch.stack([across, down, side, side], dim=-1).flatten(0, 1))
    boxes = torch.cat(parts)
    inside = ((boxes > MARGIN) & (boxes < 1 - MARGIN)).all(dim=-1, keepdim=True)
    return torch.where(inside, (boxes / (1 - boxes)).log(), OUTSIDE), inside
