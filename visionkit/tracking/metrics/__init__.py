"""Metrics of tracks: CLEAR MOT, identity and HOTA, equal to the field's own tools.

pair = TrackPair.of(truth, predicted)
measure(pair).values()["hota"]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from visionkit.tracking.metrics.clear import Clear, clear
from visionkit.tracking.metrics.hota import Hota, hota
from visionkit.tracking.metrics.identity import Identity, identity
from visionkit.tracking.metrics.pair import Convention, TrackPair

__all__ = ["Clear", "Convention", "Hota", "Identity", "TrackMeasures", "TrackPair", "combine", "measure"]


@dataclass(frozen=True)
class TrackMeasures:
    """What was counted in one sequence, or in several.

    Attributes:
        clear: CLEAR MOT.
        identity: Identities of whole tracks.
        hota: HOTA.
        convention: Whose definition of `clear` and `identity` is followed.
    """

    clear: Clear
    identity: Identity
    hota: Hota
    convention: Convention = "trackeval"

    def values(self) -> dict[str, float]:
        """All values by name, as fractions and counts."""
        return {
            **self.hota.values(),
            **self.clear.values(self.convention),
            **self.identity.values(self.convention),
        }


def measure(pair: TrackPair, convention: Convention = "trackeval") -> TrackMeasures:
    """Measures one sequence.

    Args:
        pair: True and predicted tracks.
        convention: See `Convention`.
    """
    return TrackMeasures(clear(pair, convention), identity(pair, convention), hota(pair), convention)


def combine(parts: Sequence[TrackMeasures]) -> TrackMeasures:
    """All sequences as one: their counts are added up, not their values averaged.

    Args:
        parts: At least one.
    """
    return TrackMeasures(
        reduce(Clear.plus, (part.clear for part in parts)) if len(parts) > 1 else parts[0].clear,
        reduce(Identity.plus, (part.identity for part in parts)),
        reduce(Hota.plus, (part.hota for part in parts)),
        parts[0].convention,
    )
