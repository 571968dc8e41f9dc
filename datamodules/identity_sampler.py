"""Batches of P persons with K pictures each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visionkit.errors import UsageError
from visionkit.loading import EpochSampler


class PersonSampler(EpochSampler):
    """Puts K pictures of each of P persons into every batch, in an order that comes from (seed, epoch).

    In an epoch every picture is seen about once: a person's pictures are shuffled and cut into groups of K (the last
    one filled up with others of the same person), and groups are dealt to batches round by round, so that a batch
    rarely holds a person twice.

    Args:
        identity: (n,) int64 person of each sample.
        persons: P, in the batch of one rank.
        pictures: K.
        seed: Of the order.
        rank: This process.
        world: Number of processes.

    Raises:
        UsageError: There are too few persons for one batch a rank.
    """

    def __init__(
        self, identity: Sequence[int] | np.ndarray, persons: int, pictures: int, seed: int, rank: int, world: int
    ) -> None:
        values = np.asarray(identity)
        self.rows = [np.flatnonzero(values == person) for person in np.unique(values)]
        self.persons, self.pictures = persons, pictures
        groups = sum(-(-len(rows) // pictures) for rows in self.rows)
        batches = groups // persons // world * world
        if batches == 0 or len(self.rows) < persons:
            raise UsageError(
                f"data.batch_size of {persons} persons x {pictures} pictures: the training split has {len(self.rows)} "
                f"persons and {groups} such groups, shared by {world} process(es); take a smaller batch_size"
            )
        super().__init__(batches * persons * pictures, shuffle=True, seed=seed, rank=rank, world=world)

    def order(self, rng: np.random.Generator) -> np.ndarray:
        dealt: list[list[np.ndarray]] = []
        for rows in self.rows:
            missing = -len(rows) % self.pictures
            filled = np.concatenate([rng.permutation(rows), rng.choice(rows, missing)])
            dealt.append(list(filled.reshape(-1, self.pictures)))
        groups: list[np.ndarray] = []
        for turn in range(max(map(len, dealt))):
            left = [groups_ for groups_ in dealt if len(groups_) > turn]
            groups += [left[k][turn] for k in rng.permutation(len(left))]
        size = self.persons * self.pictures
        batches = np.stack(groups[: self.length // self.pictures]).reshape(-1, self.world, size)
        # Ranks take every `world`-th item: interleaved, a rank gets whole batches.
        return np.ascontiguousarray(batches.transpose(0, 2, 1)).ravel()
