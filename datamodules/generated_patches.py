"""Pairs of patches made of ordinary images: one point seen twice is a match, two points are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.image_store import ImageStore, PixelCache
from datamodules.patch_data import PatchData
from datamodules.patch_views import PatchViews
from visionkit.augmentation import SampleAugment
from visionkit.data import Split
from visionkit.data_summary import SplitSummary
from visionkit.errors import UsageError
from visionkit.images import ImageSource
from visionkit.listing import Listing
from visionkit.loading import rng_for
from visionkit.synthetic import make_scene
from visionkit.types import Sample

_FIRST: dict[Split, int] = {"train": 0, "val": 1_000_000_000, "test": 2_000_000_000}


class GeneratedPatchData(PatchData):
    """Pairs of patches cut out of images on the way, each seen through a homography and light of its own.

    Half of the pairs show one point twice, the others two points of one image that lie at least half a patch apart.
    What is drawn depends on (seed, epoch, index) alone, in validation and test not even on the epoch.

    Args:
        root: Folder of the training images, searched deeply; without one, drawn scenes of the size of `DEFAULT_SIZE`.
        scenes: Drawn scenes for training where no folder is given; validation and test have a quarter of them each.
        scene_seed: Another one gives other scenes.
        views: How a point is seen, see `PatchViews`.
        **base: See `PatchData`. By default, `patch_size` is 64 and `eval_batch_size` 64. A patch is made at this size,
            and brought to that of the network's input where it is another one.

    Example:
        >>> data = GeneratedPatchData("photos", input=PatchMatchingTask.default_input())
        >>> data.samples("val")[0].target
        {'match': 1}
    """

    partner = "pairs"

    def __init__(
        self,
        root: str = "",
        *,
        scenes: int = 200,
        scene_seed: int = 0,
        views: PatchViews | None = None,
        patch_size: int = 64,
        patches_per_image: int = 32,
        **base: Any,
    ) -> None:
        base["eval_batch_size"] = base.get("eval_batch_size") or 64
        super().__init__(root, patch_size=patch_size, patches_per_image=patches_per_image, **base)
        if self.augment is not None:
            raise UsageError("data.augment: GeneratedPatchData brings its own; set data.views")
        if scenes < 1:
            raise UsageError(f"data.scenes {scenes}: at least 1 is needed")
        self.views = views or PatchViews()
        self.scenes: dict[Split, int] = {"train": scenes, "val": -(-scenes // 4), "test": -(-scenes // 4)}
        self.scene_seed = scene_seed
        self.augment = PatchPairs(self.views, patch_size)

    @property
    def is_drawn(self) -> bool:
        """Whether the images are drawn scenes."""
        return not any(self.roots.values())

    def dataset(self, split: Split) -> Sequence[Sample]:
        """Every image `patches_per_image` times: whole in training, where `augment` makes the pair, else a pair."""
        channels = 3 if self.input is None else self.input.channels
        store: ImageStore
        if self.is_drawn:
            store = SceneStore(self.scene_seed, _FIRST[split], self.scenes[split])
            cache = PixelCache.for_images(store, np.arange(len(store)), channels, self.cache_mb)
        else:
            store, cache, _ = self.stores(split, channels)
        images = WholeImages(store, cache, channels, self.patches_per_image)
        return images if split == "train" else FixedPairs(images, PatchPairs(self.views, self.patch_size), self.seed)

    def files(self, split: Split) -> list[str]:
        return [] if self.is_drawn else super().files(split)

    def summary(self, split: Split) -> SplitSummary:
        notes = [f"{self.patches_per_image} pairs of {self.patch_size}x{self.patch_size} per image and epoch"]
        if self.is_drawn:
            return SplitSummary(split, self.scenes[split], "drawn scenes", notes=notes)
        return replace(super().summary(split), notes=notes)

    def check_trained(self, split: Split) -> None:
        if not self.is_drawn:
            super().check_trained(split)

    def made(self) -> str:
        return "two views of one point, or of two points of an image"

    def partners(self, images: Listing, root: str) -> list[tuple[Path, Path]]:
        """There are none: pairs are made here."""
        raise NotImplementedError


@dataclass(frozen=True)
class SceneStore:
    """Drawn scenes as images.

    Attributes:
        seed: Random seed of the scenes.
        first: Number of the first scene.
        count: Number of scenes.
    """

    seed: int
    first: int
    count: int

    def __len__(self) -> int:
        return self.count

    def source(self, number: int) -> ImageSource:
        """The scene, drawn."""
        return ImageSource(make_scene(self.seed, self.first + number).image, self.name(number))

    def name(self, number: int) -> str:
        """Names the scene."""
        return f"scene-{self.first + number}"


class WholeImages(Sequence[Sample]):
    """Images, each several times.

    Args:
        store: The images.
        cache: Decoded images, or None.
        channels: Channels that are decoded.
        times: How often an image is there.
    """

    def __init__(self, store: ImageStore, cache: PixelCache | None, channels: int, times: int) -> None:
        self.store, self.cache, self.channels, self.times = store, cache, channels, times

    def __len__(self) -> int:
        return len(self.store) * self.times

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        number = range(len(self))[index] // self.times
        source = self.store.source if self.cache is None else lambda k: self.cache.source(self.store, k, k)
        image = ImageSource(source(number).read(self.channels), self.store.name(number))
        return Sample({"first": image, "second": image}, {}, image.name)


class PatchPairs(SampleAugment):
    """Makes a pair of patches of an image.

    Args:
        views: How points are seen.
        patch_size: Side of a patch in pixels.
    """

    def __init__(self, views: PatchViews, patch_size: int) -> None:
        self.views, self.patch_size = views, patch_size

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self.pair(sample, bool(rng.integers(2)), rng)

    def pair(self, sample: Sample, match: bool, rng: np.random.Generator) -> Sample:
        """A match or another pair of the image of a sample."""
        patches = self.views.pair(sample.image.read_as_is(), match, self.patch_size, rng)
        inputs = {name: ImageSource(patch, sample.id) for name, patch in zip(("first", "second"), patches, strict=True)}
        target: Any = {"match": np.int64(match)}
        return sample.changed(inputs=inputs, target=target)


class FixedPairs(Sequence[Sample]):
    """Pairs that are the same in every epoch, matches and others in turn.

    Args:
        images: What they are made of.
        pairs: Makes them.
        seed: Random seed.
    """

    def __init__(self, images: WholeImages, pairs: PatchPairs, seed: int) -> None:
        self.images, self.pairs, self.seed = images, pairs, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        made = self.pairs.pair(self.images[number], number % 2 == 0, rng_for(self.seed, 0, number))
        return made.changed(id=f"{made.id}#{number % self.images.times}")
