"""`visionkit gallery` and the page's part for people."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.face_recognition.alignment import face_view, named_landmarks, template
from tasks.face_recognition.chain import FaceChain, fingerprint
from tasks.face_recognition.finding import CascadeFinder, DetectionFinder, EyePlacer, suppressed
from tasks.face_recognition.task import FaceRecognitionTask
from ui.cli import main
from ui.operating_point import card_curve, operating_point, place_on_curve
from visionkit.bundle import save_bundle
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.predictions import Detections, Prediction
from visionkit.predictions.faces import POINTS
from visionkit.predictor import Predictor, load
from visionkit.synthetic import draw_face
from visionkit.tiling import Located

ROC = [[0.0, 0.1, 0.9], [0.001, 0.5, 0.7], [0.01, 0.8, 0.5], [0.1, 0.95, 0.3], [1.0, 1.0, -1.0]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.manual_seed(0)
    task = FaceRecognitionTask(
        "test_resnet", embedding=16, input=InputSpec(size=(32, 32), resize_mode="stretch")
    ).eval()
    return save_bundle(task, tmp_path_factory.mktemp("models") / "faces", card={"name": "faces", "roc": ROC})


@pytest.fixture
def faces(tmp_path: Path) -> list[str]:
    paths = []
    for person in range(3):
        for k in range(2):
            path = tmp_path / f"{person}-{k}.png"
            Image.fromarray(draw_face(0, person, k).aligned().image).save(path)
            paths.append(str(path))
    return paths


def message(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_enrol_to_remove(bundle: Path, faces: list[str], tmp_path: Path, capsys) -> None:
    model, people = ["--model", str(bundle), "--crop"], str(tmp_path / "people")
    assert main(["gallery", "enrol", people, faces[0], faces[1], "--name", "Ada", *model]) == 0
    assert main(["gallery", "enrol", people, faces[2], "--name", "Bo", *model]) == 0
    capsys.readouterr()
    assert main(["gallery", "identify", people, faces[0], "--json", *model]) == 0
    record = json.loads(capsys.readouterr().out)["prediction"]["faces"][0]
    assert record["name"] == "Ada" and record["similarity"] > 0.999
    assert (
        main(["gallery", "identify", people, faces[0], "--threshold", "1", "--draw", f"{tmp_path}/d.png", *model]) == 0
    )
    assert "nobody known" in message(capsys) and (tmp_path / "d.png").is_file()
    assert main(["gallery", "verify", faces[0], faces[0], *model]) == 0
    assert "the same person" in message(capsys)
    assert main(["gallery", "verify", faces[2], "--gallery", people, "--name", "bo", "--json", *model]) == 0
    assert json.loads(capsys.readouterr().out)["same"] is True
    assert main(["gallery", "list", people, "--check"]) == 0
    assert "2 people; 3 embeddings checked" in message(capsys)
    # Refusals, each with its status and one line, and the gallery as it was.
    for arguments, status, said in (
        (["enrol", people, faces[3], "--name", "ADA", *model], 2, "--add"),
        (["enrol", people, faces[3], "--name", "Cy", "--face", "2", *model], 2, "--face 2: "),
        (["enrol", people, "missing.png", "--name", "Cy", *model], 3, "no such file"),
        (["enrol", people, faces[3], *model], 2, "--name"),
        (["identify", str(tmp_path / "none"), faces[0], *model], 3, "no gallery here"),
        (["identify", people, faces[0], "--far", "0.0001", *model], 2, "supports no rate below"),
        (["remove", people, "--name", "Adda"], 2, "did you mean 'Ada'"),
        (["lst", people], 2, "did you mean 'list'"),
        (["verify", faces[0], *model], 2, "two IMAGEs"),
        (["verify", faces[0], faces[1], "--roc", "missing.json", *model], 3, "no such file"),
    ):
        assert main(["gallery", *arguments]) == status, arguments
        text = message(capsys)
        assert said in text and len(text.strip().splitlines()) == 1, text
    plain = Image.new("RGB", (200, 150), (90, 120, 140))
    plain.save(tmp_path / "plain.png")
    assert main(["gallery", "enrol", people, f"{tmp_path}/plain.png", "--name", "Cy", "--model", str(bundle)]) == 3
    assert "no face found" in message(capsys)
    assert main(["gallery", "remove", people, "--name", "Bo"]) == 0
    assert main(["gallery", "list", people, "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out.splitlines()[-1])] == ["Ada"]


def test_two_forms_of_one_name_are_one_person(bundle: Path, faces: list[str], tmp_path: Path, capsys) -> None:
    composed, apart, people = "Zo\u00eb", "ZOE\u0308", str(tmp_path / "people")
    model = ["--crop", "--model", str(bundle)]
    assert main(["gallery", "enrol", people, faces[0], "--name", apart, *model]) == 0
    assert main(["gallery", "enrol", people, faces[1], "--name", composed, *model]) == 2
    assert "enrolled already" in message(capsys)
    assert main(["gallery", "verify", faces[0], "--gallery", people, "--name", composed, *model]) == 0
    assert main(["gallery", "remove", people, "--name", composed]) == 0
    capsys.readouterr()
    assert main(["gallery", "list", people, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == []
    assert main(["gallery", "identify", people, faces[0], *model]) == 0
    said = message(capsys)
    assert ": nobody known\n" in said and "nan" not in said and "nobody is enrolled; enrol people with: " in said


def test_a_gallery_that_holds_both_forms_becomes_one_person_and_forgets_both(
    bundle: Path, faces: list[str], tmp_path: Path, capsys
) -> None:
    """As galleries were kept before: two rows, of which `remove` forgot one."""
    people, model = tmp_path / "people", ["--crop", "--model", str(bundle)]
    assert main(["gallery", "enrol", str(people), faces[0], "--name", "Zo\u00eb", *model]) == 0
    assert main(["gallery", "enrol", str(people), faces[2], "--name", "Other", *model]) == 0
    with sqlite3.connect(people / "gallery.sqlite") as database:
        database.execute("UPDATE people SET name = 'Zoe\u0308', folded = 'zoe\u0308' WHERE name = 'Other'")
    database.close()
    capsys.readouterr()
    assert main(["gallery", "list", str(people), "--json"]) == 0
    (person,) = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert person["name"] == "Zo\u00eb" and person["images"] == 2
    assert main(["gallery", "remove", str(people), "--name", "zoe\u0308"]) == 0
    assert "2 embeddings overwritten" in message(capsys)


def test_a_broken_file_does_not_stop_identify(bundle: Path, faces: list[str], tmp_path: Path, capsys) -> None:
    people, model = str(tmp_path / "people"), ["--crop", "--model", str(bundle)]
    assert main(["gallery", "enrol", people, faces[0], "--name", "Ada", *model]) == 0
    (tmp_path / "broken.png").write_bytes(Path(faces[1]).read_bytes()[:300])
    assert main(["gallery", "identify", people, str(tmp_path / "broken.png"), faces[0], *model]) == 3
    text = message(capsys)
    assert "visionkit: skipped: " in text and "Ada (1.000)" in text


def test_a_folder_of_people_is_enrolled_and_what_cannot_be_used_is_reported(
    bundle: Path, faces: list[str], tmp_path: Path, capsys
) -> None:
    root, people, model = tmp_path / "root", str(tmp_path / "people"), ["--crop", "--model", str(bundle)]
    for name, some in (("Ada", faces[:2]), ("Bo\u0308", faces[2:4]), (".hidden", faces[4:])):
        (root / name).mkdir(parents=True)
        for path in some:
            (root / name / Path(path).name).write_bytes(Path(path).read_bytes())
    (root / "Ada" / "broken.png").write_bytes(b"no image")
    (root / "Nobody").mkdir()
    assert main(["gallery", "enrol", people, str(root), *model]) == 3
    text = message(capsys)
    assert "skipped: " in text and "broken.png" in text and "Nobody: no image with one face" in text
    assert "2 people enrolled, 2 skipped" in text
    assert main(["gallery", "list", people, "--json"]) == 0
    found = {each["name"]: each["images"] for each in json.loads(capsys.readouterr().out.splitlines()[-1])}
    assert found == {"Ada": 2, "B\u00f6": 2}
    assert main(["gallery", "enrol", people, str(root), *model]) == 2
    assert "already enrolled; add the images with --add" in message(capsys)
    assert main(["gallery", "enrol", people, str(tmp_path / "root" / "Nobody"), *model]) == 3
    assert "no sub-folders in it" in message(capsys)


def test_one_face_under_two_names_is_reported(bundle: Path, faces: list[str], tmp_path: Path, capsys) -> None:
    people, model = str(tmp_path / "people"), ["--crop", "--model", str(bundle)]
    assert main(["gallery", "enrol", people, faces[0], "--name", "Ada", *model]) == 0
    assert "alike" not in message(capsys)
    assert main(["gallery", "enrol", people, faces[0], "--name", "Bo", *model]) == 0
    assert "Bo and Ada are alike by 1.000; is one person enrolled under two names?" in message(capsys)
    assert main(["gallery", "enrol", people, faces[0], "--name", "ada", "--add", *model]) == 0
    text = message(capsys)
    assert "ada and Bo are alike" in text and "ada and Ada" not in text


def test_of_faces_that_overlap_the_highest_scoring_is_kept() -> None:
    boxes = np.array([[10, 10, 50, 50], [14, 12, 52, 50], [20, 20, 30, 30], [80, 10, 120, 50]], np.float32)
    assert suppressed(boxes, np.array([0.6, 0.9, 0.7, 0.5], np.float32)).tolist() == [1, 3]
    assert suppressed(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)).tolist() == []


def test_what_is_hardly_a_face_is_refused_by_its_score(bundle: Path, tmp_path: Path) -> None:
    box = np.array([[10, 10, 90, 90]], np.float32)
    for score, fine in ((0.3, False), (0.8, True)):
        found = Located(box, np.array([score], np.float32))
        chain = FaceChain(load(bundle), lambda image, found=found: found)
        image = np.full((100, 100, 3), 90, np.uint8)
        if fine:
            assert len(chain.one(image)) == 1
        else:
            with pytest.raises(DataError, match=r"score 0\.30, below 0\.45, so it is hardly a face"):
                chain.one(image)
        assert len(chain(image)) == 1, "it is shown all the same, with its score"


def test_a_gallery_of_another_model_has_status_4(bundle: Path, faces: list[str], tmp_path: Path, capsys) -> None:
    other = FaceRecognitionTask(
        "test_resnet", embedding=16, input=InputSpec(size=(32, 32), resize_mode="stretch"), flip_tta=False
    )
    save_bundle(other, tmp_path / "other", card={"roc": ROC})
    people = str(tmp_path / "people")
    assert main(["gallery", "enrol", people, faces[0], "--name", "Ada", "--crop", "--model", str(bundle)]) == 0
    assert main(["gallery", "identify", people, faces[0], "--crop", "--model", str(tmp_path / "other")]) == 4
    assert "another model" in message(capsys)


def test_a_damaged_gallery_has_status_3(bundle: Path, faces: list[str], tmp_path: Path, capsys) -> None:
    people = tmp_path / "people"
    assert main(["gallery", "enrol", str(people), faces[0], "--name", "Ada", "--crop", "--model", str(bundle)]) == 0
    file = people / "vectors.f32"
    file.write_bytes(file.read_bytes()[:-4])
    assert main(["gallery", "list", str(people)]) == 3
    assert "cut off" in message(capsys)


def test_the_operating_point() -> None:
    curve = card_curve({"roc": ROC})
    assert operating_point(curve, 0.01).threshold == 0.5
    assert operating_point(curve, 0.05).threshold == 0.5, "a rate is not exceeded"
    assert operating_point([], 0.01, threshold=0.4).threshold == 0.4
    for wrong, said in ((([], 0.01), "has no ROC"), ((curve, 0.002), "no rate below 0.01"), ((curve, 2.0), "0 and 1")):
        with pytest.raises(UsageError, match=said):
            operating_point(*wrong)
    assert place_on_curve(0.6, curve) == {"far": 0.001, "tar": 0.5}
    assert place_on_curve(0.99, curve) == {"far": 0.0, "tar": 0.0}


# ---------------------------------------------------------------------- the chain


class _Finds:
    """A detection model for the seam."""

    classes = ("cat", "face")

    def __call__(self, image: np.ndarray) -> Detections:
        boxes = np.array([(10, 10, 60, 70), (80, 20, 110, 60), (0, 0, 9, 9)], np.float32)
        return Detections(
            classes=self.classes,
            size=image.shape[:2],
            boxes=boxes,
            scores=np.array([0.9, 0.8, 0.7], np.float32),
            labels=np.array([1, 0, 1]),
        )


def chain_of(bundle: Path, **parts) -> FaceChain:
    from visionkit.predictor import load

    return FaceChain(load(bundle), **parts)


def test_a_detection_model_finds_faces(bundle: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 130, 3), dtype=np.uint8)
    prediction = chain_of(bundle, finder=DetectionFinder(_Finds(), threshold=0.6))(image)
    assert len(prediction) == 2 and np.allclose(np.linalg.norm(prediction.embeddings, axis=1), 1, atol=1e-5)
    assert not np.isnan(prediction.landmarks).any()
    with pytest.raises(UsageError, match="none is 'dog'"):
        DetectionFinder(_Finds(), label="dog")


def test_landmarks_are_taken_by_the_names_of_keypoints() -> None:
    face = np.array([(40, 40), (60, 40), (50, 55), (43, 66), (57, 66)], np.float32)  # as seen
    assert np.array_equal(named_landmarks(POINTS, face[None])[0], face)
    own = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")  # the person's own left is the image's right
    head = np.array([(50, 55), (60, 40), (40, 40), (70, 44), (30, 44)], np.float32)
    found = named_landmarks(own, head[None])[0]
    assert np.array_equal(found[:3], face[:3])
    assert 40 < found[3, 0] < 50 < found[4, 0] < 60 and (found[3:, 1] > 60).all() and (found[3:, 1] < 75).all()
    upside_down = named_landmarks(own, (100 - head)[None])[0]
    assert np.allclose(upside_down, 100 - found, atol=1e-3)
    assert named_landmarks(("left_wrist", "right_wrist"), face[None, :2]) is None


def test_several_faces_are_refused_until_one_is_named(bundle: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 130, 3), dtype=np.uint8)
    chain = chain_of(bundle, finder=DetectionFinder(_Finds(), threshold=0.6))
    with pytest.raises(DataError, match=r"2 faces \(1: 10, 10, 60, 70; 2: .*which one is meant"):
        chain.one(image)
    assert np.array_equal(chain.one(image, face=2).boxes[0], [0, 0, 9, 9])


def test_aligned_faces_embed_as_their_crops_do(bundle: Path) -> None:
    """A face found in a photo and the same face as an aligned image are one and the same to the network."""
    photo = draw_face(0, 1, 3, size=(256, 256))

    def given(image: np.ndarray) -> Located:
        return Located(photo.box[None], np.ones(1, np.float32), photo.landmarks[None])

    chain = chain_of(bundle, finder=given)
    found = chain(photo.image)
    crop = chain.faces(photo.aligned(112).image, crop=True)
    assert float(found.embeddings[0] @ crop.embeddings[0]) > 0.98
    assert face_view(photo.landmarks).rotation != 0


def test_the_embedded_finder_and_its_landmarks() -> None:
    data = pytest.importorskip("skimage.data")
    image = data.astronaut()
    found = CascadeFinder()(image)
    assert len(found.boxes) == 1 and 0.5 < found.scores[0] < 1
    x1, y1, x2, y2 = found.boxes[0]
    assert x1 < 205 < x2 and y1 < 105 < y2
    points = EyePlacer()(image, found.boxes)[0]
    assert abs(points[0] - (204, 103)).max() < 10 and abs(points[1] - (246, 103)).max() < 10
    assert points[2, 1] > points[:2, 1].max() and points[3:, 1].min() > points[2, 1]


def test_a_place_without_eyes_gets_an_average_face() -> None:
    box = np.array([[10, 10, 74, 74]], np.float32)
    points = EyePlacer()(np.full((90, 90, 3), 128, np.uint8), box)[0]
    assert points[0, 0] < points[2, 0] < points[1, 0] and points[:2, 1].max() < points[3:, 1].min()
    assert EyePlacer()(np.zeros((9, 9, 3), np.uint8), np.zeros((0, 4), np.float32)).shape == (0, 5, 2)


def test_a_checkpoint_and_its_bundle_are_one_model() -> None:
    task = FaceRecognitionTask(
        "test_resnet", identities=3, embedding=16, input=InputSpec(size=(32, 32), resize_mode="stretch")
    )
    served = task.served()
    assert fingerprint(task.config, task.state_dict()) == fingerprint(served.config, served.state_dict())
    served.network.head.layers[2].weight.data[0, 0] += 1
    assert fingerprint(task.config, task.state_dict()) != fingerprint(served.config, served.state_dict())
    with pytest.raises(UsageError, match="a face recognition model is needed"):
        from tests.contracts.cases import build

        FaceChain(Predictor(build("classification")))
    assert template("head", (56, 48)).max() < 56


# ---------------------------------------------------------------------- the page and programs


def test_a_served_face_model_searches_faces_and_states_where_it_found_none(bundle: Path, monkeypatch) -> None:
    from ui.inference import predict
    from ui.model_registry import ModelRegistry
    from visionkit.images import ImageSource

    model_registry = ModelRegistry(bundle.parent)
    name = next(each.name for each in model_registry.entries() if each.path == str(bundle))
    photo = ImageSource(np.random.default_rng(0).integers(0, 256, (100, 130, 3), dtype=np.uint8))

    def served(**options: Any) -> Any:
        return predict(model_registry, name, photo, options=options, strict=True).prediction

    found = Located(np.array([[10, 10, 60, 70]], np.float32), np.array([0.7], np.float32))
    monkeypatch.setattr(CascadeFinder, "__call__", lambda self, image: found)
    expected = chain_of(bundle)(photo)
    assert served() == expected
    record = served().to_json()
    assert (record["faces_found"], record["whole_image"]) == (1, False)
    assert record["faces"][0]["score"] == pytest.approx(0.7) and record["faces"][0]["box"] == [10, 10, 60, 70]

    none = Located(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    monkeypatch.setattr(CascadeFinder, "__call__", lambda self, image: none)
    record = served().to_json()
    assert (record["faces_found"], record["whole_image"]) == (0, True)
    assert [face["score"] for face in record["faces"]] == [None], "nobody was confident of anything"
    assert Prediction.from_json(json.loads(json.dumps(record))) == served()
    assert served().text() == "0 faces found; the whole image was taken as one face"
    assert chain_of(bundle)(photo).to_json() == {
        "kind": "faces", "faces_found": 0, "whole_image": False, "faces": []
    }  # fmt: skip

    monkeypatch.setattr(CascadeFinder, "__call__", None)  # a crop is searched by nobody
    record = served(crop=1).to_json()
    assert (record["faces_found"], record["whole_image"]) == (None, True)
    for options in ({"crop": "yes"}, {"score_threshold": 0.3}):
        with pytest.raises(UsageError, match="allowed"):
            served(**options)


def test_the_page_enrols_identifies_compares_and_forgets(
    bundle: Path, faces: list[str], tmp_path: Path, monkeypatch
) -> None:
    from ui.inference import Upload
    from ui.model_registry import ModelRegistry
    from ui.people import People
    from ui.server.job_queue import JobQueue

    model_registry = ModelRegistry(bundle.parent)
    people = People(JobQueue(model_registry), tmp_path / "gallery")
    entry = next(each for each in model_registry.entries() if each.path == str(bundle))
    monkeypatch.setattr(People, "model", entry)  # in place of the example model
    uploads = [Upload(path, Path(path).name) for path in faces]
    assert "enrolled" in people.enrol(uploads[0], "Ada <b>", True, None, False)
    assert people.listed() == [["Ada <b>", "1"]]
    found, pixels, said = people.identify(uploads[0], True, 0.01)
    assert found.names == ("Ada <b>",) and pixels.ndim == 3 and "1 face" in said
    assert "The same person" in people.verify(uploads[0], uploads[0], True, 0.01)
    with pytest.raises(UsageError, match="enrolled already"):
        people.enrol(uploads[1], "ada <B>", True, None, False)
    assert "<" not in people.remove("Ada <b>") and people.listed() == []
    with pytest.raises(UsageError, match="image first"):
        people.identify(None, True, 0.01)
    from ui.server.job_queue import Busy, TooSlow
    from ui.server.limits import Limits

    crowded = People(JobQueue(model_registry), tmp_path / "gallery")
    monkeypatch.setattr(crowded.job_queue, "_waiting", crowded.job_queue.limits.queue)
    with pytest.raises(Busy):
        crowded.identify(uploads[0], True, 0.01)
    slow = People(JobQueue(model_registry, Limits(timeout=0.5)), tmp_path / "gallery")
    embedded, late = FaceChain.one, threading.Event()

    def slowly(*given: Any) -> Any:
        found = embedded(*given)
        late.wait(30)
        return found

    monkeypatch.setattr(FaceChain, "one", slowly)
    with pytest.raises(TooSlow):
        slow.enrol(uploads[0], "Grace", True, None, False)
    late.set()
    while slow.job_queue.running:
        time.sleep(0.01)
    assert people.listed() == [], "reported that it took too long, and not enrolled after that"
    assert not [path for path in (tmp_path / "gallery").rglob("*") if path.suffix in (".png", ".jpg")]
