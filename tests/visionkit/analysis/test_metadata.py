"""What is known of images, and the groups that are made of it."""

from __future__ import annotations

import numpy as np
import pytest

from visionkit.analysis.base import Analysis, Case, mean_values
from visionkit.analysis.collected import Collected
from visionkit.analysis.metadata import GROUPS, facts_by_name, facts_of, group, read_facts, slice_rows
from visionkit.analysis.report import Described, write_report
from visionkit.errors import DataError
from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageSource
from visionkit.predictions import Classification
from visionkit.types import Sample


def test_many_numbers_are_thirds_few_numbers_and_names_are_themselves():
    thirds = group([float(k) for k in range(9)])
    assert {name: rows.tolist() for name, rows in thirds.items()} == {
        "0 to 2": [0, 1, 2], "3 to 5": [3, 4, 5], "6 to 8": [6, 7, 8]
    }  # fmt: skip
    assert list(group([2.0, 10.0, 2.0])) == ["2", "10"]
    assert group(["rain", None, "sun", "rain"])["rain"].tolist() == [0, 3]
    assert sum(map(len, group([1.0] * 5 + [2.0] * 3 + [3, 4, 5, 6, 7.0]).values())) == 13
    many = group([f"city {k:02d}" for k in range(GROUPS + 3)])
    assert len(many) == GROUPS + 1 and len(many["3 others"]) == 3


def test_a_csv_names_images_by_the_end_of_their_path(tmp_path):
    path = tmp_path / "slices.csv"
    path.write_text("image,weather,hour\na/1.jpg,rain,7\n2,sun,\n")
    facts = read_facts(path)
    assert facts_by_name(facts, "/data/a/1.jpg") == {"weather": "rain", "hour": 7.0}
    assert facts_by_name(facts, "/data/b/2.jpg") == {"weather": "sun"}
    assert facts_by_name(facts, "/data/b/1.jpg") == {}
    path.write_text("image,weather\n1,rain\n1,sun\n")
    with pytest.raises(DataError, match="line 3: duplicate image 1"):
        read_facts(path)
    path.write_text("image\n1\n")
    with pytest.raises(DataError, match="names the columns"):
        read_facts(path)


def case(name, right=True, **target):
    prediction = Classification(("a", "b"), np.array([0.9, 0.1]))
    known = {"labels": np.int64(0 if right else 1), **target}
    sample = Sample.of(ImageSource(np.zeros((4, 4, 3), np.uint8)), known, name)
    return Case(name, prediction, known, sample, lambda: {"top1": float(right)})


def test_brightness_is_that_of_the_image_and_not_of_its_border():
    plan = Geometry.plan(InputSpec(size=(40, 40), resize_mode="letterbox"), (20, 40))
    image = np.full((3, 40, 40), 114, np.uint8)
    top = plan.offset[0]
    image[:, top : top + plan.resized[0]] = 200
    facts = facts_of(case("x", boxes=np.zeros((3, 4))), image, plan)
    assert (facts["brightness"], facts["contrast"], facts["objects"]) == (200, 0, 3)
    assert (facts["aspect ratio"], facts["megapixels"]) == (2, 0.0008)


def test_the_analysis_of_any_task_ranks_by_its_metric_and_measures_groups():
    collected = Collected(Analysis(("val/top1", "max")), {"2": {"weather": "rain"}, "1": {"weather": "sun"}}, most=1)
    for number, right in enumerate((True, True, False)):
        collected.add(case(str(number), right))
    assert [each.row["image"] for each in collected.worst] == ["2"]
    assert collected.rows[2] == {
        "image": "2", "truth": "b", "prediction": "a", "probability": pytest.approx(0.9), "correct": False,
        "top1": 0.0, "weather": "rain",
    }  # fmt: skip
    slices = {row["group"]: row for row in collected.tables()["slices"]}
    assert (slices["rain"]["images"], slices["rain"]["top1"], slices["sun"]["top1"]) == (1, 0, 1)
    assert slice_rows(collected.analysis, [{"x": "same"}] * 3) == [], "one group is no comparison"


def test_a_csv_that_names_no_image_is_reported(tmp_path, capsys):
    for name, is_reported in (("2", False), ("other", True)):
        collected = Collected(Analysis(("val/top1", "max")), {name: {"weather": "rain"}}, most=1)
        for number in range(3):
            collected.add(case(str(number)))
        write_report(tmp_path, Described("a model", "", {}), collected)
        assert ("no row of the csv names one of the 3 images, such as 0" in capsys.readouterr().err) == is_reported


def test_means_leave_out_what_is_not_known():
    rows = [{"a": 1.0, "b": -1, "c": "x"}, {"a": 3, "b": 0.5, "c": "y"}, {"a": float("nan")}]
    assert mean_values(rows) == {"a": 2.0, "b": 0.5}
