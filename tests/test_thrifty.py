"""What the quick tests keep of a matrix covers every value of every axis."""

from __future__ import annotations

from typing import Any

import pytest

from tests.thrifty import covering, first_of


def quick(params: list[Any]) -> list[Any]:
    return [each for each in params if not hasattr(each, "marks")]


def test_every_value_of_every_axis_is_quick_once() -> None:
    found = covering("abcde", (1, 2, 3), (True, False))
    assert len(found) == 30 and len(quick(found)) == 5
    assert [set(values) for values in zip(*quick(found), strict=True)] == [set("abcde"), {1, 2, 3}, {True, False}]
    assert all(each.marks[0].name == "slow" for each in found if hasattr(each, "marks"))
    assert ("a", 3, True) in quick(covering("abcde", (1, 2, 3), (True, False), keep=[("a", 3, True)]))


def test_what_is_no_value_is_not_kept_in_silence() -> None:
    with pytest.raises(ValueError, match="no combinations"):
        covering("ab", (1, 2), keep=[("a", 3)])
    with pytest.raises(ValueError, match="no values"):
        first_of("ab", "c")
    assert quick(first_of("abc", "ac")) == ["a", "c"]
