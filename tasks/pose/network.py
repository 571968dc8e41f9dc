"""Networks that share backbone and blocks: heatmaps in one stage or several, fields between keypoints, and places.

SimpleBaseline (Xiao et al., 2018) is a decoder with one 1x1 convolution; a Convolutional Pose Machine (Wei et al.,
2016) refines its maps in further stages that see the maps before; OpenPose (Cao et al., 2017) does the same with maps
of limbs beside those of keypoints; DeepPose (Toshev and Szegedy, 2014) regresses positions and refines them on crops
around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.backbones import Backbone, Features


class HeatmapOutputs(NamedTuple):
    """Raw outputs of `simple_baseline` and `cpm`.

    Attributes:
        heatmaps: (B, S, K, h, w) float: one map per keypoint, from each of S stages; the last one is served.
    """

    heatmaps: Tensor


class FieldOutputs(NamedTuple):
    """Raw outputs of `openpose`.

    Attributes:
        heatmaps: (B, S, K, h, w) float.
        fields: (B, S, 2 L, h, w) float: x and y of the unit vector along each of L limbs, where one is.
    """

    heatmaps: Tensor
    fields: Tensor


class OffsetOutputs(NamedTuple):
    """Raw outputs of `simple_baseline` and `cpm` where they are trained on discs and offsets.

    Attributes:
        heatmaps: (B, S, K, h, w) float.
        offsets: (B, S, 2 K, h, w) float: x and y of the way to the keypoint, in radii of its disc.
    """

    heatmaps: Tensor
    offsets: Tensor


class PlaceOutputs(NamedTuple):
    """Raw outputs of `deeppose`.

    Attributes:
        places: (B, S, K, 2) float: x and y of each keypoint as fractions of the input's width and height, after each
            stage.
        spread: (B, K) float: the log of the mean error that the network expects, as a fraction of the input's height.
    """

    places: Tensor
    spread: Tensor


AnyOutputs = HeatmapOutputs | FieldOutputs | OffsetOutputs | PlaceOutputs


class DeconvDecoder(nn.Module):
    """Transposed convolutions, each of which doubles the map.

    Args:
        channels: Number of channels of the map it takes.
        width: Channels of every layer.
        layers: How many; with 0 the map stays as it is.
    """

    def __init__(self, channels: int, width: int = 256, layers: int = 3) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for number in range(layers):
            deconv = nn.ConvTranspose2d(channels if number == 0 else width, width, 4, 2, 1, bias=False)
            nn.init.normal_(deconv.weight, std=0.001)
            parts += [deconv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*parts)
        self.channels = width if layers else channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class StagedHead(nn.Module):
    """Maps from features, then the same maps again from features and the maps before, as often as asked.

    Args:
        channels: Number of channels of the features.
        outputs: Maps.
        stages: How often; 1 is a single 1x1 convolution.
        width: Channels inside the later stages.
        convs: Convolutions of a later stage, before its 1x1 ones.
        kernel: Their side; large ones let a keypoint see its neighbors.
    """

    def __init__(
        self, channels: int, outputs: int, stages: int = 1, width: int = 128, convs: int = 3, kernel: int = 7
    ) -> None:
        super().__init__()
        self.first = _last_conv(channels, outputs)
        self.later = nn.ModuleList()
        for _ in range(stages - 1):
            parts: list[nn.Module] = []
            for number in range(convs):
                taken = channels + outputs if number == 0 else width
                parts += [
                    nn.Conv2d(taken, width, kernel, padding=kernel // 2, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                ]
            self.later.append(nn.Sequential(*parts, _last_conv(width, outputs)))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, S, outputs, h, w)."""
        maps = [self.first(features)]
        for stage in self.later:
            maps.append(stage(torch.cat([features, maps[-1].to(features.dtype)], dim=1)))
        return torch.stack(maps, dim=1)


