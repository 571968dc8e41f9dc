"""A scene and all that is known of it; one scene has the labels of every task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from visionkit.synthetic.sprites import SHAPES

OBJECT_CLASSES = ("person", *SHAPES)
"""Label k is the k-th name; people have keypoints."""

SEMANTIC_CLASSES = ("sky", "wall", "floor", *OBJECT_CLASSES)
"""Classes of the label map: the surroundings, then the objects."""

TargetKey = Literal[
    "labels", "presence", "boxes", "masks", "label_map", "keypoints", "depth", "high_res", "clean", "identity"
]
"""What a scene is asked for; see `Scene.target`."""


@dataclass(frozen=True)
class SceneObject:
    """One object, as far as it is seen.

    Attributes:
        label: Index into `OBJECT_CLASSES`.
        box: (4,) float32 x1, y1, x2, y2 of the visible part in pixels, x2 and y2 exclusive.
        area: Visible pixels.
        distance: Distance of its base, meters.
        keypoints: (17, 3) float32 x, y, visibility 0 (outside), 1 (hidden), 2 (visible); None for a shape.
        identity: Number of the person, or None.
    """

    label: int
    box: np.ndarray
    area: int
    distance: float
    keypoints: np.ndarray | None = None
    identity: int | None = None


@dataclass(frozen=True)
class Scene:
    """An image with everything that is known of it.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        objects: Nearest first; every one is seen.
        instance_map: (h, w) uint8, 0 where no object is seen, k where `objects[k - 1]` is.
        label_map: (h, w) uint8, index into `SEMANTIC_CLASSES`.
        depth: (h, w) float32 meters, 0 where it was not measured.
        seed: Random seed of the set it belongs to.
        index: Its number in the set.
    """

    image: np.ndarray
    objects: tuple[SceneObject, ...]
    instance_map: np.ndarray
    label_map: np.ndarray
    depth: np.ndarray
    seed: int
    index: int

    @property
    def label(self) -> int:
        """Class of the object of which most is seen: the label of the whole image."""
        return max(self.objects, key=lambda each: each.area).label

    @property
    def presence(self) -> np.ndarray:
        """(K,) float32, 1 for every class of which an object is seen."""
        out = np.zeros(len(OBJECT_CLASSES), dtype=np.float32)
        out[[each.label for each in self.objects]] = 1
        return out

    def mask(self, number: int) -> np.ndarray:
        """(h, w) bool, the visible part of `objects[number]`."""
        return np.asarray(self.instance_map == number + 1)

    def target(self, key: TargetKey) -> dict[str, Any]:
        """The target of a task, in the words of `visionkit.types.Target`.

        Args:
            key: The key that the task is about; what belongs to it comes along: boxes bring labels, area and iscrowd;
                masks and keypoints bring those too, keypoints those of people alone. `presence` gives
                multi-label `labels`.
        """
        if key == "labels":
            return {"labels": np.int64(self.label)}
        if key == "presence":
            return {"labels": self.presence}
        if key == "label_map":
            return {"label_map": self.label_map}
        if key == "depth":
            return {"depth": self.depth}
        if key in ("boxes", "masks", "keypoints"):
            return self._instances(key)
        raise KeyError(key)

    def _instances(self, key: str) -> dict[str, Any]:
        numbers = [k for k, each in enumerate(self.objects) if key != "keypoints" or each.keypoints is not None]
        chosen = [self.objects[k] for k in numbers]
        out: dict[str, Any] = {
            "boxes": np.array([each.box for each in chosen], dtype=np.float32).reshape(-1, 4),
            "labels": np.array([each.label for each in chosen], dtype=np.int64),
            "area": np.array([each.area for each in chosen], dtype=np.float32),
            "iscrowd": np.zeros(len(chosen), dtype=np.int64),
        }
        if key == "masks":
            height, width = self.instance_map.shape
            out["masks"] = np.array([self.mask(k) for k in numbers], dtype=bool).reshape(-1, height, width)
        if key == "keypoints":
            out["keypoints"] = np.array([each.keypoints for each in chosen], dtype=np.float32).reshape(-1, 17, 3)
        return out
