"""Skeletons: those shipped, one's own, and what is wrong with one."""

import json
import logging

import numpy as np
import pytest
import yaml

from ui.cli import main
from visionkit.errors import DataError, UsageError
from visionkit.families.keypoints.skeleton_names import (
    category_skeleton,
    find_skeleton,
    named_skeleton,
    order_of,
    skeleton_yaml,
)
from visionkit.plain_values import plain
from visionkit.skeleton import DEFAULT_SIGMA, Skeleton, estimate_sigmas, shipped, subject_areas

OWN = {
    "name": "lamp",
    "subject": "lamp",
    "keypoints": ["foot", "left_arm", "right_arm", "bulb"],
    "flip_pairs": [["left_arm", "right_arm"]],
    "edges": [["foot", "bulb", [255, 0, 0]], ["left_arm", "right_arm"]],
    "sigmas": [0.05, 0.06, 0.06, 0.04],
    "head": ["foot", "bulb"],
}


@pytest.mark.parametrize(
    ("name", "count"),
    [
        *(("coco17", 17), ("mpii16", 16), ("lsp14", 14), ("ap10k17", 17), ("hand21", 21), ("face5", 5), ("head5", 5)),
        *(("crowdpose14", 14), ("aic14", 14), ("jhmdb15", 15), ("posetrack18", 17), ("h36m17", 17), ("mhp16", 16)),
        *(("wholebody133", 133), ("300w68", 68), ("wflw98", 98), ("cofw29", 29)),
    ],
)
def test_shipped_skeletons_are_whole(name, count):
    skeleton = Skeleton.of(name)
    assert name in shipped() and skeleton.name == name and len(skeleton) == count
    assert {joint for pair in skeleton.limbs for joint in pair} == set(range(count)), "every keypoint is drawn"
    flip_indices = np.array(skeleton.flip_indices)
    assert (flip_indices[flip_indices] == np.arange(count)).all()
    assert all(("left" in a) and ("right" in b) for a, b in skeleton.flip_pairs)
    assert len(skeleton.oks_sigmas()) == count
    assert Skeleton.of(plain(skeleton)) == skeleton, "a checkpoint holds it whole"


def test_coco_s_facts():
    coco = Skeleton.of("coco17")
    assert coco.oks_sigmas().sum() == pytest.approx(1.138)
    assert len(coco.edges) == 19 and coco.swap[:2] == ((1, 2), (3, 4))
    assert coco.index("left_ankle") == 15


def test_unknown_sigmas_are_said_and_never_those_of_coco(caplog):
    with caplog.at_level(logging.WARNING):
        sigmas = Skeleton.of("lsp14").oks_sigmas()
        assert not caplog.text, "who only predicts is reported nothing"
        Skeleton.of("lsp14").warn_without_sigmas()
    assert set(sigmas) == {DEFAULT_SIGMA} and "states no sigmas" in caplog.text
    assert "no known sigmas" in Skeleton.of("lsp14").sigmas_note
    caplog.clear()
    Skeleton.of("coco17").warn_without_sigmas()
    assert not caplog.text


def test_own_skeleton_from_a_file(tmp_path):
    path = tmp_path / "lamp.yaml"
    path.write_text(yaml.safe_dump(OWN))
    skeleton = Skeleton.of(path)
    assert skeleton == Skeleton.of(OWN) and skeleton.flip_indices == (0, 2, 1, 3)
    assert skeleton.edges[0].color == (255, 0, 0) and len(skeleton.edges[1].color) == 3
    assert skeleton.pair("head") == (0, 3) and skeleton.pair("torso") is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"edges": [["foot", "blub"]]}, "edges: 'blub' is none of its keypoints; did you mean 'bulb'"),
        ({"flip_pairs": [["left_arm", "left_leg"]]}, "flip_pairs: 'left_leg' is none of its keypoints"),
        ({"flip_pairs": [["foot", "bulb"], ["bulb", "left_arm"]]}, "flip_pairs: bulb is duplicated"),
        ({"edges": [["foot", "foot"]]}, "'foot' is paired with itself"),
        ({"edges": [["foot"]]}, "should be two keypoints"),
        ({"edges": [["foot", "bulb", [300, 0, 0]]]}, "colors of 0 to 255"),
        ({"edges": "foot-bulb"}, "edges should be a list"),
        ({"sigmas": [0.1, 0.1]}, "4 keypoints need as many numbers above 0"),
        ({"sigmas": [0.1, 0.1, 0.1, -1]}, "as many numbers above 0"),
        ({"keypoints": ["a", "a"]}, "a is duplicated"),
        ({"keypoints": []}, "keypoints is missing"),
        ({"bones": ["a"]}, "unknown key 'bones'"),
        ({"head": ["foot", "top"]}, "head: 'top' is none of its keypoints"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(change, said):
    with pytest.raises(UsageError) as error:
        Skeleton.of({**OWN, **change})
    assert said in str(error.value) and "\n" not in str(error.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.yaml: no such yaml file"):
        Skeleton.of("nowhere.yaml")
    (tmp_path / "a.yaml").write_text("a: [1")
    with pytest.raises(UsageError, match="not valid yaml"):
        Skeleton.of(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("- 1")
    with pytest.raises(UsageError, match="should hold name, keypoints"):
        Skeleton.of(tmp_path / "b.yaml")
    with pytest.raises(UsageError, match="no keypoint 'nos'; did you mean 'nose'"):
        Skeleton.of("coco17").index("nos")


def test_sigmas_from_repeated_annotation():
    rng = np.random.default_rng(0)
    areas = rng.uniform(1e3, 1e5, 3000)
    truth = rng.uniform(0, 500, (3000, 3, 2))
    wanted = np.array([0.03, 0.08, 0.05])
    # The distance of an annotation from the truth has this spread; each of its coordinates 1 / sqrt 2 of it.
    noise = rng.normal(0, 1, (3, 3000, 3, 2)) * (wanted[:, None] * np.sqrt(areas / 2)[:, None, None])
    seen = rng.random((3, 3000, 3, 1)) < 0.8
    seen[1:, :, 2] = False
    found = estimate_sigmas(np.concatenate([truth + noise, seen], axis=3), areas)
    assert found[:2] == pytest.approx(wanted[:2], rel=0.05)
    assert np.isnan(found[2]), "annotated once"


# ---------------------------------------------------------------------- names, and writing out


@pytest.mark.parametrize("name", shipped())
def test_every_skeleton_survives_being_written_out(name, tmp_path, capsys):
    assert main(["skeleton", name, "--out", str(tmp_path / "a.yaml")]) == 0
    assert Skeleton.of(tmp_path / "a.yaml") == Skeleton.of(name)
    assert main(["skeleton", name, "--out", str(tmp_path / "a.yaml")]) == 2
    assert "already exists" in capsys.readouterr().err


def test_names_that_yaml_reads_as_something_else_are_kept():
    own = Skeleton("no", ("1e3", "null", "a: b", "0x1F"), (("1e3", "null"),), subject="yes")
    assert Skeleton.of(yaml.safe_load(skeleton_yaml(own))) == own


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["Right Shoulder", "Right Elbow", "Right Wrist", "Left Shoulder", "Left Elbow", "Left Wrist", "Right Hip",
          "Right Knee", "Right Ankle", "Left Hip", "Left Knee", "Left Ankle", "Head top", "Neck"], "aic14"),
        ([name.replace("_", "-").title() for name in Skeleton.of("posetrack18").keypoints], "posetrack18"),
        ([*Skeleton.of("coco17").keypoints[::-1]], "coco17"),
        (["nose", "tail"], None),
    ],
)  # fmt: skip
def test_shipped_skeletons_are_found_however_tools_write_their_names(names, found):
    skeleton = find_skeleton(names)
    assert (skeleton.name if skeleton else None) == found
    if skeleton:
        order = order_of(names, skeleton)
        assert sorted(order) == list(range(len(names)))


