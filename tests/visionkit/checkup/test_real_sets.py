"""What is wrong with real data sets, as people have found it by eye."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from datamodules.opening import open_data
from tests.real_data import real_data
from visionkit.checkup.examination import examine


def test_blood_cells_have_two_boxes_without_an_area() -> None:
    found = examine(open_data(real_data("detection/bccd_voc"))).findings
    assert Counter(each.kind for each in found) == {"degenerate-box": 2, "near-duplicate-across": 1}
    boxes = {(Path(each.file).stem, each.split) for each in found if each.kind == "degenerate-box"}
    assert boxes == {("BloodImage_00343", "train"), ("BloodImage_00338", "val")}
    (pair,) = (each for each in found if each.kind == "near-duplicate-across")  # one field, photographed twice
    assert {Path(pair.file).stem, Path(pair.others[0]).stem} == {"BloodImage_00037", "BloodImage_00038"}


def test_the_91_images_hold_one_twice() -> None:
    found = examine(open_data(real_data("super_resolution/t91"))).findings
    copies = [(Path(each.file).name, *map(Path, each.others)) for each in found if each.kind == "duplicate-image"]
    assert [(first, second.name) for first, second in copies] == [("t36.png", "t65.png")]
