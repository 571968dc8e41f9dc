"""Drawn scenes as ready data for any task: no files, no download, labels that are exactly right."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from PIL import Image

from datamodules.class_names import index_classes
from datamodules.degradations import DegradationChain, Degradations, GaussianNoise
from datamodules.degraded_samples import check_conditions, conditions_of, inputs_of, planes, without_margin
from datamodules.person_crops import PersonCrops
from visionkit.augmentation import Augmentation, composed
from visionkit.crops import PersonCrop
from visionkit.data import Split, VisionDataModule
from visionkit.errors import UsageError, suggest
from visionkit.images import ImageSource
from visionkit.loading import rng_for
from visionkit.skeleton import Skeleton
from visionkit.synthetic import (
    DEFAULT_SIZE,
    IDENTITIES,
    OBJECT_CLASSES,
    SEMANTIC_CLASSES,
    TargetKey,
    draw_face,
    make_scene,
)
from visionkit.types import IGNORE, Sample

_FIRST: dict[Split, int] = {"train": 0, "val": 1_000_000_000, "test": 2_000_000_000}
_STRANGERS: dict[Split, int] = {"train": 0, "val": IDENTITIES, "test": 2 * IDENTITIES}
_PEOPLE = tuple(f"person_{number:03d}" for number in range(IDENTITIES))
_CLASSES: dict[str, tuple[str, ...]] = {
    "labels": OBJECT_CLASSES,
    "presence": OBJECT_CLASSES,
    "boxes": OBJECT_CLASSES,
    "masks": OBJECT_CLASSES,
    "label_map": SEMANTIC_CLASSES,
    "keypoints": ("person",),
    "depth": (),
    "high_res": (),
    "clean": (),
    "identity": _PEOPLE,
}


class SceneData(VisionDataModule):
    """Scenes drawn on the way, the same ones for the same seed.

    Args:
        target: Target of the task: `labels` (class of the object of which most is seen), `presence` (multi-label),
            `boxes`, `masks`, `label_map`, `keypoints`, `depth`, `high_res` (super-resolution), `clean` (restoration) or
            `identity` (faces).
        count: Training scenes.
        eval_count: Scenes of validation and of test, each.
        size: Height and width in pixels.
        max_size: Where given, every image has a size of its own between `size` and this.
        scale: For `high_res`, how many times smaller the image is than its target; the command line takes the
            model's. 2 by default.
        degradations: For `clean`, what is done to the image; noise of 25 gray levels, rounded, by default.
        scene_seed: Another one gives other scenes; the run's seed does not change them.
        people: Fraction of the scenes whose subject is a person; the other classes take turns in the rest. Left out it
            is 1 for `keypoints`, and for all else every class has its turn. Data sets of one fraction show the same
            scenes, whatever their target.
        skeleton: Skeleton of the people; it is always `coco17`, and a network for another one is refused.
        crop: For `keypoints`, makes every person a sample of its own; whole scenes by default. Linked from the
            model by the command line.
        augment: Changes training samples.
        **base: See `VisionDataModule`.

    Example:
        >>> data = SceneData("boxes", count=64)
        >>> data.samples("train")[0].target["boxes"].shape[1]
        4
    """

    def __init__(
        self,
        target: TargetKey = "labels",
        *,
        count: int = 1000,
        eval_count: int = 200,
        size: tuple[int, int] = DEFAULT_SIZE,
        max_size: tuple[int, int] | None = None,
        scale: int | None = None,
        degradations: Degradations | None = None,
        scene_seed: int = 0,
        people: float | None = None,
        skeleton: str | dict[str, Any] | None = None,
        crop: PersonCrop | None = None,
        augment: Augmentation | None = None,
        **base: Any,
    ) -> None:
        _check_target(target)
        self.skeleton, self.crop = _skeleton(skeleton), crop
        super().__init__(augment=composed(augment, self.skeleton), **base)
        scale = 2 if scale is None else scale
        if min(count, eval_count, scale) < 1 or min(size) < 32:
            raise UsageError(
                f"SceneData: count {count}, eval_count {eval_count} and scale {scale} must be at least 1, "
                f"size {tuple(size)} at least 32"
            )
        self.target, self.counts = target, {"train": count, "val": eval_count, "test": eval_count}
        self.size, self.max_size = (size[0], size[1]), None if max_size is None else (max_size[0], max_size[1])
        if people is not None and not 0 <= people <= 1:
            raise UsageError(f"data.people {people:g}: a fraction of the scenes, 0 to 1")
        self.scale, self.scene_seed, self.people = scale, scene_seed, people
        if degradations is not None and target != "clean":
            raise UsageError(f"data.degradations: are for the target clean, not for {target}; leave them out")
        self.chain = DegradationChain(GaussianNoise(25, quantize=True) if degradations is None else degradations)
        self.classes = self.classes or _CLASSES[target]
        index_classes(dict.fromkeys(_CLASSES[target], f"SceneData target {target!r}"), self.classes)

    @classmethod
    def discover_classes(cls, target: str = "labels", **init_args: Any) -> list[str]:
        """The names of what scenes show; no scene is drawn for it."""
        _check_target(target)
        return list(_CLASSES[target])

    @classmethod
    def linked(cls, name: str, **init_args: Any) -> Any:
        """The skeleton of the synthetic people."""
        return "coco17" if name == "skeleton" else None

    @property
    def noise_levels(self) -> tuple[float, float] | None:
        """See `RestorationData`."""
        return self.chain.noise_levels if self.target == "clean" else None

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The scenes of one split; each is drawn when it is first asked for, and kept."""
        scenes = _Scenes(self, split)
        if self.target != "keypoints" or self.crop is None:
            return scenes
        if self.input is None:
            raise UsageError("SceneData: no input; give input=task.input")
        return PersonCrops(scenes, self.crop, self.input.size, training=split == "train", name=f"scenes ({split})")


