"""What a predictor does between an image and its prediction: batches, tiles, progress, novelty, and graphs opened."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tasks.classification import ClassificationTask
from tasks.super_resolution import SuperResolutionTask
from visionkit.bundle import save_bundle
from visionkit.engines import TorchEngine
from visionkit.errors import CheckpointError, DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.inputs import Clip
from visionkit.predictor import Predictor, load
from visionkit.tiling import MergeObjects, Plan
from visionkit.types import View


class Halves(ClassificationTask):
    """Shows the whole image and its right half, and predicts what it sees of the first of them."""

    crops = False

    def plan(self, image: ImageSource, *, views: Any = None, half: bool = True, **options: Any) -> Plan:
        height, width = image.size
        own = [None, View((width // 2, 0, width, height))][: 1 + half]
        return Plan(own if views is None else views, MergeObjects(lambda parts: parts[0]), crops=self.crops)

    def decode(self, outputs: Any, temperature: float = 1.0) -> Tensor:
        return super().decode(type(outputs)(outputs.logits / temperature))


def task(kind: type[ClassificationTask] = ClassificationTask, **arguments: Any) -> Any:
    torch.manual_seed(0)
    return kind("test_resnet", classes=["cat", "dog"], input=InputSpec(size=(32, 32)), **arguments).eval()


def larger() -> Any:
    torch.manual_seed(0)
    return SuperResolutionTask("compact", scale=2, compact={"width": 8, "blocks": 1}).eval()


def images(count: int, size: tuple[int, int] = (40, 60)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(count)]


class Notes:
    """An engine that notes how many images it was given at once."""

    def __init__(self, of: Any) -> None:
        self.engine, self.counts = TorchEngine(of), []

    def __call__(self, *inputs: Tensor) -> Any:
        self.counts.append(len(inputs[0]))
        return self.engine(*inputs)


# ---------------------------------------------------------------------- batches


def test_images_go_through_the_network_in_batches_and_come_back_in_order():
    given = task()
    notes = Notes(given)
    predictor = Predictor(given, notes, batch_size=2)
    found = predictor(images(5))
    assert notes.counts == [2, 2, 1]
    assert [np.allclose(a.probabilities, predictor(image).probabilities, atol=1e-6) for a, image in zip(
        found, images(5), strict=True)] == [True] * 5  # fmt: skip
    notes.counts.clear()
    assert len(list(predictor.stream(iter(images(5)), batch_size=4))) == 5 and notes.counts == [2, 2, 1]
    assert Predictor(given).batch_size == 16 and predictor.classes == ("cat", "dog")
    assert len(predictor(tuple(images(2)))) == 2


def test_views_share_batches_too():
    given = task(Halves)
    notes = Notes(given)
    Predictor(given, notes, batch_size=3)(images(3))
    assert notes.counts == [3, 3]


@pytest.mark.parametrize(("batch_size", "num_workers"), [(-1, 0), (1, -1)])
def test_a_stream_needs_a_batch_and_no_fewer_than_no_workers(batch_size: int, num_workers: int):
    with pytest.raises(UsageError, match="must be at least"):
        Predictor(task()).stream([], batch_size=batch_size, num_workers=num_workers)
    assert list(Predictor(task()).stream([], batch_size=1, num_workers=0)) == []


def test_each_view_has_its_own_prediction_in_their_order():
    predictor, image = Predictor(task(Halves)), images(1)[0]
    views = [View((30, 0, 60, 40)), None]
    right, whole = predictor.each(image, views)
    for found, view in ((right, views[:1]), (whole, [None])):
        assert np.allclose(found.probabilities, predictor(image, views=view).probabilities, atol=1e-6)
    assert not np.allclose(right.probabilities, whole.probabilities, atol=1e-6)
    assert predictor.each(image, []) == []


# ---------------------------------------------------------------------- what is given


def test_an_image_is_decoded_once_as_the_task_needs_it(tmp_path: Path):
    pixels = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    plain = Predictor(task()).decoded(tmp_path / "deep.png")
    assert plain.is_decoded and plain.name == str(tmp_path / "deep.png")
    assert plain.read().dtype == np.uint8 and plain.size == (6, 8)
    deep = Predictor(larger()).decoded(tmp_path / "deep.png")
    assert deep.is_decoded and deep.name == str(tmp_path / "deep.png")
    assert np.array_equal(deep.read_as_is()[..., 0], pixels)


def test_inputs_are_given_by_their_names():
    predictor = Predictor(task())
    image = images(1)[0]
    assert list(predictor.sample({"image": image}).inputs) == list(predictor.sample(image).inputs) == ["image"]
    with pytest.raises(UsageError, match="left"):
        predictor.sample({"left": image})
    clip = predictor.sample({"image": [image, image]}).inputs["image"]
    assert isinstance(clip, Clip) and len(clip.frames) == 2 and clip.times == ()
    timed = predictor.sample({"image": Clip([image], (0.5,))}).inputs["image"]  # type: ignore[list-item]
    assert isinstance(timed, Clip) and timed.times == (0.5,) and isinstance(timed.frames[0], ImageSource)
    asked: Any = {"completed": lambda inputs, **_: inputs}
    two: Any = SimpleNamespace(inputs=("left", "right"), name="pair", input=InputSpec(), **asked)
    with pytest.raises(UsageError, match="pair needs several images; give them by name: left, right"):
        Predictor(two, lambda *_: None).sample(image)
    assert list(Predictor(two, lambda *_: None).sample({"right": image, "left": image}).inputs) == ["left", "right"]


def test_a_call_has_the_options_of_plan_and_decode_and_no_others():
    predictor = Predictor(task(Halves))
    assert predictor.options[0] == "half" and not {"views", "found", "second", "image"} & set(predictor.options)
    assert predictor(images(1)[0], half=False) == predictor(images(1)[0])
    assert predictor(images(1)[0], temperature=1e6).best.probability == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(UsageError, match=r"halv: no option of classification; allowed are half.*did you mean 'half'"):
        predictor(images(1)[0], halv=True)


# ---------------------------------------------------------------------- tiles


def test_a_large_image_is_enlarged_tile_by_tile_and_states_its_progress():
    image, seen = images(1, (70, 90))[0], []
    predictor = Predictor(larger())
    whole = predictor(image)
    tiled = predictor(image, tile=48, progress=lambda *given: seen.append(given))
    count = len(predictor.plan(ImageSource(image), tile=48).views)
    assert seen == [(number, count) for number in range(1, count + 1)] and count > 3
    assert np.abs(tiled.pixels.astype(int) - whole.pixels).max() <= 1 and whole.pixels.shape == (140, 180, 3)
    result = predictor.examine(image, tile=48)
    assert np.array_equal(result.prediction.pixels, tiled.pixels) and result.novelty is None
    assert min(result.times.read, result.times.prepare, result.times.network, result.times.decode) > 0
    several = predictor([image, image[:50]], tile=48)
    assert np.array_equal(several[0].pixels, tiled.pixels) and several[1].pixels.shape == (100, 180, 3)


def test_a_stream_enlarges_one_image_after_the_other_and_goes_on_after_a_damaged_one(tmp_path: Path):
    image = images(1, (30, 40))[0]
    Image.fromarray(image).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.png").write_text("no image")
    predictor = Predictor(larger())
    sources = [tmp_path / name for name in ("whole.png", "cut.png", "text.png", "whole.png")]
    results = list(predictor.stream(sources))
    assert [result.source for result in results] == sources
    assert [result.prediction is None for result in results] == [False, True, True, False]
    assert [isinstance(result.error, DataError) for result in results] == [False, True, True, False]
    assert np.array_equal(results[3].prediction.pixels, predictor(image).pixels)


# ---------------------------------------------------------------------- novelty


class Shown:
    """Statistics that state the features themselves."""

    def novelty(self, features: np.ndarray) -> list[Any]:
        return [features[0].round(4).tolist()]


def test_the_novelty_of_an_image_is_that_of_its_whole():
    given = task(Halves)
    given.statistics = Shown()
    predictor = Predictor(given, batch_size=3)
    expected = [predictor.examine(image, half=False).novelty for image in images(3)]
    assert expected[0] != expected[1] and None not in expected
    assert [result.novelty for result in predictor.stream(images(3))] == [
        pytest.approx(each, abs=1e-3) for each in expected
    ]
    given.crops = True
    assert predictor.examine(images(1)[0]).novelty is None, "no crop stands for the image"


# ---------------------------------------------------------------------- graphs


def graph(path: Path) -> None:
    """A graph that gives a model's input as its logits."""
    import onnx
    from onnx import TensorProto, helper

    sides = ["n", 3, 32, 32]
    values = [helper.make_tensor_value_info(name, TensorProto.UINT8, sides) for name in ("image", "logits")]
    node = helper.make_node("Identity", ["image"], ["logits"])
    body = helper.make_graph([node], "g", values[:1], values[1:])
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def test_a_graph_is_opened_from_its_bundle_or_its_file_without_the_weights(tmp_path: Path):
    folder = save_bundle(task(), tmp_path / "bundle", card={})
    with pytest.raises(CheckpointError, match=r"no\.onnx: engine onnx needs a bundle with model\.onnx"):
        load(tmp_path / "no.onnx", engine="onnx")
    graph(folder / "model.onnx")
    for path in (folder, folder / "model.onnx"):
        predictor = load(path, engine="onnx")
        parameters = list(predictor.task.network.parameters())
        assert parameters and all(each.is_meta and not each.requires_grad for each in parameters)
        assert not predictor.task.training and predictor.classes == ("cat", "dog")
    with pytest.raises(UsageError, match="device meta: engine onnx computes on the CPU"):
        load(folder, "meta", "onnx")
    assert not any(each.is_meta for each in load(folder).task.network.parameters())
