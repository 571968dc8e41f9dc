"""The metric of a split: keeps embeddings, compares them at the end, and states only what their number supports."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from tasks.face_recognition.identification import RANKS, rank_all
from tasks.face_recognition.verification import FALSE_ACCEPT_RATES, FOLDS, Roc, deal, ten_fold
from tasks.face_recognition.weighted_faces import OPEN_SET_RATES, Pairs, Probes, WeightedFaces, power

MAX_IMAGES = 4000
"""Images up to which every pair is compared (8 million); of more, so many chosen evenly stand for all."""

_CURVE = 65


class FaceMetrics(Metric):
    """Verification and identification of one split, from the embeddings of all processes.

    The rows are put into an order of their own before anything is computed (person, then name of the image), so the
    number of processes and their order change nothing. `compute` gives, as far as pairs and images allow:

    - `accuracy`, `accuracy_std`, `threshold`: ten folds; `eer`; `auc`; `tar_at_far_1e-2` and so on;
    - `rank1`, `rank5`, `map`; `dir_at_far_1e-1` and so on for the open set;
    - `roc` (T, 3) of FAR, TAR and threshold; `cmc` (10,).

    What is verified: the pairs that the data lists, else every pair of the split. Who is identified: the probes in the
    gallery that the data names, else every image among all the others.
    """

    full_state_update = False
    higher_is_better = True

    embeddings: list[Tensor]
    facts: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("embeddings", [], dist_reduce_fx="cat")
        self.add_state("facts", [], dist_reduce_fx="cat")

    def update(
        self,
        embeddings: Tensor,
        identity: Tensor,
        names: Sequence[str],
        pair: Tensor | None = None,
        gallery: Tensor | None = None,
        camera: Tensor | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            embeddings: (B, D) float32 of length 1.
            identity: (B,) int64.
            names: Names of the images.
            pair: (B,) int64, see `visionkit.types.Target`, as the two that follow.
            gallery: (B,) int64.
            camera: (B,) int64.
        """
        keys = torch.tensor([_key(name) for name in names], dtype=torch.int64, device=identity.device)
        absent = torch.full_like(identity, -1)
        columns = [absent if column is None else column for column in (pair, gallery, camera)]
        self.embeddings.append(embeddings.detach().float())
        self.facts.append(torch.stack([identity, keys, *columns], dim=1))

    def compute(self) -> dict[str, Tensor]:
        pairs, probes = self._compared()
        out: dict[str, Any] = _verified(pairs)
        if probes is not None:
            out |= _ranked(probes)
        return {name: torch.as_tensor(value) for name, value in out.items()}

    def _compared(self) -> tuple[Pairs, Probes | None]:
        """The pairs, and the probes; images by their place among those that were added."""
        vectors = _whole(self.embeddings).cpu().numpy()
        facts = _whole(self.facts).cpu().numpy()
        order = np.lexsort((facts[:, 1], facts[:, 0], facts[:, 2]))
        vectors, facts = vectors[order], facts[order]
        # Whoever is in the gallery may have been trained on (the closed set): the probes alone are verified.
        asked = facts[:, 3] != 1
        listed = (facts[:, 2] >= 0).any()
        pairs = (_listed if listed else _every)(vectors[asked], facts[asked])
        rows = order[asked]
        pairs = pairs._replace(first=rows[pairs.first], second=rows[pairs.second])
        # A list of pairs does not describe who else is in it.
        return pairs, None if listed else _identify(vectors, facts, order)

    def resampler(self) -> WeightedFaces:
        """The metrics of people with weights, of the images of this process."""
        return WeightedFaces(*self._compared())


def _whole(state: Any) -> Tensor:
    return torch.cat(list(state)) if isinstance(state, (list, tuple)) else state


def _key(name: str) -> int:
    """A number for an image, from its name and its folder's: where the data lies on this machine changes no fold."""
    name = "/".join(Path(name).parts[-2:])
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)


def _verified(pairs: Pairs) -> dict[str, Any]:
    if not pairs.can_be_verified:
        # Nothing to verify: one person alone, or one image of each.
        return {"accuracy": np.float32(np.nan), "eer": np.float32(np.nan)}
    roc, folded = Roc.of(pairs.scores, pairs.same), ten_fold(pairs.scores, pairs.same, pairs.folds)
    out: dict[str, Any] = {
        "accuracy": np.float32(folded.mean),
        "accuracy_std": np.float32(folded.deviation),
        "threshold": np.float32(folded.threshold),
        "eer": np.float32(roc.equal_error_rate),
        "auc": np.float32(roc.area),
    }
    for rate in FALSE_ACCEPT_RATES:
        if roc.supports(rate):
            out[f"tar_at_far_{power(rate)}"] = np.float32(roc.at(rate)[0])
    out["roc"] = curve(roc)
    return out


