"""HCF: correlation filters on hierarchical convolutional features (Ma et al., ICCV 2015), with an estimate of scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from visionkit.errors import UsageError
from visionkit.following.features import FeatureMaps
from visionkit.following.scale_filter import ScaleFilter
from visionkit.following.visual_tracker import VisualTracker
from visionkit.following.windows import Window, cosine_taper, gaussian_label, peak

_CELLS = 56
"""Rows and columns of a response; all maps are brought to as many, the finest of most networks already has them."""
_WEIGHTS = (1.0, 0.5, 0.25)
"""Of the responses, the coarsest first."""
_REACH = 12
"""Cells, rows and columns added up, that the maximum may move where a finer response is added."""
_LARGE = 0.05
"""Fraction of the frame from which an object is large."""
_LARGEST_SCALE = 4.0
"""How much an object can grow from one frame to the next."""
_MIN_WINDOW = 24
"""Smallest side of a window in pixels."""


@dataclass
class Hcf(VisualTracker):
    """Follows what the maps of a network show of the object, coarse to fine, and how large it is.

    What is implemented, and after whom:

    - Hierarchical convolutional features (Ma, Huang, Yang and Yang, ICCV 2015): one linear correlation filter per map,
      trained by ridge regression in the Fourier domain onto a Gaussian label, under a cosine window; numerator and
      denominator are running averages; the maximum of the coarsest response is refined on the sum with each finer one
      within a neighborhood. Window, label, learning rate and weights (1, 1/2, 1/4) are those of the authors' code.
    - The scale of the authors' later code: a filter over 33 scales of gradient histograms, which is DSST's (Danelljan
      et al., BMVC 2014). Their journal version (HCFT*, TPAMI 2018) also draws boxes from edge proposals, for scale and
      for finding a lost object again; that is not implemented: a lost object is not searched for in the whole frame.
    - Differences: any network in place of VGG-19, shown the window at 224 x 224; the energy of each map is brought to
      1, so one regularization suits all; the maximum is found between cells too; and the filters are trained on maps
      that are moved to the new place and size, not on a second pass, so a frame costs one pass of the network.

    Attributes:
        model: Whose maps: a backbone with public weights (`timm:resnet18`), a checkpoint, a run or a bundle.
        device: Where the network runs.
        padding: Sides of the window beyond those of the object, as a multiple of them.
        padding_large: The same for objects of over a twentieth of the frame.
        padding_tall: The same for the height of objects over twice as high as wide.
        label_sigma: Standard deviation of the label over the mean side of the object.
        regularization: Weight of the regularization.
        learning_rate: Fraction that each frame has in the running averages.
        scales: Number of scales, odd; 1 keeps the size of the first box.
        scale_step: Ratio of neighboring scales.
        scale_learning_rate: Fraction that each frame has in the averages of the filter over scales.
    """

    needs_model: ClassVar[bool] = True
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        **dict.fromkeys(("padding", "padding_large", "padding_tall"), (0, 8)),
        "label_sigma": (0.001, 1),
        "regularization": (1e-9, 1),
        "learning_rate": (0, 1),
        "scales": (1, 199),
        "scale_step": (1.001, 1.2),
        "scale_learning_rate": (0, 1),
    }

    model: str = "timm:tf_efficientnet_lite0"
    device: str | torch.device = "cpu"
    padding: float = 1.8
    padding_large: float = 1.0
    padding_tall: float = 0.4
    label_sigma: float = 0.1
    regularization: float = 1e-3
    learning_rate: float = 0.01
    scales: int = 33
    scale_step: float = 1.02
    scale_learning_rate: float = 0.025

    def __post_init__(self) -> None:
        super().__post_init__()
        largest = self.scale_step ** (self.scales // 2)
        if self.scales % 2 == 0 or largest > _LARGEST_SCALE:
            raise UsageError(
                f"scales {self.scales} with scale_step {self.scale_step:g}: an odd number is needed, and the largest "
                f"scale, {largest:.3g}, is at most {_LARGEST_SCALE:g}"
            )
        self._maps = FeatureMaps.of(self.model, self.device)

    def start(self, frame: np.ndarray) -> None:
        self._first_sides, self._ratios = self.sides, self._window_ratios()
        cells = [_CELLS / ratio for ratio in self._ratios]
        label = gaussian_label((_CELLS, _CELLS), max(self.label_sigma * math.sqrt(math.prod(cells)), 0.5))
        self._label = self._transformed(torch.tensor(label))
        self._taper = torch.tensor(cosine_taper((_CELLS, _CELLS)), dtype=torch.float32, device=self._maps.device)
        window = self._window()
        maps = self._shown(frame, window)
        self._levels = [each.square().sum(dim=0).mean().clamp(min=1e-12).sqrt() for each in maps]
        self._filters = self._trained(maps, window)
        self._scale = None
        if self.scales > 1:
            assert self.frame_size is not None
            self._scale = ScaleFilter(
                self.sides, self.frame_size, self.scales, self.scale_step, self.scale_learning_rate
            )
            self._scale.begin(frame, self.center)

    def step(self, frame: np.ndarray) -> float:
        window = self._window()
        maps = self._shown(frame, window)
        responses = [
            self._response(map_ / level, *each)
            for map_, level, each in zip(maps, self._levels, self._filters, strict=True)
        ]
        row, column = coarse_to_fine(responses)
        x, y = window.center
        self.center = (x + column * window.width / _CELLS, y + row * window.height / _CELLS)
        self._keep_in_sight()
        if self._scale is not None:
            self._scale.estimate(frame, self.center)
            width, height = self._first_sides
            self.sides = (width * self._scale.scale, height * self._scale.scale)
            self._scale.update(frame, self.center)
        for averages, new in zip(self._filters, self._trained(maps, window), strict=True):
            for average, each in zip(averages, new, strict=True):
                average.lerp_(each, self.learning_rate)
        # What the coarsest map responds at its maximum is near 1 where the object looks as it did.
        return float(responses[0].max())

    def _window_ratios(self) -> tuple[float, float]:
        """Width and height of the window over those of the object, as the authors choose them."""
        assert self.frame_size is not None
        width, height = self.sides
        across = down = 1 + self.padding
        if height > 2 * width:
            down = 1 + self.padding_tall
        elif width * height > _LARGE * math.prod(self.frame_size):
            across = down = 1 + self.padding_large
        return max(across, _MIN_WINDOW / width), max(down, _MIN_WINDOW / height)

    def _window(self) -> Window:
        """The window about the object."""
        width, height = (max(round(side * ratio), 2) for side, ratio in zip(self.sides, self._ratios, strict=True))
        return Window.about(self.center, width, height)

    def _shown(self, frame: np.ndarray, window: Window) -> list[Tensor]:
        """The maps of a window, coarsest first: one pass."""
        return self._maps(window.cut(frame))

    def _transformed(self, values: Tensor) -> Tensor:
        spectrum: Tensor = torch.fft.rfft2(values.to(self._maps.device, torch.float32), norm="ortho")
        return spectrum

    def _response(self, map_: Tensor, numerator: Tensor, denominator: Tensor) -> np.ndarray:
        """(cells, cells) of one map about the middle of its window."""
        cells = torch.nn.functional.interpolate(map_[None], (_CELLS, _CELLS), mode="bilinear")[0]
        seen = self._transformed(cells * self._taper)
        spectrum = (numerator * seen).sum(dim=0) / (denominator + self.regularization)
        response: np.ndarray = torch.fft.irfft2(spectrum, (_CELLS, _CELLS), norm="ortho").cpu().double().numpy()
        return response

    def _trained(self, maps: Sequence[Tensor], window: Window) -> list[tuple[Tensor, Tensor]]:
        """Numerator and denominator of the filter of each map, with the object in the middle at its present size."""
        own = ((np.arange(_CELLS) + 0.5) / _CELLS - 0.5)[None]
        sides = np.array([[side * ratio] for side, ratio in zip(self.sides, self._ratios, strict=True)])
        corner, lengths = [[window.left], [window.top]], [[window.width], [window.height]]
        at = torch.tensor((np.array(self.center)[:, None] + own * sides - corner) / lengths * 2 - 1)
        grid = torch.stack([at[0][None].expand(_CELLS, -1), at[1][:, None].expand(-1, _CELLS)], dim=-1)
        grid = grid.to(self._maps.device, torch.float32)[None]
        trained = []
        for map_, level in zip(maps, self._levels, strict=True):
            cells = torch.nn.functional.grid_sample(
                (map_ / level)[None], grid, mode="bilinear", padding_mode="border", align_corners=False
            )[0]
            seen = self._transformed(cells * self._taper)
            trained.append((self._label * seen.conj(), (seen * seen.conj()).real.sum(dim=0)))
        return trained


def coarse_to_fine(responses: Sequence[np.ndarray]) -> tuple[float, float]:
    """Row and column of the object, off the middle.

    The maximum of the coarsest response is where the search begins; each finer response is added with half the weight
    of the one before, and the maximum moves within a neighborhood.

    Args:
        responses: Cyclic and of one size, the coarsest first.
    """
    height, width = responses[0].shape
    total = np.zeros((height, width))
    place = (0.0, 0.0)
    for number, (response, weight) in enumerate(zip(responses, _WEIGHTS, strict=False)):
        total += weight * response / max(float(response.max()), 1e-12)
        if number == 0:
            row, column, _ = peak(total)
        else:
            apart = [
                np.abs((np.arange(length) - at + length / 2) % length - length / 2)
                for length, at in ((height, place[0]), (width, place[1]))
            ]
            near = apart[0][:, None] + apart[1][None] <= _REACH
            row, column, _ = peak(np.where(near, total, total.min()))
        place = (row, column)
    return place
