"""How unusual an image is for a model, in numbers and in words; what measures it is `visionkit.out_of_distribution`."""

from __future__ import annotations

from typing import Any, NamedTuple


class Novelty(NamedTuple):
    """How far an image is from those of the model's own data.

    Attributes:
        score: Distance of its features as a part of the threshold.
        percentile: Percentile of the held-out images that are nearer than the threshold.
        images: Number of held-out images.
    """

    score: float
    percentile: float
    images: int

    @property
    def unlike(self) -> bool:
        """The image is further out than the threshold."""
        return self.score > 1.0

    def to_json(self) -> dict[str, Any]:
        """For records of predictions."""
        return {"score": round(self.score, 4), "unlike": self.unlike, **stated(self.percentile, self.images)}

    @property
    def text(self) -> str:
        """One sentence for people."""
        return (
            f"looks unlike the images this model was made with: {self.score:.1f} times as far out as "
            f"{self.percentile:g} % of its {self.images:,} held-out images; the prediction may mean little"
        )


def stated(percentile: float, images: int) -> dict[str, Any]:
    """What the threshold of a mark rests on, for records."""
    return {"percentile": percentile, "images": images}


def novelty_sentence(novelty: Novelty | None) -> str:
    """The sentence that is shown with a prediction, or "" where the image is not marked."""
    return f"This image {novelty.text}." if novelty is not None and novelty.unlike else ""
