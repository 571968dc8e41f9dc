"""Everything that an analysis has of a split: rows of images, the worst of them, groups, tables."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from visionkit.analysis.base import Analysis, Case, Row, Tables, mean_values
from visionkit.analysis.metadata import Facts, facts_by_name, facts_of, slice_rows
from visionkit.predictions import Prediction
from visionkit.run_report.charts import Chart
from visionkit.run_report.sheets import caption
from visionkit.types import Sample

if TYPE_CHECKING:
    from visionkit.geometry import Geometry

WORST = 24
"""Images of each ranking that are drawn."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """An image of a ranking, with what is needed to draw it.

    Attributes:
        value: What it is ranked by; the highest comes first.
        number: Its number in the table of images.
        sample: The sample.
        prediction: Its prediction.
        row: Its row of the table of images.
    """

    value: float
    number: int
    sample: Sample
    prediction: Prediction
    row: Row

    @property
    def caption(self) -> str:
        """Its row on one line, without its name."""
        return caption({name: value for name, value in self.row.items() if name != "image"})

    def __lt__(self, other: Ranked) -> bool:
        """By value, the earlier image first among equals."""
        return (self.value, -self.number) < (other.value, -other.number)


class Ranking:
    """The images of the highest values, kept while images come."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._heap: list[Ranked] = []

    def offer(self, value: float | None, number: int, case: Case, row: Row) -> None:
        """Keeps the image if it is among the highest; one whose value is None, or that nobody can draw, is not."""
        if value is None or case.sample is None or self.most < 1:
            return
        self.keep(Ranked(value, number, case.sample, case.prediction, row))

    def keep(self, ranked: Ranked) -> None:
        """Keeps an image if it is among the highest."""
        if len(self._heap) < self.most:
            heapq.heappush(self._heap, ranked)
        elif self._heap[0] < ranked:
            heapq.heapreplace(self._heap, ranked)

    def images(self) -> list[Ranked]:
        """The images, the highest value first."""
        return sorted(self._heap, reverse=True)


@dataclass(eq=False)
class Collected:
    """What is collected while a split is evaluated.

    Args:
        analysis: The task's.
        given: Columns of a csv by name of the image, see `read_facts`.
        most: Images of each ranking.
    """

    analysis: Analysis
    given: Mapping[str, Facts] = field(default_factory=dict)
    most: int = WORST

    def __post_init__(self) -> None:
        self.facts: list[Facts] = []
        self.samples: list[Sample | None] = []
        self.named = 0
        self._worst, self._confident = Ranking(self.most), Ranking(self.most)

    def add(self, case: Case, image: np.ndarray | None = None, geometry: Geometry | None = None) -> None:
        """Takes an image.

        Args:
            case: The image with its prediction and its truth.
            image: (C, h, w) the network's input, on a scale of 255.
            geometry: Where the image lies in it.
        """
        number = len(self.facts)
        row = self.analysis.add(case)
        if self.analysis.draws_images:
            self.samples.append(case.sample)
        own = facts_by_name(self.given, case.name)
        self.named += bool(own)
        known = facts_of(case, image, geometry) if image is not None and geometry is not None else {}
        self.facts.append({**own, **known})
        self._worst.offer(self.analysis.badness(row), number, case, row)
        self._confident.offer(self.analysis.confidence(row), number, case, row)

    def draw_worst(self, ranked: Sequence[Ranked]) -> None:
        """Takes the worst images where the analysis was given its images without pixels.

        Args:
            ranked: The images, at most `most` of them.
        """
        for each in ranked:
            self._worst.keep(each)

    def add_named(self) -> None:
        """Takes the images that the analysis was given itself, of which there are no pixels here."""
        for row in self.analysis.rows[len(self.facts) :]:
            own = facts_by_name(self.given, str(row["image"]))
            self.named += bool(own)
            self.facts.append(own)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The table of images, with what is known of each."""
        return [{**row, **facts} for row, facts in zip(self.analysis.rows, self.facts, strict=True)]

    @property
    def worst(self) -> list[Ranked]:
        """The worst images."""
        return self._worst.images()

    @property
    def confident(self) -> list[Ranked]:
        """The images with the most confident errors."""
        return self._confident.images()

    def tables(self) -> Tables:
        """The tables of the analysis, and the groups of images."""
        out = {title: rows for title, rows in self.analysis.tables().items() if rows}
        if not self.worst and (ranked := self._by_badness()):
            out["worst images"] = ranked
        slices = slice_rows(self.analysis, self.facts)
        return {**out, "slices": slices} if slices else out

    def _by_badness(self) -> list[dict[str, Any]]:
        """Rows of the worst images, where there are none to be drawn."""
        known = [(self.analysis.badness(row), row) for row in self.analysis.rows]
        ranked = sorted(((value, row) for value, row in known if value is not None), key=lambda each: -each[0])
        return [dict(row) for _, row in ranked[: self.most]]

    def shown_together(self) -> list[tuple[list[np.ndarray], str]]:
        """Images that the analysis shows side by side, and the caption of each group."""
        out = []
        for numbers, text in self.analysis.shown_together():
            samples = [self.samples[number] for number in numbers]
            known = [sample.image.read() for sample in samples if sample is not None]
            if len(known) == len(samples):
                out.append((known, text))
        return out

    def charts(self) -> dict[str, Chart]:
        """How tables are drawn."""
        return self.analysis.charts()

    def means(self) -> dict[str, float]:
        """Means over images of the numbers in their rows."""
        return mean_values(self.analysis.rows)
