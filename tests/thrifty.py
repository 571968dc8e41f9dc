"""Matrices of tests: each value of each axis once in the quick tests, every other combination by `make slow`."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import Any

import pytest


def covering(*axes: Sequence[Any], keep: Collection[tuple[Any, ...]] = ()) -> list[Any]:
    """All combinations of the values of some axes, for `parametrize`; those that are not needed to cover are slow.

    Args:
        axes: The values of each axis.
        keep: Combinations that are quick too, since something happens in them alone.

    Raises:
        ValueError: A combination to keep is none.
    """
    longest = max(map(len, axes))
    quick = [tuple(axis[number % len(axis)] for axis in axes) for number in range(longest)]
    every = list(itertools.product(*axes))
    if unknown := [each for each in keep if each not in every]:
        raise ValueError(f"no combinations of the axes: {unknown}")
    return [each if each in quick or each in keep else pytest.param(*each, marks=pytest.mark.slow) for each in every]


def first_of(values: Sequence[Any], quick: Collection[Any]) -> list[Any]:
    """One axis, for `parametrize`: the values that are quick, and the others as slow.

    Raises:
        ValueError: A quick value is none of them.
    """
    if unknown := [each for each in quick if each not in values]:
        raise ValueError(f"no values of the axis: {unknown}")
    return [each if each in quick else pytest.param(each, marks=pytest.mark.slow) for each in values]