def _check_target(target: str) -> None:
    if target not in _CLASSES:
        allowed = get_args(TargetKey)
        raise UsageError(f"data.target {target!r}: allowed are {', '.join(allowed)}{suggest(target, allowed)}")


def _skeleton(given: str | dict[str, Any] | None) -> Skeleton:
    drawn = Skeleton.of("coco17")
    if given is not None and Skeleton.of(given).keypoints != drawn.keypoints:
        raise UsageError(
            f"data.skeleton {Skeleton.of(given).name}: scenes show people with the keypoints of coco17; leave it out"
        )
    return drawn if given is None else Skeleton.of(given)


class _Scenes(Sequence[Sample]):
    def __init__(self, data: SceneData, split: Split) -> None:
        self.target, self.size, self.max_size = data.target, data.size, data.max_size
        self.seed, self.scale, self.split = data.scene_seed, data.scale, split
        self.people, self.chain = data.people, data.chain
        self.channels = 3 if data.input is None else data.input.channels
        self.conditions = conditions_of(data.trainer, data.chain.conditions) if data.target == "clean" else ()
        check_conditions(self.conditions, self.chain.conditions, split)
        names = _CLASSES[data.target]
        numbers = {name: number for number, name in enumerate(data.classes)}
        # Names may be configured in another order than ours; 255 stays what it is.
        self.order = np.full(256, IGNORE, dtype=np.int64)
        self.order[: len(names)] = [numbers[name] for name in names]
        self.kept: list[Sample | None] = [None] * data.counts[split]

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def ids(self) -> list[str]:
        """What the scenes will be called; none is drawn for it."""
        kind = "face" if self.target == "identity" else "scene"
        return [f"{kind}-{self._number(index)}" for index in range(len(self.kept))]

    def _number(self, index: int) -> int:
        number = _FIRST[self.split] + index
        if self.target in ("identity", "high_res", "clean"):
            return number
        if self.people is not None:
            return _with_people(number, self.people)
        return number * len(OBJECT_CLASSES) if self.target == "keypoints" else number  # their subject is a person

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        sample = self.kept[index]
        if sample is None:
            sample = self.kept[index] = self._draw(range(len(self))[index])
        return sample

    def _draw(self, index: int) -> Sample:
        number = self._number(index)
        if self.target == "identity":
            # Several images per person; those of validation and test are strangers, numbered on from those of training.
            people = min(IDENTITIES, max(2, len(self.kept) // 4))
            person, image = index % people, index // people
            shown = person + _STRANGERS[self.split]
            face = draw_face(self.seed, shown, image).aligned()
            identity = self.order[person] if self.split == "train" else shown
            return self._sample(face.image, {"identity": np.int64(identity)}, f"face-{number}")
        if self.target == "high_res":
            return self._pair(number)
        if self.target == "clean":
            return self._degraded(number)
        scene = _scene(self.seed, number, self.size, self.max_size)
        target: dict[str, Any] = scene.target(self.target)
        if self.target == "presence":
            presence = np.zeros(len(self.order[self.order != IGNORE]), dtype=np.float32)
            presence[self.order[: len(OBJECT_CLASSES)]] = target["labels"]
            target["labels"] = presence
        elif "labels" in target:
            target["labels"] = self.order[target["labels"]]
        elif "label_map" in target:
            target["label_map"] = self.order[target["label_map"]].astype(np.uint8)
        return self._sample(scene.image, target, f"scene-{number}")

    def _pair(self, number: int) -> Sample:
        """The scene as the target, and what antialiased bicubic shrinking leaves of it as the image."""
        largest = None if self.max_size is None else _times(self.max_size, self.scale)
        image = make_scene(self.seed, number, _times(self.size, self.scale), largest).image
        height, width = image.shape[0] // self.scale, image.shape[1] // self.scale
        image = np.ascontiguousarray(image[: height * self.scale, : width * self.scale])
        small = np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
        return self._sample(small, {"high_res": np.ascontiguousarray(image.transpose(2, 0, 1))}, f"scene-{number}")

    def _degraded(self, number: int) -> Sample:
        """The scene as the target, and what its degradations leave of it as the image."""
        name = f"scene-{number}"
        clean = ImageSource(make_scene(self.seed, number, self.size, self.max_size).image).read(self.channels)
        degraded = self.chain(clean, rng_for(self.seed, 0, number))
        clean, degraded = without_margin(clean, degraded, self.chain.margin, name)
        target: Any = {"clean": planes(clean, self.channels)}
        return Sample(inputs_of(degraded, self.chain.leaves_levels(True), self.conditions, name), target, name)

    @staticmethod
    def _sample(image: np.ndarray, target: dict[str, Any], name: str) -> Sample:
        return Sample.of(ImageSource(image, name), target, name)  # type: ignore[arg-type]


_scene = functools.lru_cache(maxsize=8)(make_scene)
"""Data modules that are read side by side ask for the same scene one after the other; it is drawn once."""


def _with_people(index: int, fraction: float) -> int:
    """Number of a scene whose subject is a person in that fraction of all, evenly spread; the others take turns."""
    classes = len(OBJECT_CLASSES)
    before = math.floor(index * fraction)
    if math.floor((index + 1) * fraction) > before:
        return index * classes
    return index * classes + 1 + (index - before) % (classes - 1)


def _times(size: tuple[int, int], factor: int) -> tuple[int, int]:
    return size[0] * factor, size[1] * factor
