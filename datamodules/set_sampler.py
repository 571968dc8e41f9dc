"""Batches of one set each, for data sets of different images that are trained on together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visionkit.sampling import EpochSampler, Stretch


class SetSampler(EpochSampler):
    """Batches of one set each; an epoch has as many as all sets fill together.

    A set that gets more batches than it fills begins again in another order; of one that gets fewer a part is seen,
    another one each epoch.

    Args:
        lengths: Images of each set.
        batch_size: Batch size of one rank.
        exponent: A set of n images gets batches in proportion to n to this power: 0 equal, 1 proportional.
        seed: Random seed of the order.
        rank: This process.
        world: Number of processes.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, exponent: float, *, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.lengths, self.chunk, self.exponent = list(lengths), batch_size * world, exponent
        batches = max(len(lengths), sum(lengths) // self.chunk)
        self.turns = interleave([n**exponent for n in lengths], batches)
        super().__init__(batches * self.chunk, shuffle=True, seed=seed, rank=rank, world=world)
        self.batch_size, self.drop_last = batch_size, True

    def begun_by(self, first: Stretch) -> SetSampler:
        return SetSampler(self.lengths, first.batch_size, self.exponent, seed=self.seed, world=first.world)

    def arranged(self, order: np.ndarray, left: np.ndarray, chunk: int) -> tuple[np.ndarray, int]:
        """Whole batches of all ranks, each of one set, in the order in which the sets have them; then what is over."""
        owner = np.searchsorted(np.cumsum(self.lengths), order[left], side="right")
        ends, whole = [], []
        for number in range(len(self.lengths)):
            rows = np.flatnonzero(owner == number)
            batches = rows[: len(rows) // chunk * chunk].reshape(-1, chunk)
            whole.append(batches)
            ends.append(batches[:, -1])
        turns = np.concatenate(whole)[np.argsort(np.concatenate(ends), kind="stable")].ravel()
        return left[np.concatenate([turns, np.setdiff1d(np.arange(len(left)), turns)])], len(turns)

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """Numbers of images over all sets; each stretch of `chunk` is of one set."""
        starts = np.concatenate([[0], np.cumsum(self.lengths)])
        pools = []
        for number, length in enumerate(self.lengths):
            wanted = self.turns.count(number) * self.chunk
            passes = [rng.permutation(length) for _ in range(-(-wanted // length))]
            pools.append(starts[number] + np.concatenate([*passes, np.zeros(0, dtype=np.int64)]))
        taken = [0] * len(pools)
        out = []
        for number in self.turns:
            out.append(pools[number][taken[number] : taken[number] + self.chunk])
            taken[number] += self.chunk
        return np.concatenate(out).astype(np.int64)


def interleave(fractions: Sequence[float], count: int) -> list[int]:
    """Who is next, `count` times: each in proportion to its fraction, as evenly as can be, and each at least once.

    Args:
        fractions: Above 0.
        count: How often; at least the number of fractions.
    """
    total = float(sum(fractions))
    wanted = np.maximum(np.floor(np.array(fractions) / total * count), 1).astype(int)
    while wanted.sum() > count:
        wanted[int(np.argmax(wanted))] -= 1
    while wanted.sum() < count:
        wanted[int(np.argmax(np.array(fractions) / total * count - wanted))] += 1
    places = [((turn + 0.5) / n, number) for number, n in enumerate(wanted.tolist()) for turn in range(n)]
    return [number for _, number in sorted(places)]
