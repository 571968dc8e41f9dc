"""`visionkit evaluate --iou` and `--analysis`: AP at any overlap by hand, and the errors of files of any program."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from ui.cli import main
from visionkit.skeleton import Skeleton


def evaluated(tmp_path, *arguments, analysis=True):
    out, folder = tmp_path / "results.json", tmp_path / "errors"
    more = ["--analysis", str(folder)] if analysis else []
    assert main(["evaluate", *map(str, arguments), "--results", str(out), *more]) == 0
    results = json.loads(out.read_text())
    return (results, json.loads((folder / "analysis.json").read_text())) if analysis else (results, None)


def errors(record, title="error breakdown", key="error", value="count"):
    return {row[key]: row[value] for row in record["tables"][title]}


# ---------------------------------------------------------------------- boxes


def boxes(tmp_path):
    """Four objects of one class, one per image, and boxes that overlap them by 1, .8, .6 and .2; two find nothing."""
    images = [{"id": k, "file_name": f"{k}.jpg", "height": 100, "width": 100} for k in range(4)]
    true = [
        {"id": k + 1, "image_id": k, "category_id": 1, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0}
        for k in range(4)
    ]
    labels = {"images": images, "annotations": true, "categories": [{"id": 1, "name": "a"}]}
    found = [
        {"image_id": k, "category_id": 1, "bbox": [0, 0, 10, side], "score": score}
        for k, side, score in ((0, 10, 0.9), (1, 8, 0.7), (2, 6, 0.6), (3, 2, 0.2))
    ]
    found += [{"image_id": k, "category_id": 1, "bbox": [50, 50, 9, 9], "score": s} for k, s in ((0, 0.8), (1, 0.3))]
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    (tmp_path / "found.json").write_text(json.dumps(found))
    return tmp_path / "labels.json", tmp_path / "found.json"


def test_ap_at_any_overlap_by_both_of_vocs_interpolations(tmp_path):
    # By score: right at any IoU up to 1, wrong, .8, .6, wrong, .2. Precision at each right one: 1, 2/3, 3/4, 4/6.
    results, _ = evaluated(tmp_path, "boxes", *boxes(tmp_path), "--iou", 0.75, 0.1, 0.5, 1, analysis=False)
    table = {row["IoU"]: row for row in results["tables"]["by IoU"]}
    # The envelope: 1 up to a recall of 1/4, 3/4 up to 3/4, then 2/3; below .1 everything is found.
    expected = {
        0.1: (1 / 4 + 3 / 4 / 2 + 2 / 3 / 4, (3 * 1 + 5 * 3 / 4 + 3 * 2 / 3) / 11),
        0.5: (1 / 4 + 3 / 4 / 2, (3 * 1 + 5 * 3 / 4) / 11),
        0.75: (1 / 4 + 2 / 3 / 4, (3 * 1 + 3 * 2 / 3) / 11),
        1.0: (1 / 4, 3 / 11),
    }
    assert list(table) == sorted(expected)
    for iou, (area, points) in expected.items():
        assert table[iou]["VOC AP"] == pytest.approx(area), iou
        assert table[iou]["VOC AP11"] == pytest.approx(points), iou
        assert results["metrics"][f"voc_ap_iou{iou:.2f}"] == table[iou]["VOC AP"]
        assert results["metrics"][f"voc_ap11_iou{iou:.2f}"] == table[iou]["VOC AP11"]
    # COCO's 101 points: 26 up to a recall of 1/4 and 50 more up to 3/4.
    assert table[0.5]["AP"] == pytest.approx((26 + 50 * 3 / 4) / 101) == results["metrics"]["ap50"]
    assert results["metrics"]["ap75"] == table[0.75]["AP"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["boxes", "--iou", "0"], "above 0"),
        (["keypoints", "--iou", ".5"], "is for boxes and masks"),
        (["boxes", "--slices", "x.csv"], "--analysis DIR alone"),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path, capsys, arguments, message):
    assert main(["evaluate", arguments[0], *map(str, boxes(tmp_path)), *arguments[1:]]) == 2
    assert message in capsys.readouterr().err


def test_the_errors_of_boxes_and_their_images(tmp_path):
    (tmp_path / "slices.csv").write_text("image,place\n0,in\n1,in\n2,out\n3,out\n")
    slices = ["--slices", str(tmp_path / "slices.csv"), "--score-threshold", "0.25"]
    results, record = evaluated(tmp_path, "boxes", *boxes(tmp_path), *slices)
    assert errors(record) == {
        "classification": 0, "localization": 1, "both": 0, "duplicate": 0, "background": 2, "missed": 0,
        "false positive": 3, "false negative": 1,
    }  # fmt: skip
    images = {row["image"]: row for row in results["tables"]["per image"]}
    assert (images["0.jpg"]["right"], images["0.jpg"]["background"]) == (1, 1)
    assert images["0.jpg"]["f1"] == pytest.approx(2 / 3) and images["2.jpg"]["f1"] == 1
    assert images["3.jpg"]["missed"] == 1, "its box is below the threshold"
    curve = {row["recall"]: row["a"] for row in record["tables"]["precision-recall"]}
    assert [curve[recall] for recall in (0.25, 0.26, 0.75, 0.76)] == pytest.approx([1, 3 / 4, 3 / 4, 0])
    assert record["tables"]["confusion"] == [
        {"truth": "a", "a": 3, "nothing": 1},
        {"truth": "nothing", "a": 2, "nothing": 0},
    ]
    groups = {row["group"]: row for row in record["tables"]["slices"]}
    assert groups["out"]["images"] == 2 and groups["out"]["ap50"] == pytest.approx(51 / 101)
    assert "<table>" in (tmp_path / "errors" / "report.html").read_text()


def test_the_worst_images_of_masks_are_drawn(tmp_path):
    labels, results = boxes(tmp_path)
    for path in (labels, results):
        content = json.loads(path.read_text())
        for each in content["annotations"] if isinstance(content, dict) else content:
            x, y, w, h = each["bbox"]
            each["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        path.write_text(json.dumps(content))
    (tmp_path / "photos").mkdir()
    for k in range(4):
        Image.new("RGB", (100, 100), "gray").save(tmp_path / "photos" / f"{k}.jpg")
    _, record = evaluated(tmp_path, "masks", labels, results, "--images", tmp_path / "photos")
    assert record["worst images"][0] == "3.jpg", "nothing is found on it"
    page = (tmp_path / "errors" / "report.html").read_text()
    assert page.count("<figure>") == 4 and page.count("data:image/jpeg") == 8


# ---------------------------------------------------------------------- the other types


def test_the_errors_of_keypoints(tmp_path):
    skeleton = Skeleton.of("coco17")
    places = np.column_stack([np.linspace(20, 180, 17), np.tile([40, 160], 9)[:17], np.full(17, 2)])
    swapped = places.copy()
    left, right = skeleton.swap[1]
    swapped[[left, right]] = swapped[[right, left]]
    category = {"id": 1, "name": "person", "keypoints": list(skeleton.keypoints)}
    one = {"id": 1, "image_id": 3, "category_id": 1, "area": 9000, "bbox": [20, 40, 160, 120], "iscrowd": 0}
    one |= {"num_keypoints": 17, "keypoints": places.ravel().tolist()}
    image = {"id": 3, "file_name": "a.jpg", "height": 200, "width": 200}
    (tmp_path / "labels.json").write_text(
        json.dumps({"images": [image], "categories": [category], "annotations": [one]})
    )
    result = {"image_id": 3, "category_id": 1, "score": 0.9, "keypoints": swapped.ravel().tolist()}
    (tmp_path / "found.json").write_text(json.dumps([result]))
    _, record = evaluated(tmp_path, "keypoints", tmp_path / "labels.json", tmp_path / "found.json")
    found = errors(record)
    assert found.pop("inversion") == 2 and not any(found.values())


def folders(tmp_path, truth, predicted, save):
    for name, values in (("truth", truth), ("found", predicted)):
        (tmp_path / name).mkdir()
        save(tmp_path / name, values)
    return tmp_path / "truth", tmp_path / "found"


def test_the_errors_of_label_maps_depth_and_images(tmp_path):
    labels = np.zeros((240, 320), np.uint8)
    labels[40:140, 40:140] = 1
    wrong = np.where(labels == 1, 2, 0).astype(np.uint8)
    sides = folders(tmp_path, labels, wrong, lambda folder, each: Image.fromarray(each).save(folder / "a.png"))
    _, record = evaluated(tmp_path, "label-maps", *sides)
    assert errors(record, value="pixels") == {"boundary": 0, "small": 0, "confusion": 10_000}

    depth = np.full((40, 50), 3, np.float32)
    depth[:, 25:] = 9
    for name, values in (("truth", depth), ("found", np.where(depth == 9, 8, depth))):
        (tmp_path / name / "a.png").unlink()
        np.save(tmp_path / name / "a.npy", values)
    (tmp_path / "errors" / "analysis.json").rename(tmp_path / "old.json")
    for path in (tmp_path / "errors").iterdir():
        path.unlink()
    _, record = evaluated(tmp_path, "depth", *sides)
    of_error = errors(record, "error breakdown by range", "depth", "of squared error")
    assert of_error == {"2 to 4 m": 0, "from 8 m": 1}
    bias = errors(record, "error breakdown by range", "depth", "bias")
    assert bias["from 8 m"] == pytest.approx(-1 / 9)

    rows = np.tile(np.arange(64) % 2 * 40 + 100, (64, 1)).astype(np.uint8)
    for name, values in (("truth", rows), ("found", np.full_like(rows, 120))):
        (tmp_path / name / "a.npy").unlink()
        Image.fromarray(values).save(tmp_path / name / "a.png")
    for path in (tmp_path / "errors").iterdir():
        path.unlink()
    _, record = evaluated(tmp_path, "images", *sides)
    assert errors(record, "error breakdown", "band", "of squared error")["above 1/2"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("tracks", "expected"),
    [
        # Frame, id, box; objects 1 (at x 0) and 2 (at x 100) of frames 1 to 3, object 2 from frame 2 on.
        ("1,1,0 2,1,0 3,1,0 2,2,100 3,2,100", {}),
        ("1,1,0 2,1,0 3,1,0 2,2,100 3,2,100 3,3,300", {"false positive": 1}),
        ("1,1,0 2,1,0 3,1,0 2,2,100", {"false negative": 1}),
        ("1,1,0 2,5,0 3,5,0 2,2,100 3,2,100", {"switch": 1}),
        ("1,1,0 2,1,100 3,1,100", {"merge": 1, "false negative": 2}),
        ("1,1,0 2,1,0 2,2,100 3,2,0 3,1,100", {"switch": 2, "merge": 2}),
    ],
)
def test_the_errors_of_tracks(tmp_path, tracks, expected):
    def text(rows):
        parts = [row.split(",") for row in rows.split()]
        return "".join(f"{frame},{number},{x},0,50,50,1,-1,-1,-1\n" for frame, number, x in parts)

    (tmp_path / "gt.txt").write_text(text("1,1,0 2,1,0 3,1,0 2,2,100 3,2,100"))
    (tmp_path / "found.txt").write_text(text(tracks))
    results, record = evaluated(tmp_path, "tracks", "--gt", tmp_path / "gt.txt", "--pred", tmp_path / "found.txt")
    kinds = ("false positive", "false negative", "switch", "merge")
    assert errors(record) == {kind: expected.get(kind, 0) for kind in kinds}
    metrics = results["metrics"]
    assert [metrics[name] for name in ("fp", "fn", "ids")] == [expected.get(kind, 0) for kind in kinds[:3]]
    costs = errors(record, value="dMOTA")
    assert metrics["mota"] + sum(costs[kind] for kind in kinds[:3]) == pytest.approx(1)
    events = record["tables"].get("changes of identity", [])
    assert [event["kind"] for event in events].count("switch") == expected.get("switch", 0)


def test_a_type_without_an_analysis_of_its_own_has_groups_of_its_images(tmp_path):
    path = tmp_path / "poses.txt"
    path.write_text("".join(f"{t} {t} {t % 2} 0 0 0 0 1\n" for t in range(6)))
    _, record = evaluated(tmp_path, "trajectory", "--gt", path, "--pred", path)
    assert record["kind"] == "trajectory" and record["metrics"]["ape_rmse"] == pytest.approx(0, abs=1e-9)


def test_the_errors_of_disparity(tmp_path):
    truth = np.full((30, 40), 8, np.uint16)
    truth[:, 20:] = 30
    found = truth.copy()
    found[:, 30:] -= 6  # far from the edge, of the larger disparity alone
    sides = folders(
        tmp_path, truth, found, lambda folder, each: Image.fromarray(each * np.uint16(256)).save(folder / "a.png")
    )
    _, record = evaluated(tmp_path, "disparity", *sides)
    assert errors(record, "error breakdown by size", "disparity", "of squared error") == {
        "5 to 10 px": 0, "20 to 40 px": 1
    }  # fmt: skip
    assert errors(record, "error breakdown by size", "disparity", "epe")["20 to 40 px"] == pytest.approx(3)
    assert errors(record, "error breakdown by place", "place", "of squared error") == {"edges": 0, "flat": 1}


def test_the_hardest_pairs_of_people_and_their_groups(tmp_path):
    rows = [("a1", "a2", 1, 0.9, "old"), ("a1", "a3", 1, 0.3, "young"), ("a1", "b1", 0, 0.6, "young"),
            ("a2", "b1", 0, 0.1, "old")]  # fmt: skip
    text = "".join(",".join(map(str, row)) + "\n" for row in rows)
    (tmp_path / "pairs.csv").write_text(f"first,second,same,score,age\n{text}")
    _, record = evaluated(tmp_path, "verification", tmp_path / "pairs.csv")
    assert [row["image"] for row in record["tables"]["hard pairs of one person"]] == ["a1 a3", "a1 a2"]
    assert [row["image"] for row in record["tables"]["hard pairs of different people"]] == ["a1 b1", "a2 b1"]
    # From .6 on a pair is one person: one of each type is judged wrongly, both of the young.
    assert errors(record, value="fraction") == {"same person refused": 0.5, "other accepted": 0.5}
    groups = {row["group"]: row for row in record["tables"]["slices"]}
    assert (groups["young"]["falsely refused"], groups["old"]["falsely refused"]) == (1, 0)
    assert [row["image"] for row in record["tables"]["worst images"]][:1] == ["a1 a3"]
