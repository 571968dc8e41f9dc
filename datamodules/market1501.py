"""Market-1501's layout for person re-identification: the person and the camera stand in the names of the images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.identities import IdentityBatches, IdentityImages
from datamodules.image_store import FileStore, PixelCache
from visionkit.augmentation import Augmentation
from visionkit.data import Split
from visionkit.errors import DataError
from visionkit.listing import list_images
from visionkit.types import Sample

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
_NAME = re.compile(r"(-?\d+)_c(\d+)")
JUNK = -1
"""Person of the gallery's images that show nobody; they are not compared. 0 are distractors, which are."""


class Market1501Data(IdentityBatches):
    """People seen by several cameras: `bounding_box_train`, `query` and `bounding_box_test` below one folder.

    Names begin with the person and the camera: `0002_c1s1_000451_03.jpg`. Training people are not in the two others;
    the images of `query` are looked for in `bounding_box_test`, those of the same person by the same camera left out.
    Validation is the same as testing, so choose no checkpoint by it.

    Args:
        root: The folder.
        per_identity: K images per person in a batch of `batch_size` / K people; 0 shuffles images.
        cache_mb: Decoded images are kept in memory where all of a split fit into this many MiB; 0 keeps none.
        augment: Changes training samples.
        **base: See `VisionDataModule`.

    Example:
        >>> data = Market1501Data("Market-1501", per_identity=4, batch_size=64, input=InputSpec((256, 128)))
        >>> data.samples("test")[0].target.keys()
        dict_keys(['identity', 'gallery', 'camera'])
    """

    def __init__(
        self,
        root: str,
        *,
        per_identity: int = 4,
        cache_mb: int = 512,
        augment: Augmentation | None = None,
        **base: Any,
    ) -> None:
        super().__init__(augment=augment, **base)
        self.root, self.per_identity, self.cache_mb = Path(root), per_identity, cache_mb
        self.check_batches()

    @classmethod
    def discover_classes(cls, root: str = "", **init_args: Any) -> list[str]:
        """The training people."""
        return [str(person) for person in sorted({person for _, person, _ in _listed(Path(root), TRAIN)})]

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The images of a split, by folder and name."""
        people = sorted({person for _, person, _ in _listed(self.root, TRAIN)})
        if split == "train":
            found = _listed(self.root, TRAIN)
            numbers = {person: number for number, person in enumerate(people)}
            targets = {"identity": np.array([numbers[person] for _, person, _ in found], np.int64)}
        else:
            queries, known = _listed(self.root, QUERY), _listed(self.root, GALLERY)
            both = {person for _, person, _ in (*queries, *known) if person > 0} & set(people)
            if both:
                raise DataError(
                    f"{self.root}: person {min(both)} is in {TRAIN} and in {QUERY} or {GALLERY}; a person belongs to "
                    "one split alone"
                )
            found = [*queries, *known]
            targets = {
                "identity": np.array([JUNK if p == JUNK else p + len(people) for _, p, _ in found], np.int64),
                "gallery": (np.arange(len(found)) >= len(queries)).astype(np.int64),
                "camera": np.array([camera for _, _, camera in found], np.int64),
            }
        store, rows = FileStore(self.root, [name for name, _, _ in found]), np.arange(len(found))
        channels = self.input.channels if self.input else 3
        cache = PixelCache.for_images(store, rows, channels, self.cache_mb)
        return IdentityImages(store, rows, targets, cache)


def _listed(root: Path, folder: str) -> list[tuple[str, int, int]]:
    """Path below the root, person and camera of every image in one of the folders."""
    place = root / folder
    if not place.is_dir():
        raise DataError(f"{place}: no such folder; Market-1501 has {TRAIN}, {QUERY} and {GALLERY}")
    out = []
    for path in list_images(place, deep=False).files:
        match = _NAME.match(path.name)
        if match is None:
            raise DataError(f"{path}: its name does not begin as 0002_c1...; person and camera are read from it")
        out.append((f"{folder}/{path.name}", int(match[1]), int(match[2])))
    if not out:
        raise DataError(f"{place}: no images in it")
    return out
