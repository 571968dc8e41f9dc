"""OTB's one-pass evaluation: published trackers have their known numbers, in both conventions."""

from __future__ import annotations

import numpy as np
import pytest

from tests.real_data import real_data
from visionkit.errors import DataError
from visionkit.following.one_pass import mean_values, measure, overlaps, protocol_text
from visionkit.following.otb_files import box_line, find_truth, read_boxes, read_sequence

NAMES = ("precision_20", "success_auc", "mean_overlap")
KNOWN = {
    ("otb_motorrolling", "MotorRolling", "otb"): {
        "MEEM": (0.0549, 0.0981, 0.0971),
        "MUSTer": (0.2622, 0.2994, 0.2990),
        "STRUCK": (0.0854, 0.1568, 0.1539),
    },
    ("otb_motorrolling", "MotorRolling", "stored"): {"STRUCK": (0.0854, 0.1568, 0.1538)},
    ("otb_biker_boxes", "Biker", "stored"): {
        "MEEM": (0.4859, 0.2649, 0.2666),
        "MUSTer": (0.4789, 0.2632, 0.2641),
        "STRUCK": (0.5070, 0.2663, 0.2664),
    },
    ("otb_biker_boxes", "Biker", "otb"): {
        "MEEM": (0.5111, 0.2787, 0.2805),
        "MUSTer": (0.5037, 0.2769, 0.2778),
        "STRUCK": (0.5333, 0.2808, 0.2812),
    },
}


@pytest.mark.parametrize(("folder", "sequence", "convention"), KNOWN)
def test_published_trackers_have_their_known_numbers(folder: str, sequence: str, convention) -> None:
    home = real_data(f"video/{folder}")
    truth = read_boxes(home / sequence / "groundtruth_rect.txt")
    for tracker, known in KNOWN[folder, sequence, convention].items():
        part = measure(truth, read_boxes(home / "results" / tracker / f"{sequence}.json"), convention)
        values = part.values()
        assert [round(values[name], 4) for name in NAMES] == list(known), tracker
        assert len(part.frames) == (135 if (sequence, convention) == ("Biker", "otb") else len(truth))


def test_thresholds_are_exceeded_and_distances_reached() -> None:
    truth = np.array([[10, 10, 40, 40]] * 4, float)
    found = truth + np.array([[0, 0, 0, 0], [20, 0, 0, 0], [20.01, 0, 0, 0], [100, 0, 0, 0]])
    part = measure(truth, found, "stored")
    assert part.values()["precision_20"] == 0.5
    # 1 exceeds 20 thresholds, a third 7 (0 to .3), and almost a third as many; without overlap none is.
    assert part.values()["success_auc"] == pytest.approx((20 + 7 + 7 + 0) / 21 / 4)
    assert overlaps(truth[:1], np.array([[20.0, 10, 40, 40]]))[0] == pytest.approx(30 / 50)


def test_what_is_no_box_repeats_the_one_before_or_counts_against() -> None:
    truth = np.array([[10, 10, 40, 40]] * 3 + [[0, 5, 40, 40]], float)
    found = np.array([[90, 90, 4, 4], [np.nan] * 4, [10, 10, 0, 40], [0, 5, 40, 40]])
    otb, stored = measure(truth, found), measure(truth, found, "stored")
    assert otb.values()["mean_overlap"] == 1 and otb.frames.tolist() == [0, 1, 2]
    assert stored.overlaps.tolist() == [0, 0, 0, 1] and np.isinf(stored.distances[1])
    assert "(3 of 4 frames)" in protocol_text([otb], "otb")
    assert mean_values([otb, stored])["mean_overlap"] == (1 + 0.25) / 2
    with pytest.raises(DataError, match=r"res\.txt: 3 boxes for 4"):
        measure(truth, found[:3], name="res.txt")
    with pytest.raises(DataError, match="no frame counts"):
        measure(truth * 0, found)


