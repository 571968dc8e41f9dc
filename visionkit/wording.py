"""Counts and places in words."""

from __future__ import annotations

_IRREGULAR = {
    **{name: name for name in ("fish", "sheep", "deer", "aircraft", "series", "species", "moose", "bison", "scissors")},
    **{"person": "people", "child": "children", "mouse": "mice", "goose": "geese", "foot": "feet", "tooth": "teeth"},
    **{"ox": "oxen", "leaf": "leaves", "knife": "knives", "wolf": "wolves", "shelf": "shelves", "loaf": "loaves"},
    **{
        "potato": "potatoes",
        "tomato": "tomatoes",
        "calf": "calves",
        "half": "halves",
        "bus": "buses",
        "epoch": "epochs",
    },
}


def counted(number: int, noun: str) -> str:
    """A number with its noun in the right form: `1 face`, `0 fish`, `3 people`, `2,000 boxes`."""
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def epoch_text(index: int, total: int | None = None) -> str:
    """An epoch as it is printed to people, who count from 1: `epoch 3 of 10`.

    Args:
        index: Its number as loops, checkpoints and metrics.csv have it, from 0.
        total: Epochs of the training; nothing is stated where they are not limited (None, or below 1).
    """
    return f"epoch {index + 1}" + (f" of {total}" if total is not None and total > 0 else "")


def plural(noun: str) -> str:
    """The plural of an English noun; a word of another alphabet stays as it is."""
    before, blank, last = noun.rpartition(" ")
    lower = last.lower()
    if not last or not last.isascii() or not last[-1].isalpha():
        return noun
    if lower in _IRREGULAR:
        form = _IRREGULAR[lower]
    elif lower.endswith("man") and lower not in ("human", "german", "roman"):
        form = f"{lower[:-3]}men"
    elif lower.endswith("fish"):
        form = lower
    elif lower.endswith(("s", "x", "z", "ch", "sh")):
        form = f"{lower}es"
    elif lower.endswith("y") and lower[-2:-1] not in tuple("aeiou"):
        form = f"{lower[:-1]}ies"
    else:
        form = f"{lower}s"
    if form.startswith(lower):
        form = last + form[len(lower) :]  # what was written stays: LEDs
    return f"{before}{blank}{form if last.islower() else last[0] + form[1:]}"
