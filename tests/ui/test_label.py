"""`visionkit label`: what is written, read back, kept, chosen and gone on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.coco import CocoData
from datamodules.coco_keypoints import CocoKeypointData
from datamodules.label_folder import JOURNAL, Description, LabelFolder
from datamodules.object_entries import AnnotatedImage
from datamodules.object_files import convert
from datamodules.objects import ObjectData
from datamodules.voc import VocData
from datamodules.yolo import YoloData
from datamodules.yolo_pose import YoloPoseData
from tests.ui.labels import CLASSES, draw_images, save_detector
from ui.cli import main
from ui.label_options import OBJECTS
from ui.label_selection import Scanned, select
from ui.labeling import description_for, entry_of, fit_command, uncertainty_of
from visionkit.masks import encode_masks
from visionkit.predictions import Detections, Instances, Poses
from visionkit.skeleton import Skeleton


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_detector(tmp_path_factory.mktemp("detector") / "model")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "photos"
    draw_images(folder, 6)
    return folder


def label(*arguments: object) -> int:
    return main(["label", *map(str, arguments)])


def opened(form: str, out: Path, **options: Any) -> ObjectData:
    if form == "yolo":
        return YoloData(str(out / "data.yaml"), val_fraction=0, **options)
    return {"coco": CocoData, "voc": VocData}[form](str(out), val_fraction=0, classes=CLASSES, **options)


def test_every_format_holds_the_predictions_with_their_scores(model: Path, photos: Path, tmp_path: Path) -> None:
    from visionkit.predictor import load

    predictor = load(model)
    for form in OBJECTS:
        out = tmp_path / form
        assert label(model, photos, "--out", out, "--format", form, "--min_score", 0.58) == 0
        entries = opened(form, out).labeled("train")
        assert [Path(entry.file).name for entry in entries] == [path.name for path in sorted(photos.iterdir())]
        assert sum(map(len, entries)) > 6
        for entry in entries:
            found = predictor(photos / Path(entry.file).name, score_threshold=0.1).above(0.58)
            assert entry.labels.tolist() == found.labels.tolist(), form
            np.testing.assert_allclose(entry.boxes, found.boxes, atol=0.01)
            if len(found):
                np.testing.assert_allclose(entry.scores, found.scores, atol=1e-5)
        samples = opened(form, out).samples("train")
        assert len(samples) == 6 and "scores" not in samples[0].target


def test_coco_readers_open_the_file(model: Path, photos: Path, tmp_path: Path) -> None:
    from faster_coco_eval import COCO

    assert label(model, photos, "--out", tmp_path / "out", "--min_score", 0.58) == 0
    file = tmp_path / "out" / "annotations" / "instances_train.json"
    readers: list[Any] = [COCO]
    try:
        from pycocotools.coco import COCO as OTHER

        readers.append(OTHER)
    except ImportError:
        pass
    for reader in readers:
        coco = reader(str(file))
        assert len(coco.getImgIds()) == 6 and [each["name"] for each in coco.loadCats(coco.getCatIds())] == [*CLASSES]
        rows = coco.loadAnns(coco.getAnnIds())
        assert rows and all(0.58 <= each["score"] <= 1 and each["area"] > 0 for each in rows)


def test_what_is_there_stays_and_what_a_person_changed_stays_forever(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for form in OBJECTS:
        out = tmp_path / form
        command = (model, photos, "--out", out, "--format", form, "--min_score", 0.58)
        assert label(*command) == 0
        capsys.readouterr()
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        assert label(*command) == 0
        assert "0 images labeled with 0 objects, 6 had labels already" in capsys.readouterr().out
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
        # Another program deletes the objects of the first image; the page marks the second one.
        if form == "coco":
            path = out / "annotations" / "instances_train.json"
            content = json.loads(path.read_text("utf-8"))
            content["annotations"] = [each for each in content["annotations"] if each["image_id"] != 1]
            path.write_text(json.dumps(content, indent=1), "utf-8")
        elif form == "voc":
            path = out / "Annotations" / "000.xml"
            path.write_text(path.read_text("utf-8").split("<object>")[0] + "</annotation>", "utf-8")
        else:
            (out / "labels" / "train" / "000.txt").write_text("")
        with LabelFolder(out) as folder:
            entry = folder.store.read("001.png")
            folder.correct("001.png", entry.take(np.arange(len(entry)) == 0), (72, 96), reviewed=True)
        assert label(*command[:-1], 0.45, "--overwrite") == 0
        assert "4 images labeled with" in (said := capsys.readouterr().out) and "2 left as they were corrected" in said
        entries = opened(form, out).labeled("train")
        assert [len(entry) for entry in entries[:2]] == [0, 1]
        assert min(entry.scores.min() for entry in entries[2:] if entry.scores is not None) < 0.58


def test_an_interrupted_run_goes_on(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for form in OBJECTS:
        whole, out = tmp_path / f"{form}-whole", tmp_path / form
        assert label(model, photos, "--out", whole, "--format", form) == 0

        def stopped(*given: Any, number: list[int] = [], **more: Any) -> AnnotatedImage:  # noqa: B006
            number.append(1)
            if len(number) == 4:
                raise KeyboardInterrupt
            return entry_of(*given, **more)

        with monkeypatch.context() as patch:
            patch.setattr("ui.labeling.entry_of", stopped)
            assert label(model, photos, "--out", out, "--format", form) == 130
        with (out / JOURNAL).open("a") as file:
            file.write('{"image": "half')  # as a killed process leaves it
        capsys.readouterr()
        assert label(model, photos, "--out", out, "--format", form) == 0
        assert "3 images labeled" in capsys.readouterr().out
        for path in whole.rglob("*.*"):
            if path.name != JOURNAL:
                assert path.read_bytes() == (out / path.relative_to(whole)).read_bytes(), path


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["MODEL", "PHOTOS", "--out", "FULL"], 2, "not an empty folder"),
        (["MODEL", "PHOTOS", "--out", "DONE", "--format", "yolo"], 2, "was labeled with format 'coco' and not 'yolo'"),
        (["MODEL", "PHOTOS", "--out", "DONE", "--classes", "nut"], 2, "was labeled with classes"),
        (["MODEL", "PHOTOS", "--out", "NEW", "--classes", "nuts"], 2, "did you mean"),
        (["MODEL", "PHOTOS", "--out", "NEW", "--min_score", "2"], 2, "--min_score 2: allowed"),
        (["MODEL", "PHOTOS", "--out", "NEW", "--by", "both"], 2, "belongs to --select N"),
        (["MODEL", "PHOTOS", "--out", "NEW", "--select", "0"], 2, "--select: 0 is not"),
        (["MODEL", "--out", "NEW"], 2, "SOURCE"),
        (["--out", "NEW"], 2, "MODEL and SOURCE"),
        (["--out", "NEW", "--review"], 2, "no labels of `visionkit label` there"),
        (["MODEL", "nowhere", "--out", "NEW"], 3, "nowhere"),
        (["nomodel", "PHOTOS", "--out", "NEW"], 4, "nomodel"),
    ],
)
def test_mistakes_are_reported_in_a_line(
    arguments: list[str],
    status: int,
    message: str,
    model: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    done = tmp_path / "done"
    with LabelFolder(done, Description("coco", "detection", "boxes", CLASSES)):
        pass
    words = {"MODEL": model, "PHOTOS": photos, "FULL": tmp_path / "full", "DONE": done, "NEW": tmp_path / "new"}
    assert label(*(words.get(each, each) for each in arguments)) == status
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and message in said[0], said
    assert not (tmp_path / "new").exists()


def test_two_at_a_time_are_refused(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LabelFolder(tmp_path / "out", Description("coco", "detection", "boxes", CLASSES)):
        assert label(model, photos, "--out", tmp_path / "out") == 2
    assert "another `visionkit label` is using it" in capsys.readouterr().err


def test_classes_files_that_are_no_images_and_equal_names(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    shutil.copytree(photos, source / "a")
    shutil.copytree(photos, source / "b")
    (source / "broken.png").write_bytes(b"no image")
    out = source / "labels"  # within the source: what is there is not labeled again
    for _ in range(2):
        assert label(model, source, "--out", out, "--classes", "washer,nut", "--min_score", 0.4) == 3
    said = capsys.readouterr()
    assert "12 images labeled" in said.out and "1 skipped" in said.out and "broken.png" in said.err
    assert "0 images labeled with 0 objects, 12 had labels already, 1 skipped" in said.out
    data = CocoData(str(out), val_fraction=0)
    assert data.classes == ("nut", "washer")
    assert len({Path(entry.file).name for entry in data.labeled("train")}) == 12


# ---------------------------------------------------------------------- masks and poses


def test_masks_and_poses_survive() -> None:
    bitmaps = np.zeros((2, 20, 30), dtype=bool)
    bitmaps[0, 2:8, 3:9] = bitmaps[1, 10:19, 12:28] = True
    boxes = np.array([[3, 2, 9, 8], [12, 10, 28, 19]], dtype=np.float32)
    found = Instances(
        ("a", "b"), (20, 30), boxes, np.array([0.9, 0.6]), np.array([1, 0]), masks=tuple(encode_masks(bitmaps))
    )
    entry = entry_of(found, Path("a.png"), (20, 30), ("b", "a"), 0.5)
    assert entry.labels.tolist() == [0, 1] and entry.segments == [*found.masks]
    assert len(entry_of(found, Path("a.png"), (20, 30), ("b",), None)) == 1


def test_what_lies_outside_is_cut_off() -> None:
    skeleton = Skeleton.of("coco17")
    places = np.full((2, 17, 2), 10.0)
    places[0, 3] = -4, 10
    boxes = np.array([[-5, -5, 40, 15], [40, 2, 50, 9]])
    poses = Poses(skeleton, places, np.ones((2, 17)), np.array([0.9, 0.8]), boxes)
    entry = entry_of(poses, Path("a.png"), (20, 30), ("person",), None)
    assert entry.boxes.tolist() == [[0, 0, 30, 15]] and entry.scores is not None and len(entry.scores) == 1
    assert (entry.more["keypoints"][0, :, 2] > 0).sum() == 16


def test_outlines_become_boxes_in_voc(tmp_path: Path) -> None:
    from tasks.instance_segmentation import InstanceSegmentationTask

    task = InstanceSegmentationTask("test_resnet", classes=("cell",), input={"size": [64, 64]})
    about = description_for(task, "voc", None, tmp_path / "out")
    assert about.target == "boxes"
    with LabelFolder(tmp_path / "out", about) as folder:
        command = fit_command(folder, "model")
    assert (
        command
        == f"visionkit fit -c detection --data VocData --data.root {tmp_path / 'out'} --data.classes '[\"cell\"]'"
    )
    assert description_for(task, "yolo", None, tmp_path / "none").target == "masks"


def test_an_object_without_a_pixel_is_no_label() -> None:
    bitmaps = np.zeros((2, 20, 30), dtype=bool)
    bitmaps[1, 5:9, 4:8] = True
    boxes, scores = np.array([[1.0, 2, 9, 9], [4, 5, 8, 9]]), np.array([0.9, 0.6])
    found = Instances(("a",), (20, 30), boxes, scores, np.array([0, 0]), masks=tuple(encode_masks(bitmaps)))
    entry = entry_of(found, Path("a.png"), (20, 30), ("a",), None)
    assert entry.boxes.tolist() == [[4, 5, 8, 9]] and entry.scores is not None and entry.scores.tolist() == [0.6]


@pytest.mark.parametrize("form", ["coco", "yolo"])
def test_masks_and_keypoints_are_read_again(form: str, tmp_path: Path) -> None:
    photo = draw_images(tmp_path / "photos", 1)[0]
    bitmaps = np.zeros((1, 72, 96), dtype=bool)
    bitmaps[0, 10:40, 20:60] = True
    box, score, label_ = np.array([[20, 10, 60, 40]]), np.array([0.75]), np.array([0])
    found = Instances(("cell",), (72, 96), box, score, label_, masks=tuple(encode_masks(bitmaps)))
    with LabelFolder(tmp_path / "masks", Description(form, "instance_segmentation", "masks", ("cell",))) as folder:
        folder.add(photo, entry_of(found, photo, (72, 96), ("cell",), None), (72, 96), "m")
        folder.flush()
        assert not folder.is_corrected("000.png")
        again = folder.store.read("000.png")
        assert again.scores is not None and again.scores.tolist() == [0.75]
    options: dict[str, Any] = {"val_fraction": 0, "target": "masks"}
    data = (
        CocoData(str(tmp_path / "masks"), **options)
        if form == "coco"
        else YoloData(str(tmp_path / "masks" / "data.yaml"), **options)
    )
    masks: Any = data.samples("train")[0].target["masks"]
    assert (np.asarray(masks.rles[0]["counts"]) == encode_masks(bitmaps)[0]["counts"]).all()

    skeleton = Skeleton.of("coco17")
    places = np.random.default_rng(0).uniform(10, 60, (1, 17, 2)).round(2)
    poses = Poses(skeleton, places, np.linspace(0, 1, 17)[None], np.array([0.9]), np.array([[5, 5, 70, 70]]))
    from visionkit.plain_values import plain

    about = Description(form, "pose", "keypoints", ("person",), plain(skeleton))
    with LabelFolder(tmp_path / "pose", about) as folder:
        folder.add(photo, entry_of(poses, photo, (72, 96), ("person",), None), (72, 96), "m")
    with LabelFolder(tmp_path / "pose") as folder:
        again = folder.store.read("000.png")
    root = tmp_path / "pose"
    pose_data = (
        CocoKeypointData(str(root), val_fraction=0)
        if form == "coco"
        else YoloPoseData(str(root / "data.yaml"), val_fraction=0)
    )
    (known,) = pose_data.labeled("train")
    for each in (again, known):
        seen = each.more["keypoints"][0, :, 2] > 0
        assert seen.tolist() == (np.linspace(0, 1, 17) >= 0.3).tolist()
        np.testing.assert_allclose(each.more["keypoints"][0, seen, :2], places[0, seen], atol=0.01)
        assert each.scores is not None and each.scores[0] == pytest.approx(0.9, abs=1e-5)


def test_scores_go_from_format_to_format(tmp_path: Path) -> None:
    photo = draw_images(tmp_path / "photos", 1)[0]
    boxes = np.array([[1.0, 2, 30, 40], [5, 6, 50, 60]])
    entry = AnnotatedImage(str(photo), "", boxes, np.array([0, 1]), scores=np.array([0.625, np.nan]))
    with LabelFolder(tmp_path / "coco", Description("coco", "detection", "boxes", ("a", "b"))) as folder:
        folder.add(photo, entry, (72, 96), "m")
        folder.flush()
    convert(tmp_path / "coco", tmp_path / "voc", "voc")
    convert(tmp_path / "voc", tmp_path / "yolo", "yolo")
    convert(tmp_path / "yolo", tmp_path / "again", "coco")
    (known,) = CocoData(str(tmp_path / "again"), val_fraction=0).labeled("train")
    assert known.scores is not None and known.scores[0] == 0.625 and np.isnan(known.scores[1])
    assert "csv holds no scores: 1 object" in convert(tmp_path / "coco", tmp_path / "csv", "csv").losses.lines()


def test_classes_are_written_as_folders_or_csv(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from datamodules.csv_labels import CsvData
    from datamodules.folders import FolderData
    from tests.ui.conftest import CLASSES as THINGS
    from tests.ui.conftest import build
    from visionkit.checkpoint import save_bundle
    from visionkit.predictor import load

    save_bundle(build(), tmp_path / "model", card={"name": "Six things"})
    predictor = load(tmp_path / "model")
    best = {path.name: predictor(path).best for path in sorted(photos.iterdir())}
    names = sorted(best)
    for form in ("folders", "csv"):
        out = tmp_path / form
        command = (tmp_path / "model", photos, "--out", out, "--format", form)
        assert label(*command) == 0
        assert label(*command) == 0
        assert "6 had labels already" in capsys.readouterr().out.splitlines()[-2]
        reader: Any = FolderData if form == "folders" else CsvData
        data = reader(str(out if form == "folders" else out / "labels.csv"), val_fraction=0, classes=THINGS)
        found = {Path(sample.id).name: THINGS[int(sample.target["labels"])] for sample in data.samples("train")}
        assert found == {name: label_.name for name, label_ in best.items()}
        # A person decides otherwise.
        other = next(name for name in THINGS if name != best[names[0]].name)
        if form == "folders":
            (out / other).mkdir(exist_ok=True)
            (out / best[names[0]].name / names[0]).rename(out / other / names[0])
        else:
            path = out / "labels.csv"
            rows = path.read_text("utf-8").splitlines()
            assert rows[0] == "path,label,score" and float(rows[1].split(",")[2]) == pytest.approx(
                best[names[0]].probability, abs=1e-4
            )
            path.write_text("\n".join([rows[0], f"images/{names[0]},{other},", *rows[2:]]), "utf-8")
        assert label(*command, "--overwrite") == 0
        assert "5 images labeled, 1 left as they were corrected" in capsys.readouterr().out
        with LabelFolder(out) as folder:
            assert THINGS[folder.store.read(names[0]).labels[0]] == other
        assert label(*command[:-2], "--format", "coco") == 2
    assert label(tmp_path / "model", photos, "--out", tmp_path / "few", "--min_score", 0.999) == 0
    assert "6 without a label from that score on" in capsys.readouterr().out
    assert label(tmp_path / "model", photos, "--out", tmp_path / "few", "--review") == 2


# ---------------------------------------------------------------------- which images


def found(*scores: float) -> Detections:
    boxes = np.tile(np.array([0, 0, 5, 5]), (len(scores), 1))
    return Detections(("a",), (10, 10), boxes, np.array(scores), np.zeros(len(scores)))


def test_uncertainty_is_the_entropy_of_the_scores() -> None:
    assert uncertainty_of(found(0.5)) == pytest.approx(1)
    assert uncertainty_of(found(0.99, 0.98)) < 0.15
    assert uncertainty_of(found(0.25)) == pytest.approx(0.811278, abs=1e-5)
    assert uncertainty_of(found(0.5, 0.25)) == pytest.approx((1 + 0.811278) / 2, abs=1e-5)
    assert uncertainty_of(found(0.9, 0.02, 0.01)) == uncertainty_of(found(0.9)), "objects below the floor do not count"
    assert uncertainty_of(found(0.05)) > uncertainty_of(found(0.01)) > uncertainty_of(found()) == 0


def test_diverse_images_are_far_from_each_other_and_from_those_with_labels() -> None:
    # Three groups in the plane, and one image apart; the greedy choice takes one of each before a second of any.
    places = np.array([[0, 0], [0.1, 0], [5, 0], [5.1, 0], [0, 5], [0, 5.1], [9, 9]], dtype=np.float32)
    images = [Scanned(0.1 * k, place) for k, place in enumerate(places)]
    chosen = select(images, 4, "diversity")
    assert {k // 2 for k in chosen} == {0, 1, 2, 3} and chosen == select(images, 4, "diversity")
    first = select(images, 1, "diversity", labeled=[places[0], places[6]])[0]
    assert first in (3, 5), "the farthest from what has labels"
    assert select(images, 2, "uncertainty") == [6, 5]
    both = select([Scanned(1.0 if k in (1, 3, 5) else 0.2, place) for k, place in enumerate(places[:6])], 3, "both")
    assert set(both) == {1, 3, 5}
    assert sorted(select(images, 100, "both")) == list(range(7))


def test_a_selection_is_labeled_alone_and_the_next_one_goes_on(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, list[set[str]]] = {}
    for out in ("first", "second"):
        for _ in range(2):
            assert label(model, photos, "--out", tmp_path / out, "--select", 2, "--by", "both") == 0
            entries = CocoData(str(tmp_path / out), val_fraction=0).labeled("train")
            names.setdefault(out, []).append({Path(entry.file).name for entry in entries})
    assert names["first"] == names["second"], "the same images each time"
    assert len(names["first"][0]) == 2 and len(names["first"][1]) == 4 and names["first"][0] < names["first"][1]
    # Of an interrupted one the rest is labeled first.
    with LabelFolder(tmp_path / "first") as folder:
        left = [path for path in sorted(photos.iterdir()) if folder.name_of(path) is None]
        folder.choose(left[:1])
    assert label(model, photos, "--out", tmp_path / "first", "--select", 2) == 0
    said = capsys.readouterr()
    assert "going on with 1 image of the last selection" in said.err
    with LabelFolder(tmp_path / "first") as folder:
        assert folder.name_of(left[0]) and not folder.name_of(left[1])