def _listed(vectors: np.ndarray, facts: np.ndarray) -> Pairs:
    """The pairs that the data lists: two rows with the same number. Their ten folds follow one another in the list."""
    rows = np.flatnonzero(facts[:, 2] >= 0)
    rows = rows[np.argsort(facts[rows, 2], kind="stable")]
    numbers, counts = np.unique(facts[rows, 2], return_counts=True)
    starts = np.cumsum(counts) - counts
    whole = starts[counts == 2]
    first, second = rows[whole], rows[whole + 1]
    scores = (vectors[first].astype(np.float64) * vectors[second]).sum(axis=1)
    same = facts[first, 0] == facts[second, 0]
    folds = numbers[counts == 2] * FOLDS // max(1, int(numbers.max()) + 1)
    mixed = all(same[folds == fold].any() and (~same[folds == fold]).any() for fold in np.unique(folds))
    folds = folds if mixed and len(np.unique(folds)) == FOLDS else deal(same)
    return Pairs(scores, same, folds, first, second)


def _every(vectors: np.ndarray, facts: np.ndarray) -> Pairs:
    chosen = np.arange(len(vectors))
    if len(vectors) > MAX_IMAGES:
        chosen = np.linspace(0, len(vectors) - 1, MAX_IMAGES).astype(int)
        vectors, facts = vectors[chosen], facts[chosen]
    first, second = np.triu_indices(len(vectors), 1)
    scores = (vectors.astype(np.float64) @ vectors.astype(np.float64).T)[first, second]
    same = facts[first, 0] == facts[second, 0]
    return Pairs(scores, same, deal(same), chosen[first], chosen[second])


def _identify(vectors: np.ndarray, facts: np.ndarray, rows: np.ndarray) -> Probes | None:
    role = facts[:, 3]
    if (role == 1).any() and (role == 0).any():
        probe, known = role == 0, role == 1
        cameras = (facts[probe, 4], facts[known, 4]) if (facts[:, 4] >= 0).any() else (None, None)
        ranking = rank_all(vectors[probe], vectors[known], facts[probe, 0], facts[known, 0], None, *cameras)
        rows = rows[probe]
    elif len(vectors) > 1:
        itself = np.arange(len(vectors))
        ranking = rank_all(vectors, vectors, facts[:, 0], facts[:, 0], itself)
    else:
        return None
    return Probes(ranking, rows) if ranking.asked else None


def _ranked(probes: Probes) -> dict[str, Any]:
    ranking = probes.ranking
    cmc = np.array([ranking.rank(k) for k in range(1, RANKS + 1)], np.float32)
    out: dict[str, Any] = {"rank1": cmc[0], "rank5": cmc[4], "map": np.float32(ranking.mean_average_precision)}
    for rate in OPEN_SET_RATES:
        if ranking.supports(rate):
            out[f"dir_at_far_{power(rate)}"] = np.float32(ranking.open_set(rate))
    return {**out, "cmc": cmc}


def curve(roc: Roc) -> np.ndarray:
    """Some dozen points of the curve: evenly over TAR, and evenly over the logarithm of FAR for the low rates.

    Returns:
        (T, 3) float64 of FAR, TAR and threshold.
    """
    low = -np.log10(max(10, roc.different))
    wanted = np.unique(
        np.concatenate(
            [
                np.searchsorted(roc.far, np.logspace(low, 0, _CURVE), side="right") - 1,
                np.searchsorted(roc.tar, np.linspace(0, 1, _CURVE // 2), side="left"),
            ]
        ).clip(1, len(roc.far) - 1)
    )
    return np.stack([roc.far[wanted], roc.tar[wanted], roc.thresholds[wanted]], axis=1)


def curve_table(values: Tensor) -> list[dict[str, Any]]:
    """Rows of the ROC: `far`, `tar`, `threshold`."""
    return [
        {"far": round(far, 6), "tar": round(tar, 6), "threshold": round(threshold, 6)}
        for far, tar, threshold in values.tolist()
    ]


def match_table(values: Tensor) -> list[dict[str, Any]]:
    """Rows of the cumulative match curve: `rank` and the fraction found up to it."""
    return [{"rank": rank, "found": round(float(fraction), 6)} for rank, fraction in enumerate(values.tolist(), 1)]


def build_metrics() -> MetricCollection:
    """The metrics of one split."""
    return MetricCollection({"faces": FaceMetrics()})