def coco_file(tmp_path, keypoints, edges=(), points=None):
    category = {"id": 1, "name": "bird", "keypoints": keypoints, "skeleton": [list(pair) for pair in edges]}
    annotations = [{"keypoints": [0.0] * 3 * points}] if points else []
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"images": [], "annotations": annotations, "categories": [category]}))
    return path


def test_a_label_file_brings_its_own_names_and_edges(tmp_path, capsys):
    path = coco_file(tmp_path, ["beak", "wing_left", "wing_right", "L eye", "R eye"], [(1, 2), (1, 3)])
    skeleton, notes = category_skeleton(path)
    assert skeleton.subject == "bird" and skeleton.swap == ((1, 2), (3, 4)) and skeleton.limbs == ((0, 1), (0, 2))
    assert "no shipped skeleton has its 5 keypoints" in notes[0]
    assert main(["skeleton", str(path), "--out", str(tmp_path / "bird.yaml")]) == 0
    assert Skeleton.of(tmp_path / "bird.yaml") == skeleton
    assert named_skeleton(["a", "b"], [(0, 1)]).limbs == ((0, 1),), "counted from 0 where one is 0"
    assert named_skeleton(["a", "b"], [(16, 14)]).limbs == (), "edges of another set, as CrowdPose's file has them"


def test_the_order_of_a_label_file_keeps_the_shipped_sigmas(tmp_path):
    coco = Skeleton.of("coco17")
    skeleton, _ = category_skeleton(coco_file(tmp_path, list(coco.keypoints[::-1])))
    assert skeleton.keypoints == coco.keypoints[::-1] and skeleton.sigmas == coco.sigmas[::-1]


@pytest.mark.parametrize(("count", "name"), [(68, "300w68"), (98, "wflw98"), (29, "cofw29"), (21, "hand21")])
def test_landmarks_without_names_are_known_by_their_number(tmp_path, count, name):
    skeleton, notes = category_skeleton(coco_file(tmp_path, [], points=count))
    assert skeleton.name == name and f"its {count} keypoints have no names" in notes[0]
    with pytest.raises(DataError, match="its categories name no keypoints"):
        category_skeleton(coco_file(tmp_path, [], points=7))


def test_areas_of_annotations_without_one_are_the_field_s_part_of_the_box():
    boxes = np.array([[0, 0, 10, 20], [5, 5, 15, 15], [0, 0, 2, 2]])
    assert subject_areas(None, boxes).tolist() == pytest.approx([106, 53, 2.12])
    assert subject_areas(np.array([np.nan, 7, 0]), boxes).tolist() == pytest.approx([106, 7, 2.12])


def test_the_command_states_what_is_wrong(tmp_path, capsys):
    assert main(["skeleton", "coco71"]) == 2 and "did you mean 'coco17'" in capsys.readouterr().err
    assert main(["skeleton", "coco17", "--out", str(tmp_path / "a.txt")]) == 2
    assert "ends in .yaml" in capsys.readouterr().err
    assert main(["skeleton"]) == 0 and "crowdpose14" in capsys.readouterr().out
