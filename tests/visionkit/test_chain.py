"""Find, then estimate: boxes of a detector or of a file, and what is wrong with them."""

import json

import numpy as np
import pytest
import torch

from tasks.pose import PoseTask
from visionkit.chain import BoxFile, Chain
from visionkit.crops import PersonCrop, usable_box, whole_image_box
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.predictions import Detections
from visionkit.predictor import Predictor, Result
from visionkit.tiling import Located
from visionkit.types import View


class StubDetector:
    """Predicts boxes that are known."""

    def __init__(self, classes=("dog", "person"), name="detection"):
        self.classes = classes
        self.task = type("Task", (), {"name": name})()

    def __call__(self, image):
        boxes = [[10, 5, 50, 90], [60, 5, 100, 90], [0, 0, 20, 20], [500, 500, 600, 700], [60, 5, 90, 60]]
        labels = [len(self.classes) - 1] * 2 + [0] + [len(self.classes) - 1] * 2
        return Detections(self.classes, (100, 120), boxes, [0.9, 0.8, 0.99, 0.7, 0.1], labels)

    def stream(self, sources, batch_size=None, num_workers=0):
        for source in sources:
            try:
                ImageSource(source).read()
                yield Result(source, self(source), None)
            except DataError as error:
                yield Result(source, None, error)


@pytest.fixture(scope="module")
def estimator():
    torch.manual_seed(0)
    task = PoseTask(
        "test_resnet", input=InputSpec(size=(64, 48), resize_mode="stretch"), simple_baseline={"width": 16}
    ).eval()
    for p in task.network.head.parameters():
        p.data += 0.05 * torch.randn(p.shape)
    return Predictor(task)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)


def test_each_box_is_processed_as_its_own_crop(estimator, image):
    chain = Chain(StubDetector(), estimator)
    prediction = chain(image)
    assert len(prediction) == 2 and chain.outside == 1, "of five boxes one is a dog, one outside, one unsure"
    boxes = {tuple(box) for box in prediction.boxes.tolist()}
    assert boxes == {(10, 5, 50, 90), (60, 5, 100, 90)}
    for box, score in (((10, 5, 50, 90), 0.9), ((60, 5, 100, 90), 0.8)):
        alone = estimator(image, views=[View(PersonCrop().region(box, (64, 48)))])
        row = [tuple(each) for each in prediction.boxes.tolist()].index(box)
        assert np.allclose(prediction.keypoints[row], alone.keypoints[0], atol=1e-3)
        assert prediction.scores[row] == pytest.approx(float(alone.scores[0]) * score, abs=1e-6)


def test_a_stream_skips_what_cannot_be_read(estimator, image, tmp_path):
    from PIL import Image

    Image.fromarray(image).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    results = list(Chain(StubDetector(), estimator).stream([tmp_path / "a.png", tmp_path / "b.png"]))
    assert len(results[0].prediction) == 2 and results[1].prediction is None and results[1].error is not None


def test_nobody_found_is_a_prediction(estimator, image):
    chain = Chain(lambda _: Located(np.zeros((0, 4)), np.zeros(0)), estimator)
    assert len(chain(image)) == 0


def test_boxes_of_a_file(estimator, image, tmp_path):
    from PIL import Image

    path = tmp_path / "photo.png"
    Image.fromarray(image).save(path)
    (tmp_path / "boxes.json").write_text(json.dumps({"photo.png": [[10, 5, 50, 90], [60, 5, 100, 90, 0.5]]}))
    file = BoxFile(tmp_path / "boxes.json")
    prediction = Chain(file, estimator)(path)
    assert len(prediction) == 2 and file(ImageSource(path)).scores.tolist() == [1.0, 0.5]
    record = {"source": str(path), "size": [100, 120], "prediction": StubDetector()(path).to_json()}
    (tmp_path / "predictions.jsonl").write_text(json.dumps(record) + "\n")
    found = BoxFile(tmp_path / "predictions.jsonl", "person")(ImageSource(path))
    assert len(found.boxes) == 4, "the dog is left out"
    with pytest.raises(DataError, match="has no boxes for it"):
        file(ImageSource(tmp_path / "other.png"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no valid json"),
        ("[]", "should be"),
        ('{"a.png": [[1, 2, 3]]}', "'a.png': should be a list of boxes"),
        ('{"a.png": [[1, 2, 3, NaN]]}', "should be a list of boxes"),
        ('{"a.png": 3}', "should be a list of boxes"),
    ],
)
def test_bad_files_of_boxes_name_their_entry(tmp_path, text, said):
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(DataError, match=said):
        BoxFile(tmp_path / "boxes.json")
    with pytest.raises(DataError, match="cannot be read"):
        BoxFile(tmp_path / "nowhere.json")
    (tmp_path / "p.jsonl").write_text('{"source": "a"}\n')
    with pytest.raises(DataError, match="line 1"):
        BoxFile(tmp_path / "p.jsonl")


def test_models_that_do_not_go_together(estimator):
    whole = Predictor(PoseTask("test_resnet", architecture="openpose", openpose={"width": 16, "stage_width": 8}))
    with pytest.raises(UsageError, match="takes whole images and no boxes"):
        Chain(StubDetector(), whole)
    with pytest.raises(UsageError, match=r"does not know 'person'.*it knows dog, cat"):
        Chain(StubDetector(("dog", "cat")), estimator)
    with pytest.raises(UsageError, match="model of classification"):
        Chain(StubDetector(name="classification"), estimator)
    assert Chain(StubDetector(("cell",)), estimator).subject == "cell", "the only class it has"


def test_regions_have_the_input_s_ratio_and_hold_the_padded_box():
    region = PersonCrop(1.25).region((10, 20, 30, 100), (128, 96))
    width, height = region[2] - region[0], region[3] - region[1]
    assert width / height == pytest.approx(0.75) and height == pytest.approx(100) and width >= 25
    assert ((region[0] + region[2]) / 2, (region[1] + region[3]) / 2) == (20, 60)
    region = whole_image_box((100, 300), (128, 96))
    assert region == (0, -150, 300, 250)
    with pytest.raises(UsageError, match=r"crop\.padding 0\.5"):
        PersonCrop(0.5)


def test_boxes_are_cut_to_the_image():
    assert usable_box((-5, 2, 50, 900), (100, 120)).tolist() == [0, 2, 50, 100]
    for box in ((200, 0, 300, 50), (5, 5, 5, 9), (float("nan"), 0, 5, 5), (9, 9, 3, 3)):
        assert usable_box(box, (100, 120)) is None
