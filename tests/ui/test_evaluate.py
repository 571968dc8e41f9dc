"""`visionkit evaluate`: given predictions against ground truth, equal to what the field's own tools give."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.real_data import real_data
from ui.cli import main
from visionkit.families.detection.coco_eval import Flat, box_areas, box_pairs, evaluate
from visionkit.masks import encode_polygons
from visionkit.skeleton import Skeleton

NUMBERS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")
NUMBERS += ("ar_small", "ar_medium", "ar_large")
KEYPOINT_NUMBERS = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")


def measured(tmp_path, *arguments):
    out = tmp_path / "results.json"
    assert main(["evaluate", *map(str, arguments), "--results", str(out)]) == 0
    return json.loads(out.read_text())


def reference(labels: Path, results: Path, kind: str) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(labels))
        judge = COCOeval(truth, truth.loadRes(str(results)), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return [float(value) for value in judge.stats]


def write(tmp_path, top, results):
    (tmp_path / "labels.json").write_text(json.dumps(top))
    (tmp_path / "found.json").write_text(json.dumps(results))
    return tmp_path / "labels.json", tmp_path / "found.json"


# ---------------------------------------------------------------------- boxes and masks


def foreign(seed: int, masks: bool = False, with_boxes: bool = True):
    """Boxes with coordinates of one decimal, shifted by whole parts of their sides, as other programs write them."""
    rng = np.random.default_rng(seed)
    images = [{"id": 7 * k + 3, "file_name": f"{k}.jpg", "height": 120, "width": 160} for k in range(12)]
    annotations, results = [], []
    for image in images:
        for _ in range(rng.integers(0, 6)):
            x, y = (round(float(v), 1) for v in rng.uniform(0, 60, 2))
            w, h = (float(v) for v in rng.choice([7.0, 8.1, 12.3, 35.7, 40.0], 2))
            each = {
                "id": len(annotations) + 1, "image_id": image["id"], "category_id": int(rng.choice([2, 5])),
                "bbox": [x, y, w, h], "area": round(w * h * 0.8, 2), "iscrowd": int(rng.random() < 0.1),
            }  # fmt: skip
            if masks:
                each["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotations.append(each)
            for fraction in rng.choice([0.5, 0.55, 0.75, 0.8, 0.95, 1.0], rng.integers(0, 3)):
                row = {
                    "image_id": image["id"], "category_id": each["category_id"],
                    "bbox": [x, y, w * float(fraction), h], "score": float(rng.choice([0.3, 0.5, 0.9, rng.random()])),
                }  # fmt: skip
                if masks:
                    row["segmentation"] = [[x, y, x + w * fraction, y, x + w * fraction, y + h, x, y + h]]
                if not with_boxes:
                    del row["bbox"]
                    row["segmentation"] = dict(encode_polygons(row["segmentation"], (120, 160)))
                results.append(row)
    categories = [{"id": 5, "name": "a"}, {"id": 2, "name": "b"}, {"id": 9, "name": "absent"}]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}, results


@pytest.mark.parametrize("seed", range(6))
def test_boxes_of_other_programs_equal_pycocotools(tmp_path, seed):
    labels, found = write(tmp_path, *foreign(seed))
    record = measured(tmp_path, "boxes", labels, found)
    ours = [record["metrics"][name] for name in NUMBERS]
    assert ours == pytest.approx(reference(labels, found, "bbox"), abs=1e-9)


def test_sides_are_kept_since_their_difference_moves_an_overlap_over_its_threshold():
    box, true = [57.4, 0.0, 6.0, 1.0], [57.4, 0.0, 8.0, 1.0]

    def flat(given, sides):
        corners = np.array([[given[0], given[1], given[0] + given[2], given[1] + given[3]]])
        extents = np.array([given[2] * given[3]]) if sides else np.zeros(0)
        zero, one = np.zeros(1, np.int64), np.ones(1)
        return Flat(zero, zero, corners, box_areas(corners), one, np.zeros(1, bool), extents=extents)

    rows = np.zeros(1, int), np.zeros(1, int)
    kept = box_pairs(flat(box, True), flat(true, True), rows).iou[0]
    lost = box_pairs(flat(box, False), flat(true, False), rows).iou[0]
    from pycocotools import mask

    assert kept == mask.iou(np.array([box]), np.array([true]), [0])[0, 0] == 0.75 > lost
    assert evaluate(flat(box, True), flat(true, True), 1, box_pairs).numbers()["ap75"] == pytest.approx(1)
    assert evaluate(flat(box, False), flat(true, False), 1, box_pairs).numbers()["ap75"] == 0


@pytest.mark.parametrize("with_boxes", [True, False])
def test_masks_of_other_programs_equal_pycocotools(tmp_path, with_boxes):
    labels, found = write(tmp_path, *foreign(3, masks=True, with_boxes=with_boxes))
    record = measured(tmp_path, "masks", labels, found)
    ours = [record["metrics"][name] for name in NUMBERS]
    assert ours == pytest.approx(reference(labels, found, "segm"), abs=1e-9)


@pytest.mark.parametrize(("kind", "name", "first"), [("boxes", "bbox", 0.50458), ("masks", "segm", 0.31955)])
def test_the_published_example(tmp_path, kind, name, first):
    folder = real_data("detection/coco_val2014_fake100")
    labels, found = folder / "instances_val2014_100.json", folder / f"instances_val2014_fake{name}100_results.json"
    record = measured(tmp_path, kind, labels, found)
    assert record["metrics"]["ap"] == pytest.approx(first, abs=1e-5)
    ours = [record["metrics"][each] for each in NUMBERS]
    assert ours == pytest.approx(reference(labels, found, name), abs=1e-9)
    assert len(record["tables"]["per class"]) == 80


def test_text_ids_strange_categories_and_files_with_scores(tmp_path, capsys):
    top, results = foreign(1)
    labels, found = write(tmp_path, top, results)
    wanted = measured(tmp_path, "boxes", labels, found)["metrics"]
    loose = [{**each, "image_id": str(each["image_id"])} for each in results]
    loose.append({**results[0], "category_id": 77})
    found.write_text(json.dumps({"images": top["images"], "annotations": loose}))
    record = measured(tmp_path, "boxes", labels, found)
    assert record["metrics"] == wanted
    assert record["notes"] == [f"1 results of categories that {labels} does not have are left out"]
    assert "visionkit: 1 results of categories" in capsys.readouterr().err
    found.write_text("[]")
    assert measured(tmp_path, "boxes", labels, found)["notes"] == [f"{found} holds no results"]
    found.write_text(json.dumps([{**each, "category_id": 77} for each in results]))
    assert main(["evaluate", "boxes", str(labels), str(found)]) == 3
    assert f"results has a category of {labels}, whose ids are 2, 5, 9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_id": 4}, "has no image with the id 4"),
        ({"image_id": [3]}, "has no image with the id"),
        ({"score": None}, "its score None is no finite number"),
        ({"bbox": [1, 2, 3]}, "a bbox is four finite numbers"),
        ({"bbox": [1, 2, float("inf"), 3]}, "a bbox is four finite numbers"),
    ],
)
def test_results_that_are_wrong(tmp_path, capsys, change, said):
    top, results = foreign(1)
    labels, found = write(tmp_path, top, [results[0], {**results[1], **change}])
    assert main(["evaluate", "boxes", str(labels), str(found)]) == 3
    message = capsys.readouterr().err
    assert f"{found} [1]: " in message and said in message and message.count("\n") == 1


# ---------------------------------------------------------------------- keypoints


def people(seed: int, name: str, area: bool, crowding: bool = False):
    """People with the keypoints of a skeleton; without an area, as CrowdPose and AI Challenger have them."""
    rng = np.random.default_rng(seed)
    skeleton = Skeleton.of(name)
    images = [{"id": k, "file_name": f"{k}.jpg"} for k in range(1, 9)]
    if crowding:
        images = [{**image, "crowdIndex": 0.1 * image["id"]} for image in images]
    annotations, results = [], []
    for image in images:
        for _ in range(rng.integers(1, 5)):
            corner, side = rng.uniform(0, 300, 2), rng.uniform(60, 250, 2)
            points = np.column_stack([corner + rng.uniform(0, 1, (len(skeleton), 2)) * side,
                                      rng.integers(0, 3, len(skeleton))])  # fmt: skip
            points[points[:, 2] == 0] = 0
            each = {
                "id": len(annotations) + 1, "image_id": image["id"], "category_id": 1, "bbox": [*corner, *side],
                "iscrowd": 0, "keypoints": points.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum()),
            }  # fmt: skip
            annotations.append({**each, "area": float(side.prod() * 0.7)} if area else each)
            for spread in rng.choice([2, 6, 15, 60], rng.integers(0, 3)):
                moved = np.column_stack([points[:, :2] + rng.normal(0, spread, points[:, :2].shape), points[:, 2] > 0])
                row = {"image_id": image["id"], "category_id": 1, "keypoints": moved.ravel().tolist()}
                results.append({**row, "score": float(rng.random())})
    categories = [{"id": 1, "name": "person", "keypoints": list(skeleton.keypoints), "skeleton": []}]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}, results


def test_keypoints_with_areas_equal_pycocotools(tmp_path):
    labels, found = write(tmp_path, *people(0, "coco17", area=True))
    record = measured(tmp_path, "keypoints", labels, found)
    ours = [record["metrics"][name] for name in KEYPOINT_NUMBERS]
    assert ours == pytest.approx(reference(labels, found, "keypoints"), abs=1e-9)
    assert "area the annotation's own" in record["protocol"] and "ap_crowd_easy" not in record["metrics"]


def test_keypoints_without_areas_take_the_field_s_part_of_the_box(tmp_path):
    top, results = people(1, "coco17", area=False)
    labels, found = write(tmp_path, top, results)
    record = measured(tmp_path, "keypoints", labels, found)
    for each in top["annotations"]:
        each["area"] = 0.53 * each["bbox"][2] * each["bbox"][3]
    labels.write_text(json.dumps(top))
    wanted = reference(labels, found, "keypoints")
    assert [record["metrics"][name] for name in KEYPOINT_NUMBERS] == pytest.approx(wanted, abs=1e-9)
    assert "area 0.53 x width x height of the box" in record["protocol"]
    for each in top["annotations"][1:]:  # and where one has its own, and one has 0
        each["area"] = 0
    labels.write_text(json.dumps(top))
    again = measured(tmp_path, "keypoints", labels, found)
    assert again["metrics"] == pytest.approx(record["metrics"])
    assert f"of {len(top['annotations']) - 1} of {len(top['annotations'])} 0.53 x" in again["protocol"]


def test_crowds_by_their_index(tmp_path):
    top, results = people(2, "crowdpose14", area=False, crowding=True)
    labels, found = write(tmp_path, top, results)
    record = measured(tmp_path, "keypoints", labels, found)
    assert "sigmas of crowdpose14" in record["protocol"]
    easy = {image["id"] for image in top["images"] if image["crowdIndex"] < 0.2}
    assert easy == {1}
    part = {**top, "images": [i for i in top["images"] if i["id"] in easy]}
    part["annotations"] = [a for a in top["annotations"] if a["image_id"] in easy]
    labels, found = write(tmp_path, part, [r for r in results if r["image_id"] in easy])
    alone = measured(tmp_path, "keypoints", labels, found)
    assert record["metrics"]["ap_crowd_easy"] == pytest.approx(alone["metrics"]["ap"])
    assert alone["metrics"]["ap_crowd_hard"] == -1


def test_the_known_numbers_of_coco17(tmp_path):
    folder = real_data("pose/coco17_keypoints")
    record = measured(tmp_path, "keypoints", folder / "gt_dataset.json", folder / "dt_dataset.json")
    assert record["metrics"]["ap"] == pytest.approx(0.50488, abs=5e-6)
    wanted = reference(folder / "gt_dataset.json", folder / "dt_dataset.json", "keypoints")
    assert [record["metrics"][name] for name in KEYPOINT_NUMBERS] == pytest.approx(wanted, abs=1e-9)


def test_errors_of_faces_by_hand_and_by_image(tmp_path):
    """Every landmark of the first face is 5 px off at eyes 100 px apart; the second face is not found."""
    skeleton = Skeleton.of("300w68")
    points = np.column_stack([np.arange(68) * 3.0, np.zeros(68), np.full(68, 2)])
    left, right = skeleton.pair("interocular")
    points[left, :2], points[right, :2] = (50, 90), (150, 90)
    found = points.copy()
    found[:, :2] += (3, 4)
    rows = [
        {"id": k, "image_id": k, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 200, 50], "area": 8000.0,
         "keypoints": points.ravel().tolist()} for k in (1, 2)
    ]  # fmt: skip
    top = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": rows,
        "categories": [{"id": 1, "name": "face", "keypoints": [], "skeleton": []}],
    }
    result = {"image_id": 1, "category_id": 1, "score": 0.9, "keypoints": found.ravel().tolist()}
    labels, results = write(tmp_path, top, [result])
    record = measured(tmp_path, "keypoints", labels, results)
    values = record["metrics"]
    assert values["epe"] == pytest.approx(5) and values["nme"] == pytest.approx(0.05)
    assert values["nme_box"] == pytest.approx(0.05), "the root of 200 x 50 is 100"
    assert values["auc"] == pytest.approx((1 - 0.05 / 0.08) / 2), "the missed face counts 0"
    assert record["notes"] == [f"{labels}: its 68 keypoints have no names; they are taken for those of skeleton 300w68"]
    first, second = record["tables"]["per image"]
    assert first["image"] == "a.jpg" and first["EPE"] == pytest.approx(5) and first["NME"] == pytest.approx(0.05)
    assert second["OKS"] == 0 and second["EPE"] == -1 and second["people"] == 1


def test_keypoints_that_do_not_fit_their_skeleton(tmp_path, capsys):
    top, results = people(0, "coco17", area=True)
    results[0]["keypoints"] = results[0]["keypoints"][:48]
    labels, found = write(tmp_path, top, results)
    assert main(["evaluate", "keypoints", str(labels), str(found)]) == 3
    assert "16 keypoints x, y, visibility, and skeleton coco17 has 17" in capsys.readouterr().err
    assert main(["evaluate", "keypoints", str(labels), str(found), "--skeleton", "cocoo17"]) == 2
    assert "did you mean 'coco17'" in capsys.readouterr().err


# ---------------------------------------------------------------------- folders


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values)).save(path)


def test_label_maps_by_hand(tmp_path):
    truth = np.array([[0, 0, 1, 1], [0, 0, 1, 255]], np.uint8)
    found = np.array([[0, 1, 1, 1], [0, 0, 1, 2]], np.uint8)
    save(tmp_path / "t" / "a" / "0.png", truth)
    save(tmp_path / "p" / "a" / "0.png", found)
    record = measured(tmp_path, "label-maps", tmp_path / "t", tmp_path / "p")
    assert record["metrics"]["mean_iou"] == pytest.approx((3 / 4 + 3 / 4) / 2)
    assert record["metrics"]["pixel_accuracy"] == pytest.approx(6 / 7)
    assert [row["image"] for row in record["tables"]["per image"]] == ["a/0.png"]
    assert [row["pixels"] for row in record["tables"]["per class"]] == [4, 3]


@pytest.mark.parametrize("one", [1, 255])
def test_masks_of_0_and_255_are_two_classes_and_not_ignored(tmp_path, one):
    truth = np.zeros((4, 4), np.uint8)
    truth[:2] = 255
    found = np.zeros((4, 4), np.uint8)
    found[:1] = one
    save(tmp_path / "t" / "a.png", truth)
    save(tmp_path / "p" / "a.png", found)
    record = measured(tmp_path, "label-maps", tmp_path / "t", tmp_path / "p")
    assert record["metrics"]["mean_iou"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert "255 is class 1" in record["notes"][0]


def test_depth_has_the_known_values(tmp_path):
    truth = np.array([[1, 2], [4, 8]], np.float32)
    save(tmp_path / "t" / "x_gt.png", (truth * 1000).astype(np.uint16))
    (tmp_path / "p").mkdir()
    np.save(tmp_path / "p" / "x.npy", truth * 1.1)
    save(tmp_path / "p" / "x.png", (truth * 1100).astype(np.uint16))
    record = measured(tmp_path, "depth", tmp_path / "t", tmp_path / "p", "--truth-ending", "_gt")
    known = {"abs_rel": 0.1, "rmse": 0.460977, "log10": 0.0413927, "delta1": 1, "rmse_log": 0.0953102}
    assert {name: record["metrics"][name] for name in known} == pytest.approx(known, abs=1e-6)
    assert record["metrics"]["silog"] == pytest.approx(0, abs=1e-4)
    assert "1 files of" in record["notes"][0] and ".npy" in record["notes"][0]
    wrong = measured(
        tmp_path, "depth", tmp_path / "t", tmp_path / "p", "--truth-ending", "_gt", "--prediction-units", 1000
    )
    assert wrong["metrics"]["delta1"] == 0 and "units right" in wrong["notes"][-1]


def test_images_of_one_channel_are_y_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    gray = rng.integers(20, 230, (40, 40)).astype(np.uint8)
    near = (gray + rng.integers(-9, 10, gray.shape)).astype(np.uint8)
    save(tmp_path / "t" / "a_HR.png", gray)
    save(tmp_path / "t" / "a_LR.png", gray[:20])
    save(tmp_path / "p" / "a_SR.png", near)
    folders = (tmp_path / "t", tmp_path / "p", "--truth-ending", "_HR", "--prediction-ending", "_SR.png")
    record = measured(tmp_path, "images", *folders, "--border", 2)
    error = np.square((near.astype(float) - gray)[2:-2, 2:-2]).mean()
    assert record["metrics"]["psnr_y"] == pytest.approx(10 * np.log10(255**2 / error))
    save(tmp_path / "t" / "a_HR.png", np.stack([gray] * 3, axis=2))  # a file in color is mapped to studio range
    mapped = measured(tmp_path, "images", *folders, "--border", 2)
    assert mapped["metrics"]["psnr_y"] > record["metrics"]["psnr_y"] + 1
    assert mapped["metrics"]["psnr_rgb"] == pytest.approx(record["metrics"]["psnr_rgb"])


@pytest.mark.parametrize(("scale", "psnr", "ssim"), [(2, 33.64, 0.9292), (3, 30.39, 0.8678), (4, 28.42, 0.8101)])
def test_set5_bicubic_reads_as_published(tmp_path, scale, psnr, ssim):
    """From the low-resolution files; a network in the place of bicubic is measured in the same way."""
    import torch

    from visionkit.families.restoration.bicubic import Bicubic
    from visionkit.images import read_image

    folder = real_data("super_resolution/set5") / f"image_SRF_{scale}"
    for path in folder.glob("*_LR.png"):
        large = Bicubic(scale)(torch.from_numpy(read_image(path).copy()).permute(2, 0, 1)[None].float())[0]
        save(tmp_path / "p" / path.name, large.round().clamp(0, 255).byte().permute(1, 2, 0).numpy())
    endings = ("--truth-ending", "_HR", "--prediction-ending", "_LR", "--border", scale)
    record = measured(tmp_path, "images", folder, tmp_path / "p", *endings)
    assert record["metrics"]["psnr_y"] == pytest.approx(psnr, abs=0.006)
    assert record["metrics"]["ssim_y"] == pytest.approx(ssim, abs=0.0002)
    assert len(record["tables"]["per image"]) == 5


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: save(p / "p" / "b.png", np.zeros((20, 20), np.uint8)), "no prediction for 1 of 1"),
        (lambda p: save(p / "p" / "a.png", np.zeros((20, 30), np.uint8)), "the prediction has 20x30"),
        (
            lambda p: [save(p / "p" / name, np.zeros((20, 20), np.uint8)) for name in ("a.png", "a.bmp")],
            "is meant is not clear",
        ),
        (lambda p: (p / "p").mkdir(), "no files in it"),
    ],
)
def test_folders_that_do_not_belong_together(tmp_path, capsys, make, said):
    save(tmp_path / "t" / "a.png", np.zeros((20, 20), np.uint8))
    make(tmp_path)
    assert main(["evaluate", "images", str(tmp_path / "t"), str(tmp_path / "p")]) == 3
    assert said in capsys.readouterr().err


# ---------------------------------------------------------------------- verification


def test_verification_from_scores(tmp_path):
    rng = np.random.default_rng(4)
    same = np.arange(60) % 3 == 0
    scores = np.round(same * 0.4 + rng.normal(0, 0.3, 60), 3)
    auc = np.mean([[(s > d) + (s == d) / 2 for d in scores[~same]] for s in scores[same]])
    lines = [f"{k}a.png,{k}b.png,{int(flag)},{score}" for k, (flag, score) in enumerate(zip(same, scores, strict=True))]
    (tmp_path / "pairs.csv").write_text("\n".join(["first,second,same,score", *lines]))
    record = measured(tmp_path, "verification", tmp_path / "pairs.csv")
    assert record["metrics"]["auc"] == pytest.approx(auc, abs=1e-12)
    assert "20 pairs of one person and 40 of different people" in record["protocol"]
    # The same in two files whose rows are joined by the pair's names, in any order; and as distances.
    order = rng.permutation(60)
    (tmp_path / "truth.csv").write_text("\n".join(["first;second;label", *(";".join(r.split(",")[:3]) for r in lines)]))
    rows = [f"{k}a.png,{k}b.png,{2 - scores[k]}" for k in order]
    (tmp_path / "scores.csv").write_text("\n".join(["first,second,distance", *rows]))
    again = measured(tmp_path, "verification", tmp_path / "truth.csv", tmp_path / "scores.csv")
    assert again["metrics"]["auc"] == pytest.approx(auc, abs=1e-12) and "negated distances" in again["protocol"]
    # And in two lists without names.
    (tmp_path / "same.txt").write_text("\n".join(str(int(flag)) for flag in same))
    np.save(tmp_path / "scores.npy", scores)
    last = measured(tmp_path, "verification", tmp_path / "same.txt", tmp_path / "scores.npy")
    assert last["metrics"] == pytest.approx(record["metrics"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("same,score\n1,0.5\n1,0.6\n", "are both needed"),
        ("same,score\n1,0.5\n0,x\n", "row 2: the score 'x' is no finite number"),
        ("same,score\n1,0.5\nmaybe,0.1\n", "row 2: 'maybe' is neither 1"),
        ("a,b\n1,2\n", "its first line names no column"),
        ("same\n1\n0\n", "no column 'score'"),
    ],
)
def test_pairs_that_are_wrong(tmp_path, capsys, text, said):
    (tmp_path / "pairs.csv").write_text(text)
    assert main(["evaluate", "verification", str(tmp_path / "pairs.csv")]) == 3
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["box", "a", "b"], "unknown type 'box'; allowed are boxes"),
        (["boxes", "a.json"], "TRUTH and PREDICTIONS are needed"),
        (["boxes", "a.json", "b.json", "--cap", "3"], "--cap: is for depth, not for boxes"),
        (["depth", "a", "b", "--crop", "egen"], "--crop 'egen': allowed are"),
        (["depth", "a", "b", "--cap", "0"], "numbers above 0 are needed"),
    ],
)
def test_usage(capsys, arguments, said):
    assert main(["evaluate", *arguments]) == 2
    assert said in capsys.readouterr().err
