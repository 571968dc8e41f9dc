"""The changes themselves: what is changed, what is left, and that each is one."""

from __future__ import annotations

from tests.mutation.mutants import mutants
from tests.mutation.plan import PLAN, equivalents
from tests.real_data import ROOT

SOURCE = '''"""A module."""
from __future__ import annotations


def part(a: int | None, b: float = 0.5) -> int:
    """Text with 1 < 2."""
    if a is None or not b:
        raise ValueError(f"{a + 1}")
    a += 2
    print(pow(a, b))
    return a * -3
'''


def test_each_change_is_one_and_texts_and_types_are_left() -> None:
    found = {mutant.diff(SOURCE) for mutant in mutants(SOURCE)}
    for pair in (
        ("if a is None or not b:", "if (a is None and (not b)):"),
        ("if a is None or not b:", "if (a is not None) or not b:"),
        ("if a is None or not b:", "if (not (a is None or not b)):"),
        ("if a is None or not b:", "if a is None or (b):"),
        ('raise ValueError(f"{a + 1}")', "pass"),
        ("a += 2", "a -= 2"),
        ("a += 2", "pass"),
        ("a += 2", "a += 3"),
        ("print(pow(a, b))", "print((pow(b, a)))"),
        ("print(pow(a, b))", "pass"),
        ("return a * -3", "return (a / -3)"),
        ("return a * -3", "return a * (3)"),
        ("def part(a: int | None, b: float = 0.5) -> int:", "def part(a: int | None, b: float = 0.75) -> int:"),
    ):
        assert pair in found, pair
    assert all("Text" not in old and "int & None" not in new and "{a - 1}" not in new for old, new in found)
    for mutant in mutants(SOURCE):
        changed = mutant.apply(SOURCE).splitlines()
        assert sum(a != b for a, b in zip(SOURCE.splitlines(), changed, strict=True)) == 1


def test_the_plan_names_what_exists() -> None:
    paths = {*PLAN, *(path for tests in PLAN.values() for path in tests)}
    assert not [path for path in paths if not (ROOT / path).exists()]
    assert {module for module, _, _ in equivalents()} <= set(PLAN)