def _last_conv(channels: int, outputs: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, outputs, 1)
    nn.init.normal_(conv.weight, std=0.001)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class FlipTested(nn.Module):
    """A network that, on request, also processes the flipped image and takes the mean (the flip test).

    It does so in evaluation mode and `flip_tta` is set. Subclasses state how a prediction is flipped back.

    Args:
        backbone: Any.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.flip_tta = False

    def forward(self, image: Tensor) -> AnyOutputs:
        """(B, C, H, W) normalized images to raw outputs."""
        size = (image.shape[-2], image.shape[-1])
        outputs = self.read(self.backbone(image), size)
        if not self.flip_tta or self.training:
            return outputs
        other = self.flipped(self.read(self.backbone(image.flip(-1)), size))
        return type(outputs)(*((a + b) / 2 for a, b in zip(outputs, other, strict=True)))

    def read(self, features: Features, size: tuple[int, int]) -> AnyOutputs:
        """The head's half: a backbone pass that other heads share is enough."""
        raise NotImplementedError

    def flipped(self, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The outputs for a flipped image as they would be for the image itself."""
        raise NotImplementedError


class HeatmapNetwork(FlipTested):
    """Backbone, decoder and staged head.

    Args:
        backbone: Backbone with one stride.
        decoder: Takes that map.
        head: Takes the decoder's.
        flip_indices: For each keypoint the number of its flipped counterpart.
        vectors: For each pair of maps that hold x and y of a vector its flipped counterpart, and whether that runs the
            same way (1.0) or the other (-1.0): of each limb, or of each keypoint's offsets; empty for heatmaps alone.
        outputs: What it returns where there are such maps.
    """

    flip_indices: Tensor
    limbs: tuple[tuple[int, int], ...] = ()

    def __init__(
        self,
        backbone: Backbone,
        decoder: DeconvDecoder,
        head: StagedHead,
        flip_indices: Sequence[int],
        vectors: Sequence[tuple[int, float]] = (),
        outputs: type[FieldOutputs] | type[OffsetOutputs] = FieldOutputs,
    ) -> None:
        super().__init__(backbone)
        self.decoder, self.head, self.keypoints = decoder, head, len(flip_indices)
        self.vectors, self.outputs = list(vectors), outputs
        self.register_buffer("flip_indices", torch.tensor(flip_indices, dtype=torch.long), persistent=False)

    def read(self, features: Features, size: tuple[int, int]) -> AnyOutputs:
        (map_,) = features.pyramid.values()
        maps = self.head(self.decoder(map_))
        if not self.vectors:
            return HeatmapOutputs(maps)
        return self.outputs(maps[:, :, : self.keypoints], maps[:, :, self.keypoints :])

    def flipped(self, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        heatmaps = outputs[0].flip(-1)[:, :, self.flip_indices]
        if len(outputs) == 1:
            return (heatmaps,)
        vectors = outputs[1].flip(-1)
        order = [2 * vector + axis for vector, _ in self.vectors for axis in (0, 1)]
        # x points the other way in a flipped image
        signs = [sign * way for _, sign in self.vectors for way in (-1.0, 1.0)]
        return heatmaps, vectors[:, :, order] * vectors.new_tensor(signs)[:, None, None]


class PlaceNetwork(FlipTested):
    """DeepPose: places from the whole map; each later stage processes a window of finer features around each keypoint.

    The later stages of the paper cut their windows out of the image and have a network each; here they are cut out of
    the features of the one backbone, so a stage costs little.

    Args:
        backbone: Backbone with a coarse stride, and a finer one where there are later stages.
        size: Height and width of the input in pixels.
        keypoints: K.
        flip_indices: For each keypoint the number of its flipped counterpart.
        stages: How often the places are regressed.
        width: Width of the hidden layers.
        window: Side of a later stage's windows, as a fraction of the input's height.
    """

    flip_indices: Tensor
    grid: Tensor

    POINTS = 5
    """Samples per side of a window."""

    def __init__(
        self,
        backbone: Backbone,
        size: tuple[int, int],
        keypoints: int,
        flip_indices: Sequence[int],
        stages: int = 1,
        width: int = 512,
        window: float = 0.25,
    ) -> None:
        super().__init__(backbone)
        self.keypoints, self.size, self.window = keypoints, size, window
        self.fine, self.coarse = min(backbone.strides), max(backbone.strides)
        cells = -(-size[0] // self.coarse), -(-size[1] // self.coarse)
        self.cells = cells
        reduced = min(128, backbone.channels[self.coarse])
        self.squeeze = nn.Sequential(
            nn.Conv2d(backbone.channels[self.coarse], reduced, 1, bias=False), nn.BatchNorm2d(reduced), nn.ReLU(True)
        )
        self.hidden = nn.Sequential(nn.Linear(reduced * cells[0] * cells[1], width), nn.ReLU(True))
        self.first = nn.Linear(width, 3 * keypoints)
        nn.init.normal_(self.first.weight, std=0.001)
        with torch.no_grad():
            self.first.bias.zero_()
            self.first.bias.view(keypoints, 3)[:, :2] = 0.5  # the middle of the image
            self.first.bias.view(keypoints, 3)[:, 2] = -2.0
        self.later = nn.ModuleList()
        if stages > 1:
            seen = min(48, backbone.channels[self.fine])
            self.look = nn.Sequential(
                nn.Conv2d(backbone.channels[self.fine], seen, 3, padding=1, bias=False),
                nn.BatchNorm2d(seen),
                nn.ReLU(True),
            )
            self.later.extend(_Refinement(keypoints, seen * self.POINTS**2) for _ in range(stages - 1))
        steps = torch.linspace(-0.5, 0.5, self.POINTS)
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        # Windows are square in pixels, places are fractions of the two sides.
        grid = torch.stack([x * window * size[0] / size[1], y * window], dim=-1).reshape(-1, 2)
        self.register_buffer("grid", grid, persistent=False)
        self.register_buffer("flip_indices", torch.tensor(flip_indices, dtype=torch.long), persistent=False)

    def read(self, features: Features, size: tuple[int, int]) -> PlaceOutputs:
        map_ = self.squeeze(features.pyramid[self.coarse])
        if tuple(map_.shape[-2:]) != self.cells:
            map_ = F.interpolate(map_, size=self.cells, mode="bilinear", align_corners=False)
        raw = self.first(self.hidden(map_.flatten(1))).float().view(-1, self.keypoints, 3)
        places, spread = [raw[..., :2]], raw[..., 2]
        if len(self.later):
            fine = self.look(features.pyramid[self.fine])
            for stage in self.later:
                # Where to look is taken as it is: a stage learns to correct the one before, not to please the next.
                center = places[-1].detach()
                grid = (center[:, :, None] + self.grid) * 2 - 1
                seen = F.grid_sample(fine.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
                moved = stage(seen.permute(0, 2, 1, 3).flatten(2)).float()
                scale = 0.5 * moved.new_tensor([self.window * self.size[0] / self.size[1], self.window])
                places.append(center + moved[..., :2] * scale)
                spread = spread + moved[..., 2]
        return PlaceOutputs(torch.stack(places, dim=1), spread.clamp(-7.0, 2.0))

    def flipped(self, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        places, spread = outputs
        places = torch.stack([1 - places[..., 0], places[..., 1]], dim=-1)
        return places[:, :, self.flip_indices], spread[:, self.flip_indices]


class _Refinement(nn.Module):
    """Two layers of its own for each keypoint: what is seen in its window to a correction."""

    def __init__(self, keypoints: int, inputs: int, width: int = 64) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(keypoints, inputs, width) * (2 / inputs) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(keypoints, width))
        self.second = nn.Parameter(torch.randn(keypoints, width, 3) * 0.01)

    def forward(self, seen: Tensor) -> Tensor:
        """(B, K, inputs) to (B, K, 3)."""
        hidden = torch.einsum("bki,kiw->bkw", seen.to(self.first.dtype), self.first) + self.bias
        return torch.einsum("bkw,kwo->bko", hidden.relu(), self.second)


def flipped_limbs(limbs: Sequence[tuple[int, int]], flip_indices: Sequence[int]) -> list[tuple[int, float]] | None:
    """For each limb the number of its flipped counterpart and its direction; None where a limb has none.

    Args:
        limbs: Pairs of keypoints.
        flip_indices: For each keypoint its flipped counterpart.
    """
    numbers = {pair: number for number, pair in enumerate(limbs)}
    out: list[tuple[int, float]] = []
    for first, second in limbs:
        pair = flip_indices[first], flip_indices[second]
        if pair in numbers:
            out.append((numbers[pair], 1.0))
        elif pair[::-1] in numbers:
            out.append((numbers[pair[::-1]], -1.0))
        else:
            return None
    return out
