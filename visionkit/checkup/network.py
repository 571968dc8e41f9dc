"""Whether data suits the network that is to be trained: sizes of objects, anchors, brightness, size of the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from visionkit.checkup.findings import Finding
from visionkit.checkup.objects import Objects, proper
from visionkit.geometry import Geometry, InputSpec

if TYPE_CHECKING:
    from visionkit.task import VisionTask

_SMALL, _SOME = 1.0, 0.05  # cells of the finest map; fraction of the objects
_MATCHED, _RECALL = 0.5, 0.9
_ENLARGED = 2.0
_DARK, _LIGHT, _CONTRAST = 0.08, 0.92, 0.04
_ENOUGH = 20


@dataclass(frozen=True)
class NetworkFacts:
    """What of a network depends on data.

    Attributes:
        input: What it takes.
        stride: Input pixels per cell of its finest map that finds objects; None where it finds none.
        anchors: (A, 2) width and height of its anchors in input pixels, or None.
    """

    input: InputSpec
    stride: int | None = None
    anchors: np.ndarray | None = None

    @classmethod
    def of(cls, task: VisionTask) -> NetworkFacts:
        """Reads them from a task that is built; weights are not needed."""
        modules: list[Any] = list(task.network.modules())
        strides = [tuple(each.strides) for each in modules if isinstance(getattr(each, "strides", None), (tuple, list))]
        sides = [each for module in modules for each in _anchors(module, task.input)]
        finds = "boxes" in task.targets and strides
        return cls(
            task.input,
            min(map(min, strides)) if finds else None,
            np.concatenate(sides) if sides else None,
        )


def _anchors(module: Any, spec: InputSpec) -> Iterator[np.ndarray]:
    """(A, 2) width and height of the anchors of a module; of one square at each place, as FCOS has it, none."""
    per_place = getattr(module, "per_place", 1)
    if per_place == 1:
        return
    for name, buffer in module.named_buffers(recurse=False):
        values = np.asarray(buffer.detach().cpu())
        if name.startswith("cells"):
            yield values[:, 2:] - values[:, :2]
        elif name.startswith("sides"):  # fractions of the image
            yield values * (spec.size[1], spec.size[0])


def check_sizes(objects: Objects, network: NetworkFacts) -> Iterator[Finding]:
    """Objects that are too small for the network's maps, or fit none of its anchors.

    Args:
        objects: With the sizes of their images.
        network: The network.
    """
    sides = input_sides(objects, network.input)
    if len(sides) < _ENOUGH:
        return
    size = f"{network.input.size[0]} x {network.input.size[1]}"
    if network.stride is not None:
        small = (np.sqrt(sides.prod(axis=1)) < _SMALL * network.stride).mean()
        if small > _SOME:
            message = f"{small:.0%} of the objects are smaller than {network.stride} pixels at an input of {size}, "
            message += f"the stride of the network's finest map; the median is {np.median(np.sqrt(sides.prod(1))):.0f}"
            yield Finding("small-objects", objects.split, message)
    if network.anchors is not None:
        fit = anchor_fit(sides, network.anchors)
        recall = float((fit >= _MATCHED).mean())
        if recall < _RECALL:
            better = np.sort(np.sqrt(best_anchors(sides, min(len(network.anchors), 5)).prod(axis=1)))
            message = f"{recall:.0%} of the objects overlap an anchor by {_MATCHED:g} at an input of {size}; sides "
            message += f"of {', '.join(f'{side:.0f}' for side in better)} pixels would fit better"
            yield Finding("anchors-misfit", objects.split, message)


def input_sides(objects: Objects, spec: InputSpec) -> np.ndarray:
    """(n, 2) width and height in input pixels of the proper objects in images of known size."""
    rows = proper(objects) & ~objects.crowd & np.isfinite(objects.size).all(axis=1)
    scales = np.ones((len(objects.sizes), 2))
    for height, width in np.unique(objects.sizes[np.isfinite(objects.sizes).all(axis=1)], axis=0):
        of_size = (objects.sizes == (height, width)).all(axis=1)
        scales[of_size] = Geometry.plan(spec, (int(height), int(width))).scale
    sides = (objects.boxes[:, 2:] - objects.boxes[:, :2])[rows]
    return np.asarray(sides * scales[objects.image[rows]])


def anchor_fit(sides: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """(n,) IoU of each object with the best anchor, both around one center.

    Args:
        sides: (n, 2) width and height.
        anchors: (A, 2) width and height.
    """
    best = np.zeros(len(sides))
    for anchor in anchors:
        shared = np.minimum(sides, anchor).prod(axis=1)
        best = np.maximum(best, shared / (sides.prod(axis=1) + anchor.prod() - shared))
    return best


def best_anchors(sides: np.ndarray, count: int, rounds: int = 20) -> np.ndarray:
    """(count, 2) width and height that fit objects well: k-means by IoU (Redmon, Farhadi 2017).

    Args:
        sides: (n, 2) width and height.
        count: Number of anchors.
        rounds: Rounds at most.
    """
    order = np.argsort(sides.prod(axis=1))
    centers = sides[order[np.linspace(0, len(sides) - 1, count + 2)[1:-1].astype(int)]].astype(np.float64)
    for _ in range(rounds):
        fits = np.stack([anchor_fit(sides, center[None]) for center in centers])
        nearest = fits.argmax(axis=0)
        new = [np.median(sides[nearest == k], axis=0) if (nearest == k).any() else centers[k] for k in range(count)]
        if np.allclose(new, centers):
            break
        centers = np.stack(new)
    return np.asarray(centers)


def check_pixels(
    split: str, sizes: Sequence[tuple[int, int]], mean: np.ndarray, deviation: np.ndarray, network: NetworkFacts | None
) -> Iterator[Finding]:
    """Images that are unusually dark or light, or far smaller than the network's input.

    Args:
        split: Names them.
        sizes: Height and width of each.
        mean: (3,) of values 0 to 1.
        deviation: (3,) of values 0 to 1.
        network: The network, where it is known.
    """
    if not _DARK < mean.mean() < _LIGHT or deviation.mean() < _CONTRAST:
        message = f"the mean is {mean.mean():.3f} and the deviation {deviation.mean():.3f}, of values from 0 to 1"
        yield Finding("unusual-brightness", split, message)
    if network is None or network.input.resize_mode in ("native", "pad"):
        return
    side = float(np.median([min(size) for size in sizes]))
    if min(network.input.size) > _ENLARGED * side:
        message = f"the median of the shorter sides is {side:g}, and the input is {min(network.input.size)}"
        yield Finding("enlarged-images", split, message)
