"""Networks with a prediction at every pixel: backbone, decoder, head."""

from __future__ import annotations

from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.backbones import Backbone, Features, backbone_facts, declared_strides
from visionkit.errors import UsageError
from visionkit.families.dense.architectures.base import Decoder, DenseArchitecture, is_plain


class DenseMapHead(nn.Module):
    """A decoder's map to outputs, at the map's own size.

    Args:
        decoder: States which type of head its paper has.
        outputs: Channels of the result.
        dropout: Before the last convolution.
    """

    def __init__(self, decoder: Decoder, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        width = decoder.channels
        layers: list[nn.Module] = []
        if decoder.head == "dpt":
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            dropout = dropout or 0.1
        if dropout and decoder.head != "none":
            layers.append(nn.Dropout(dropout))
        if decoder.head != "none":
            kernel = 3 if decoder.head == "3x3" else 1
            layers.append(nn.Conv2d(width, outputs, kernel, padding=kernel // 2))
        self.layers = nn.Sequential(*layers)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layers(x))


class DenseNetwork(nn.Module):
    """Any backbone, a decoder and a head.

    An image whose sides are no multiples of what the network needs is continued to the right and below by reflection,
    and the prediction cut back.

    Args:
        backbone: Built with what the architecture needs.
        decoder: Built for it.
        head: Built for that.
        full_size: Give the prediction at the image's size, enlarged bilinearly, corner on corner as the papers' code
            does. Otherwise it has the decoder's stride (attribute `stride`) and covers `canvas(size)`; a decoder whose
            stride is no whole number of pixels (patches of 14) is enlarged all the same.
        reflect_padding: Extend the image by reflect padding of so many pixels on every side before the network sees it,
            and cut the prediction back, as U-Net does at borders; rounded up to a multiple of what the network needs.

    Attributes:
        divisor: Sides of what the network sees are multiples of it.
        stride: Pixels of the image to one of the prediction, along each side.
    """

    def __init__(
        self,
        backbone: Backbone,
        decoder: Decoder,
        head: DenseMapHead,
        *,
        full_size: bool = True,
        reflect_padding: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.decoder, self.head = backbone, decoder, head
        self.divisor, self._grid, exact = _grid(backbone.name)
        self.stride = 1 if full_size or not exact else decoder.stride
        if reflect_padding < 0:
            raise UsageError(f"model.reflect_padding {reflect_padding}: at least 0 pixels")
        self.reflect_padding = -(-reflect_padding // self.divisor) * self.divisor

    @classmethod
    def build(
        cls,
        backbone: str,
        architecture: DenseArchitecture,
        outputs: int,
        *,
        image_size: tuple[int, int] | None = None,
        dropout: float = 0.0,
        full_size: bool = True,
        reflect_padding: int = 0,
        **more: Any,
    ) -> Self:
        """Puts the three together.

        Args:
            backbone: Name of any backbone.
            architecture: The decoder with its arguments.
            outputs: Channels of the prediction.
            image_size: Height and width of the images; None where every image has its own.
            dropout: Before the last convolution.
            full_size: See the class.
            reflect_padding: See the class.
            **more: See `Backbone`: `pretrained`, `in_chans`, `drop_path_rate`.

        Raises:
            UsageError: These cannot be put together; states why.
        """
        needs = architecture.needs(backbone)
        if backbone_facts(backbone).fixed_input_size and image_size is None:
            raise UsageError(
                f"backbone {backbone!r}: is built for one size of image, so resize_mode native cannot be; use "
                "letterbox, pad or stretch"
            )
        if image_size is not None:
            step, _, _ = _grid(backbone)
            border = 2 * (-(-reflect_padding // step) * step)
            image_size = tuple(-(-side // step) * step + border for side in image_size)  # type: ignore[assignment]
        body = Backbone(
            backbone,
            strides=needs.strides,
            output_stride=needs.output_stride,
            taps=needs.taps,
            image_size=image_size,
            use_final=False,
            **more,
        )
        decoder = architecture.build(body, outputs)
        head = DenseMapHead(decoder, outputs, dropout)
        return cls(body, decoder, head, full_size=full_size, reflect_padding=reflect_padding)

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width that the prediction to an image of that size covers: `stride` times its own."""
        if self.stride == 1:
            return size
        return -(-size[0] // self.divisor) * self.divisor, -(-size[1] // self.divisor) * self.divisor

    def forward(self, image: Tensor) -> Any:
        """(B, C, H, W) normalized images to what `read` gives: (B, outputs, H, W), or `canvas` over `stride`."""
        height, width = image.shape[-2:]
        seen = continued(image, self.divisor, self.reflect_padding)
        return self.read(self.backbone(seen), (seen.shape[-2], seen.shape[-1]), (height, width))

    def read(self, features: Features, seen: tuple[int, int], size: tuple[int, int] | None = None) -> Any:
        """The decoder's half: a backbone pass that other heads share is enough.

        Args:
            features: Features of what `continued` made of the image.
            seen: Height and width of that.
            size: Size of the image itself; the same by default.
        """
        size = size or seen
        if self.training and self.decoder.pools and self._count(features) == 1:
            raise UsageError(
                f"{type(self.decoder).__name__} learns statistics over whole images, so a batch of one cannot train "
                "it; set data.batch_size to 2 or more"
            )
        grid = (-(-seen[0] // self._grid) * self._grid, -(-seen[1] // self._grid) * self._grid)
        prediction = self.head(self.decoder(_fitted(features, grid), grid))
        if self.stride == 1 and tuple(prediction.shape[-2:]) != tuple(seen):
            prediction = F.interpolate(prediction, size=seen, mode="bilinear", align_corners=True)
        if self.reflect_padding:
            border = self.reflect_padding // self.stride
            prediction = prediction[..., border:-border, border:-border]
        if self.stride == 1:
            prediction = prediction[..., : size[0], : size[1]]
        return cast(Tensor, prediction)

    @staticmethod
    def _count(features: Features) -> int:
        maps = list(features.pyramid.values()) or [tap.map for tap in features.final]
        return int(maps[0].shape[0])


def continued(image: Tensor, divisor: int, reflect_padding: int = 0) -> Tensor:
    """Extends images by reflect padding, without repeating the border pixel.

    Args:
        image: (B, C, H, W).
        divisor: Divisor to the right and below, until the sides are multiples of it.
        reflect_padding: Further pixels on every side; an image that is smaller is flipped several times.
    """
    height, width = image.shape[-2:]
    below, right = -height % divisor, -width % divisor
    if not (below or right or reflect_padding):
        return image
    rows = _reflected(height, reflect_padding, below + reflect_padding, image.device)
    columns = _reflected(width, reflect_padding, right + reflect_padding, image.device)
    return image.index_select(-2, rows).index_select(-1, columns)


def _reflected(length: int, before: int, after: int, device: torch.device) -> Tensor:
    places = torch.arange(-before, length + after, device=device)
    period = max(2 * (length - 1), 1)
    places = places % period
    return torch.minimum(places, period - places) if length > 1 else torch.zeros_like(places)


def _grid(backbone: str) -> tuple[int, int, bool]:
    """What sides of the backbone's input are multiples of, and sides of the decoder's; whether these are the same."""
    strides = declared_strides(backbone)
    if not is_plain(strides):
        return max(strides), max(strides), True
    own = strides[0]
    if own & (own - 1) == 0:
        return max(own, 32), max(own, 32), True
    return (
        2 * own,
        32,
        False,
    )  # patches of 14: decoders need sides that can be halved, so the maps are stretched a little


def _fitted(features: Features, size: tuple[int, int]) -> Features:
    """Maps that are a pixel off what their stride promises (Inception, patches of 14), resized to it."""
    fitted = {}
    for stride, map_ in features.pyramid.items():
        promised = (size[0] // stride, size[1] // stride)
        if tuple(map_.shape[-2:]) != promised:
            map_ = F.interpolate(map_, size=promised, mode="bilinear", align_corners=False)
        fitted[stride] = map_
    return features._replace(pyramid=fitted)
