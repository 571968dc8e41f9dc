"""DeepLabCut's csv, SLEAP's files, one of several skeletons, and boxes from keypoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from datamodules.coco_keypoints import CocoKeypointData
from datamodules.deeplabcut import DeepLabCutData
from datamodules.sleap import SleapData
from tests.datamodules.test_pose_readers import coco
from ui.cli import main
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.linking import link
from visionkit.skeleton import Skeleton

SPEC = InputSpec(size=(64, 64), resize_mode="stretch")
WHOLE: dict[str, Any] = {"input": SPEC, "val_fraction": 0.0}


def frame(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 80)).save(path)
    return path


# ---------------------------------------------------------------------- DeepLabCut


def deeplabcut(
    folder: Path, rows: list[str], heads: list[str] | None = None, name: str = "CollectedData_ada.csv"
) -> Path:
    video = folder / "labeled-data" / "run1"
    frame(video / "img01.png"), frame(video / "img02.png")
    heads = heads or ["scorer,ada,ada,ada,ada", "bodyparts,nose,nose,left_ear,left_ear", "coords,x,y,x,y"]
    (video / name).write_text("\n".join([*heads, *rows]) + "\n")
    return folder


def test_deeplabcut_of_one_animal(tmp_path: Path) -> None:
    root = deeplabcut(tmp_path, ["labeled-data/run1/img01.png,10,20,30.5,40", "labeled-data\\run1\\img02.png,50,60,,"])
    (tmp_path / "config.yaml").write_text("skeleton:\n- [nose, left_ear]\n- [nose, gone]\n")
    deeplabcut(tmp_path / "training-datasets" / "iteration-0", ["labeled-data/run1/img01.png,1,2,3,4"])
    data = DeepLabCutData(str(root), **WHOLE)
    assert data.skeleton.keypoints == ("nose", "left_ear") and len(data.skeleton.edges) == 1
    first, second = data.samples("train")
    assert first.target["keypoints"].tolist() == [[[10, 20, 2], [30.5, 40, 2]]], "copies of the labels are no labels"
    assert first.target["boxes"].tolist() == [[6, 16, 34.5, 44]]
    assert second.target["keypoints"].tolist() == [[[50, 60, 2], [0, 0, 0]]]
    assert second.target["boxes"].tolist() == [[46, 56, 54, 64]], "one keypoint has a box too"


def test_deeplabcut_of_several_animals_and_three_columns_of_names(tmp_path: Path) -> None:
    heads = [
        "scorer,,,ada,ada,ada,ada,ada,ada",
        "individuals,,,m1,m1,m2,m2,single,single",
        "bodyparts,,,nose,nose,nose,nose,corner,corner",
        "coords,,,x,y,x,y,x,y",
    ]
    rows = ["labeled-data,run1,img01.png,10,20,30,40,1,1", "labeled-data,run1,img02.png,,,NaN,,5,5"]
    data = DeepLabCutData(str(deeplabcut(tmp_path, rows, heads)), **WHOLE)
    first, second = data.samples("train")
    assert first.target["keypoints"].tolist() == [[[10, 20, 2]], [[30, 40, 2]]]
    assert len(second.target["keypoints"]) == 0, "a frame without an animal stays"
    assert data.summary("train").passed_over == {"body parts that are there once per scene": 1}


def test_deeplabcut_has_splits_by_folder(tmp_path: Path) -> None:
    for split, place in (("train", "1,2,3,4"), ("test", "5,6,7,8")):
        deeplabcut(tmp_path / split, [f"labeled-data/run1/img01.png,{place}"])
    data = DeepLabCutData(str(tmp_path), **WHOLE)
    assert data.samples("test")[0].target["keypoints"][0, 0].tolist() == [5, 6, 2]
    assert len(data.samples("train")) == 1 and data.splits() == ["train", "test"]


@pytest.mark.parametrize(
    ("rows", "heads", "said"),
    [
        (["labeled-data/run1/img01.png,1,2,3"], None, "line 4: 4 columns, and the head has 5"),
        (["labeled-data/run1/img01.png,1,2,3,up"], None, "line 4"),
        (["labeled-data/run1/img01.png,1,2,3,1e300"], None, "lies in no image"),
        (["a.png,1,2"], ["scorer,a,a", "coords,x,y"], "scorer, bodyparts and coords"),
        (["a.png,1,2"], ["scorer,a,a", "bodyparts,n,n", "coords,x,z"], "has the columns x and y"),
        (["a.png,1,2"], ["scorer,a,a", "bodyparts,n,n", "coords,x,x"], "duplicate column x of n"),
    ],
)
def test_bad_deeplabcut_labels_name_the_line(tmp_path: Path, rows: list[str], heads: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        DeepLabCutData(str(deeplabcut(tmp_path, rows, heads)), **WHOLE).samples("train")


def test_deeplabcut_states_what_it_does_not_read(tmp_path: Path) -> None:
    video = tmp_path / "labeled-data" / "run1"
    video.mkdir(parents=True)
    with pytest.raises(DataError, match=r"no CollectedData_\*\.csv"):
        DeepLabCutData(str(tmp_path), **WHOLE)
    (video / "CollectedData_ada.h5").write_bytes(b"x")
    with pytest.raises(DataError, match=r"CollectedData_ada\.h5: no csv of that name beside it"):
        DeepLabCutData(str(tmp_path), **WHOLE)


# ---------------------------------------------------------------------- SLEAP

INSTANCES = [
    ("instance_id", "i8"), ("instance_type", "u1"), ("frame_id", "u8"), ("skeleton", "u4"), ("track", "i4"),
    ("from_predicted", "i8"), ("score", "f4"), ("point_id_start", "u8"), ("point_id_end", "u8"),
]  # fmt: skip
FRAMES = [
    ("frame_id", "u8"),
    ("video", "u4"),
    ("frame_idx", "u8"),
    ("instance_id_start", "u8"),
    ("instance_id_end", "u8"),
]
POINTS = [("x", "f8"), ("y", "f8"), ("visible", "?"), ("complete", "?")]
EDGE = {"py/reduce": [{"py/type": "sleap.skeleton.EdgeType"}, {"py/tuple": [1]}]}
PAIR = {"py/reduce": [{"py/type": "sleap.skeleton.EdgeType"}, {"py/tuple": [2]}]}


def slp(path: Path, video: dict[str, Any], skeletons: Any = None, version: float = 1.2, videos: int = 1) -> Path:
    """Two labeled frames; an instance of the second skeleton, where there is one, and a prediction."""
    links = [
        {"source": 2, "target": 0, "type": EDGE},
        {"source": 0, "target": 1, "type": PAIR},
        {"source": 2, "target": 1, "type": {"py/id": 1}},
    ]
    one = {"graph": {"name": "mouse"}, "nodes": [{"id": 2}, {"id": 0}, {"id": 1}], "links": links}
    metadata = {"nodes": [{"name": n} for n in ("left ear", "right ear", "nose")], "skeletons": skeletons or [one]}
    other = len(metadata["skeletons"]) - 1
    with h5py.File(path, "w") as file:
        group = file.create_group("metadata")
        group.attrs["json"], group.attrs["format_id"] = np.bytes_(json.dumps(metadata)), version
        file["videos_json"] = [np.bytes_(json.dumps({"backend": video}))] * videos
        nan = float("nan")
        places = [(10, 20, 1, 1), (30, 40, 0, 1), (nan, nan, 0, 0), (50, 60, 1, 1), (nan, nan, 0, 0), (55, 65, 1, 1)]
        if other:
            places.append((7, 8, 1, 1))
        file["points"] = np.array(places, dtype=POINTS)
        rows = [(0, 0, 0, 0, -1, -1, nan, 0, 3), (1, 0, 1, 0, -1, -1, nan, 3, 6), (2, 1, 1, 0, -1, -1, 0.5, 0, 3)]
        if other:
            rows.append((3, 0, 1, 1, -1, -1, nan, 6, 7))
        file["instances"] = np.array(rows, dtype=INSTANCES)
        file["frames"] = np.array([(0, 0, 0, 0, 1), (1, videos - 1, 1, 1, len(rows))], dtype=FRAMES)
    return path


def test_a_slp_that_names_images(tmp_path: Path) -> None:
    frame(tmp_path / "a.png"), frame(tmp_path / "b.png")
    path = slp(tmp_path / "labels.slp", {"filename": ["C:\\elsewhere\\a.png", "/elsewhere/b.png"]})
    data = SleapData(str(tmp_path), **WHOLE)
    assert data.skeleton.keypoints == ("nose", "left ear", "right ear")
    assert data.skeleton.flip_pairs == (("left ear", "right ear"),)
    assert [tuple(edge[:2]) for edge in data.skeleton.edges] == [("nose", "left ear"), ("nose", "right ear")]
    first, second = data.samples("train")
    assert first.target["keypoints"].tolist() == [[[10, 20, 2], [30, 40, 1], [0, 0, 0]]]
    assert second.target["keypoints"].tolist() == [[[50, 60, 2], [0, 0, 0], [55, 65, 2]]], "no predictions"
    assert second.target["boxes"].tolist() == [[46, 56, 59, 69]]
    assert data.summary("train").passed_over == {"predicted instances": 1}
    slp(path, {"filename": ["a.png", "b.png"]}, version=1.0)
    assert SleapData(str(path), **WHOLE).samples("train")[0].target["keypoints"][0, 0].tolist() == [9.5, 19.5, 2]


def test_a_slp_of_a_video_and_an_analysis_file_take_a_folder_of_frames(tmp_path: Path) -> None:
    for number in (0, 1, 7):
        frame(tmp_path / "frames" / f"frame_{number:05d}.png")
    path = slp(tmp_path / "labels.slp", {"filename": "run.mp4"})
    for video, said in (
        ({"filename": "run.mp4"}, r"are those of run\.mp4"),
        ({"dataset": "video0/video"}, "are embedded"),
    ):
        with pytest.raises(DataError, match=rf"frame 0: its frames {said}.*--data\.images"):
            SleapData(str(slp(path, video)), **WHOLE).samples("train")
    data = SleapData(str(path), images=str(tmp_path / "frames"), **WHOLE)
    assert [Path(each.image.name).name for each in data.samples("train")] == ["frame_00000.png", "frame_00001.png"]
    with pytest.raises(DataError, match="several videos"):
        SleapData(str(slp(path, {}, videos=2)), images=str(tmp_path / "frames"), **WHOLE).samples("train")
    tracks = np.full((2, 2, 2, 3), np.nan)
    tracks[1, :, :, 1] = [[10, 30], [20, 40]]
    with h5py.File(tmp_path / "run.analysis.h5", "w") as file:
        file["node_names"], file["tracks"], file["edge_inds"] = [b"nose", b"tail"], tracks, [[0, 1]]
    analysis = SleapData(str(tmp_path / "run.analysis.h5"), images=str(tmp_path / "frames"), **WHOLE)
    (sample,) = analysis.samples("train")
    assert sample.target["keypoints"].tolist() == [[[10, 20, 2], [30, 40, 2]]] and sample.image.name.endswith(
        "00001.png"
    )
    assert [tuple(edge[:2]) for edge in analysis.skeleton.edges] == [("nose", "tail")]
    assert analysis.summary("train").passed_over == {"images beyond the last frame of the tracks": 1}


def test_one_of_several_skeletons_of_a_slp(tmp_path: Path) -> None:
    frame(tmp_path / "a.png"), frame(tmp_path / "b.png")
    two = [
        {"graph": {"name": "mouse"}, "nodes": [{"id": 2}, {"id": 0}, {"id": 1}], "links": []},
        {"graph": {"name": "ball"}, "nodes": [{"id": 1}], "links": []},
    ]
    path = str(slp(tmp_path / "labels.slp", {"filename": ["a.png", "b.png"]}, two))
    with pytest.raises(DataError, match=r"several skeletons: mouse, ball; choose one with --data\.skeleton mouse"):
        SleapData(path, **WHOLE)
    with pytest.raises(UsageError, match=r"mice: no shipped skeleton.*there: mouse, ball"):
        SleapData(path, skeleton="mice", **WHOLE)
    mouse, ball = (SleapData(path, skeleton=name, **WHOLE) for name in ("mouse", "ball"))
    assert len(mouse.samples("train")) == 2 and len(mouse.skeleton) == 3
    (sample,) = ball.samples("train")
    assert sample.target["keypoints"].tolist() == [[[7, 8, 2]]]


@pytest.mark.parametrize("content", [b"", b"no hdf5", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_what_is_no_file_of_sleap(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.slp").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.slp: cannot be read as SLEAP's HDF5"):
        SleapData(str(tmp_path / "x.slp"), **WHOLE)
    with h5py.File(tmp_path / "x.slp", "w") as file:
        file["other"] = 1
    with pytest.raises(DataError, match="neither labels nor tracks"):
        SleapData(str(tmp_path / "x.slp"), **WHOLE)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DataError, match="json is not read"):
        SleapData(str(tmp_path / "x.json"), **WHOLE)


# ---------------------------------------------------------------------- COCO


def two_kinds(top: dict[str, Any]) -> None:
    """A second category with two keypoints of its own, and one object of it."""
    top["categories"].append({"id": 2, "name": "door", "keypoints": ["hinge", "handle"], "skeleton": [[1, 2]]})
    top["annotations"].append(
        {"id": 9, "image_id": 1, "category_id": 2, "bbox": [1, 1, 30, 30], "keypoints": [5, 6, 2, 20, 21, 1]}
    )


def test_one_category_of_several_is_chosen(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"person \(17\), door \(2\); choose one with --data\.skeleton person"):
        coco(tmp_path, two_kinds)
    with pytest.raises(UsageError, match=r"dor: no shipped skeleton, and no category.*person, door.*'door'"):
        coco(tmp_path, two_kinds, skeleton="dor")
    door = coco(tmp_path, two_kinds, skeleton="door")
    assert door.classes == ("door",) and door.skeleton.keypoints == ("hinge", "handle")
    assert door.samples("train")[0].target["keypoints"].tolist() == [[[5, 6, 2], [20, 21, 1]]]
    assert door.summary("train").passed_over == {"objects of categories with other keypoints (person)": 4}
    for skeleton in ("person", "coco17"):
        people = coco(tmp_path, two_kinds, skeleton=skeleton)
        assert people.samples("train")[0].target["keypoints"].shape == (2, 17, 3)


def test_of_categories_with_equal_keypoints_the_chosen_one_alone_is_taken(tmp_path: Path) -> None:
    def apes(top: dict[str, Any]) -> None:
        top["categories"].append({**top["categories"][0], "id": 2, "name": "ape"})
        top["annotations"][0]["category_id"] = 2

    both, ape = coco(tmp_path, apes), coco(tmp_path, apes, skeleton="ape")
    assert [len(data.samples("train")[0].target["boxes"]) for data in (both, ape)] == [2, 1]
    assert ape.skeleton.sigmas == Skeleton.of("coco17").sigmas
    stored = CocoKeypointData.settled("skeleton", "ape", root=str(tmp_path), labels="labels.json")
    again = coco(tmp_path, apes, skeleton=stored)  # as the run's configuration has it
    assert len(again.samples("train")[0].target["boxes"]) == 1


def test_the_model_gets_the_chosen_skeleton(tmp_path: Path) -> None:
    from tasks.pose.task import PoseTask

    coco(tmp_path, two_kinds, skeleton="door")
    given = {"root": str(tmp_path), "labels": "labels.json", "skeleton": "door"}
    linked = link({}, given, PoseTask, CocoKeypointData)
    assert linked["skeleton"]["keypoints"] == ["hinge", "handle"] and linked["classes"] == ["door"]


def test_the_skeleton_of_a_category_is_written_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco(tmp_path, two_kinds, skeleton="door")
    assert main(["skeleton", str(tmp_path / "labels.json")]) == 3
    assert "--category person" in capsys.readouterr().err
    assert main(["skeleton", str(tmp_path / "labels.json"), "--category", "door"]) == 0
    assert "handle" in capsys.readouterr().out
    assert main(["skeleton", "coco17", "--category", "door"]) == 2
    convert = ["convert", str(tmp_path / "labels.json"), "--to", "yolo", "--out"]
    assert main([*convert, str(tmp_path / "none")]) == 3 and "skeleton person" in capsys.readouterr().err
    assert main([*convert, str(tmp_path / "doors"), "--skeleton", "door"]) == 0
    assert "kpt_shape: [2, 3]" in (tmp_path / "doors" / "data.yaml").read_text()


@pytest.mark.parametrize("box", ["absent", None, [], [0, 0, 0, 0]])
def test_boxes_are_made_from_keypoints(tmp_path: Path, box: Any) -> None:
    def change(top: dict[str, Any]) -> None:
        for each in top["annotations"][:2]:
            each["bbox"] = box
            if box == "absent":
                del each["bbox"]
        top["annotations"][0]["keypoints"] = [10, 20, 2, 90, 30, 1, *[0] * 45]
        top["annotations"][1]["keypoints"] = [0] * 51

    data = coco(tmp_path, change)
    target = data.samples("train")[0].target
    assert target["boxes"].tolist() == [[2, 12, 98, 38]], "a tenth of the longer side on each side"
    passed_over = data.summary("train").passed_over
    assert passed_over["boxes made from keypoints"] == 1
    assert passed_over["objects without a box, an outline or a labeled keypoint"] == 1
