"""The metrics of found people, of images with weights: matched once, for any number of replicates."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from tasks.pose.measures import PersonErrors, person_errors
from visionkit.families.keypoints.oks import (
    AREAS,
    RECALL_POINTS,
    MatchedPeople,
    PoseResults,
    Truth,
    matched_people,
)
from visionkit.skeleton import Skeleton
from visionkit.uncertainty.weighted_curves import interpolated_precision


class WeightedPoses:
    """COCO's ten numbers, fractions of correct keypoints and errors of weighted images.

    An image of weight 2 counts as two images. Where each person is a crop, all crops of an image have its weight:
    people of one image are matched with each other and share camera, light and crowding, so they are drawn together.

    Args:
        found: Predictions in any order.
        true: Ground truth in any order.
        skeleton: Skeleton of both.
        images: (N,) int64 number of the image that each weight belongs to; crops of one image have one number.
    """

    def __init__(self, found: PoseResults, true: Truth, skeleton: Skeleton, images: np.ndarray) -> None:
        self.skeleton, self.images = skeleton, images
        self.found, self.true = found, true

    def joined(self, other: WeightedPoses) -> WeightedPoses:
        """One for the images of both."""
        first, second = self._numbered(0), other._numbered(len(np.unique(self.images)))
        found, true = _concatenated(first.found, second.found), _concatenated(first.true, second.true)
        return WeightedPoses(found, true, self.skeleton, np.concatenate([first.images, second.images]))

    def _numbered(self, start: int) -> WeightedPoses:
        """With images that are numbered from `start` on, in the same order."""
        known = np.unique(self.images)

        def number(images: np.ndarray) -> np.ndarray:
            return np.searchsorted(known, images) + start

        found = replace(self.found, image=number(self.found.image))
        true = replace(self.true, image=number(self.true.image))
        return WeightedPoses(found, true, self.skeleton, number(self.images))

    @cached_property
    def _parts(self) -> tuple[MatchedPeople, PersonErrors, np.ndarray]:
        plain = self._numbered(0)
        sigmas = self.skeleton.oks_sigmas()
        errors, _ = person_errors(plain.found, plain.true, self.skeleton, sigmas)
        return matched_people(plain.found, plain.true, sigmas), errors, plain.true.image

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(r, N) weights to (r,) values by name, NaN where there is nothing to measure."""
        people, errors, true_image = self._parts
        of_image = weights[:, np.unique(self.images, return_index=True)[1]]
        return weighted_numbers(people, of_image) | errors.weighted(of_image[:, true_image])[0]


def weighted_numbers(people: MatchedPeople, weights: np.ndarray) -> dict[str, np.ndarray]:
    """COCO's ten numbers of weighted images.

    Args:
        people: Found and true people, whose images are columns of the weights.
        weights: (r, I) weights.
    """
    own, out = weights[:, people.image], dict[str, np.ndarray]()
    for name in AREAS:
        wanted = weights[:, people.true_image] @ people.counted[name].astype(np.float64)
        right, wrong = people.right[name], people.wrong[name]
        pairs = zip(right, wrong, strict=True)
        precision = np.stack([interpolated_precision(own, *each, wanted, RECALL_POINTS) for each in pairs], axis=1)
        recall = own @ right.T.astype(np.float64) / np.maximum(wanted, 1e-12)[:, None]
        suffix = "" if name == "all" else f"_{name}"
        for kind, values in (("ap", precision), ("ar", recall)):
            parts = {suffix: values.mean(axis=1)}
            if name == "all":
                parts |= {"50": values[:, 0], "75": values[:, 5]}
            out |= {f"{kind}{each}": np.where(wanted > 0, part, np.nan) for each, part in parts.items()}
    return out


People = TypeVar("People", PoseResults, Truth)


def _concatenated(first: People, second: People) -> People:
    names = [name for name, value in vars(first).items() if isinstance(value, np.ndarray)]
    joined = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in names}
    return type(first)(**{**vars(first), **joined})
