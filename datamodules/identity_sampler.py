"""Batches of P people with K images each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visionkit.errors import UsageError
from visionkit.sampling import EpochSampler


class IdentitySampler(EpochSampler):
    """Puts K images of each of P people into every batch, in an order that comes from (seed, epoch).

    In an epoch every image is seen about once: a person's images are shuffled and cut into groups of K (the last
    one padded with others of the same person), and groups are dealt to batches round by round, so that a batch
    rarely holds a person twice.

    Args:
        identity: (n,) int64 person of each sample.
        people: P, in the batch of one rank.
        images: K.
        seed: Random seed of the order.
        rank: This process.
        world: Number of processes.

    Raises:
        UsageError: There are too few people for one batch a rank.
    """

    def __init__(
        self, identity: Sequence[int] | np.ndarray, people: int, images: int, seed: int, rank: int, world: int
    ) -> None:
        values = np.asarray(identity)
        self.rows = [np.flatnonzero(values == person) for person in np.unique(values)]
        self.people, self.images = people, images
        groups = sum(-(-len(rows) // images) for rows in self.rows)
        batches = groups // people
        if batches < world or len(self.rows) < people:
            raise UsageError(
                f"data.batch_size of {people} people x {images} images: the training split has {len(self.rows)} "
                f"people and {groups} such groups, shared by {world} process(es); take a smaller batch_size"
            )
        super().__init__(batches * people * images, shuffle=True, seed=seed, rank=rank, world=world)
        self.unit = self.batch_size = people * images

    def order(self, rng: np.random.Generator) -> np.ndarray:
        dealt: list[list[np.ndarray]] = []
        for rows in self.rows:
            missing = -len(rows) % self.images
            filled = np.concatenate([rng.permutation(rows), rng.choice(rows, missing)])
            dealt.append(list(filled.reshape(-1, self.images)))
        groups: list[np.ndarray] = []
        for turn in range(max(map(len, dealt))):
            left = [groups_ for groups_ in dealt if len(groups_) > turn]
            groups += [left[k][turn] for k in rng.permutation(len(left))]
        return np.concatenate(groups)[: self.length]
