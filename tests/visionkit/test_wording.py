"""Counts are reported in the right form of their noun."""

import pytest

from visionkit.wording import counted


@pytest.mark.parametrize(
    ("number", "noun", "message"),
    [
        *((1, "face", "1 face"), (0, "face", "0 faces"), (2, "person", "2 people"), (0, "fish", "0 fish")),
        *((3, "box", "3 boxes"), (3, "class", "3 classes"), (2, "fly", "2 flies"), (2, "monkey", "2 monkeys")),
        *((2, "starfish", "2 starfish"), (5, "fire hydrant", "5 fire hydrants"), (2, "Person", "2 People")),
        *((2, "woman", "2 women"), (2, "human", "2 humans"), (2, "魚", "2 魚"), (2, "LED", "2 LEDs"), (2, "", "2 ")),
        *((2, "bench", "2 benches"), (2, "epoch", "2 epochs"), (2, "mouse", "2 mice"), (2, "type 2", "2 type 2")),
    ],
)
def test_counts(number, noun, message):
    assert counted(number, noun) == message