def test_files_of_any_delimiter_are_read_and_others_named(tmp_path) -> None:
    path = tmp_path / "a.txt"
    for text in ("1,2,3,4\n5,6,7,8", "1\t2\t3\t4\n5\t6\t7\t8\n", "1 2  3 4 \n\n5, 6, 7, 8\n", "1;2;3;4\n5;6;7;8,"):
        path.write_text(text)
        assert read_boxes(path).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    for text, message in (("1,2,3", "line 1"), ("1,2,3,4\n1,2,3,x", "line 2"), ("", "no boxes")):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_boxes(path)
    results = tmp_path / "a.json"
    for text, message in (
        ('[{"resType": "ivtAff", "res": [[1, 2, 3, 4, 5, 6]]}]', "of type 'ivtAff'"),
        ('[{"resType": "rect", "res": [[1, 2, 3]]}]', "no list of boxes"),
        ('[{"res": [[1, 2, 3, 4]]}, {"res": []}]', "of 2 runs"),
    ):
        results.write_text(text)
        with pytest.raises(DataError, match=message):
            read_boxes(results)


def test_lines_have_no_digits_to_spare() -> None:
    assert box_line(np.array([116, 67, 238, 192.0])) == "117,68,122,125"
    assert box_line(np.array([-0.001, 10.5, 99.999, 100]), 0) == "0,10.5,100,89.5"
    assert box_line(np.array([-12.25, 0, 1, 1]), 0) == "-12.25,0,13.25,1"


def sequence(root, name: str, first: int, images: int, *texts: tuple[str, int]):
    folder = root / name / "img"
    folder.mkdir(parents=True)
    for number in range(first, first + images):
        (folder / f"{number:04}.jpg").write_bytes(b"\xff\xd8\xff")
    for file, lines in texts:
        (folder.parent / file).write_text("".join(f"{k + 1},1,9,9\n" for k in range(lines)))


def test_sequences_begin_where_their_boxes_do(tmp_path) -> None:
    sequence(tmp_path, "Plain", 1, 5, ("groundtruth_rect.txt", 5))
    sequence(tmp_path, "Longer", 1, 7, ("groundtruth_rect.txt", 5))
    sequence(tmp_path, "BlurCar3", 1, 8, ("groundtruth_rect.txt", 5))
    sequence(tmp_path, "BlurCar4", 1, 4, ("groundtruth_rect.txt", 4))  # already cut
    sequence(tmp_path, "Jogging", 1, 3, ("groundtruth_rect.1.txt", 3), ("groundtruth_rect.2.txt", 3))
    sequence(tmp_path, "Human4", 1, 3, ("groundtruth_rect.2.txt", 3))
    truth = find_truth(tmp_path)
    assert sorted(truth) == ["BlurCar3", "BlurCar4", "Human4", "Jogging.1", "Jogging.2", "Longer", "Plain"]
    firsts = {name: read_sequence(name, path).images[0].stem for name, path in truth.items()}
    assert {name for name, first in firsts.items() if first != "0001"} == {"BlurCar3"} and firsts["BlurCar3"] == "0003"
    read = read_sequence("Longer", truth["Longer"], {"Longer": 2})
    assert read.images[0].stem == "0002" and len(read.images) == 5
    assert read.corners[0].tolist() == [0, 0, 9, 9]
    assert list(find_truth(tmp_path / "Plain")) == ["Plain"]


def test_missing_images_are_named(tmp_path) -> None:
    sequence(tmp_path, "Plain", 1, 5, ("groundtruth_rect.txt", 6))
    path = tmp_path / "Plain" / "groundtruth_rect.txt"
    with pytest.raises(DataError, match="6 boxes from image 1 on, and image 6 is not in"):
        read_sequence("Plain", path)
    with pytest.raises(DataError, match="no sequence of OTB here"):
        find_truth(tmp_path / "Plain" / "img")
