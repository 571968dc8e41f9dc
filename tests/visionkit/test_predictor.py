"""Serving: one road for every engine, lists, streams, views and options; faults in one line."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import visionkit
from tasks.classification import ClassificationTask
from visionkit.bundle import save_bundle
from visionkit.engines import OnnxEngine, TorchEngine
from visionkit.errors import CheckpointError, DataError, EnvironmentFault, UsageError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.predictions import Classification, Prediction
from visionkit.predictor import Predictor, Result, load
from visionkit.session import Session
from visionkit.tiling import MergeObjects, Plan, Views
from visionkit.types import View

NOTHING = np.zeros((40, 50, 3), np.uint8)


def task(**arguments: Any) -> ClassificationTask:
    torch.manual_seed(0)
    given = {"classes": ["cat", "dog", "bird"], "input": InputSpec(size=(32, 32))} | arguments
    return ClassificationTask("test_resnet", **given)


def images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40 + 3 * k, 60 - 2 * k, 3), dtype=np.uint8) for k in range(count)]


def test_the_package_is_imported_for_free():
    code = "import sys, visionkit as v; print([m for m in ('torch', 'numpy') if m in sys.modules], v.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", visionkit.__version__]
    assert visionkit.load is load and "load" in dir(visionkit)
    with pytest.raises(AttributeError, match="nonsense"):
        visionkit.nonsense  # noqa: B018


def test_one_image_or_a_list(tmp_path):
    predictor = Predictor(task(), batch_size=3)
    Image.fromarray(NOTHING).save(tmp_path / "a.png")
    one = predictor(NOTHING)
    assert isinstance(one, Classification) and one.classes == predictor.classes == ("cat", "dog", "bird")
    assert one.probabilities.sum() == pytest.approx(1, abs=1e-6)
    for same in (
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        (tmp_path / "a.png").read_bytes(),
        Image.fromarray(NOTHING),
    ):
        assert predictor(same) == one
    several = predictor([*images(7), NOTHING])
    assert len(several) == 8
    for found, alone in zip(several, [predictor(p) for p in (*images(7), NOTHING)], strict=True):
        assert np.allclose(found.probabilities, alone.probabilities, atol=1e-6)
    assert predictor([]) == []
    with pytest.raises(DataError, match=r"no\.jpg: no such file"):
        predictor([NOTHING, tmp_path / "no.jpg"])


def test_a_stream_goes_on_after_a_bad_image(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    good = images(6)
    sources = [good[0], tmp_path / "text.jpg", *good[1:5], tmp_path / "empty.png", tmp_path / "missing.png", good[5]]
    predictor = Predictor(task())
    for num_workers in (0, 2):
        results = list(predictor.stream(sources, batch_size=4, num_workers=num_workers))
        assert [r.source is s for r, s in zip(results, sources, strict=True)] == [True] * len(sources)
        bad = [k for k, result in enumerate(results) if result.prediction is None]
        assert bad == [1, 6, 7]
        assert all(isinstance(results[k].error, DataError) and str(sources[k]) in str(results[k].error) for k in bad)
        predictions = [r.prediction for r in results if r.error is None]
        for found, expected in zip(predictions, predictor(good), strict=True):
            assert np.allclose(found.probabilities, expected.probabilities, atol=1e-6)


def test_a_stream_takes_images_only_as_it_goes():
    taken = []

    def endless():
        for k in range(10**9):
            taken.append(k)
            yield NOTHING

    for num_workers in (0, 2):
        taken.clear()
        stream = Predictor(task()).stream(endless(), batch_size=2, num_workers=num_workers)
        next(stream)
        assert len(taken) < 12
        stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")], "threads end with the stream"
    with pytest.raises(UsageError, match="batch_size"):
        Predictor(task()).stream([NOTHING], batch_size=-1)


def test_native_images_are_not_padded_to_their_neighbors():
    """A prediction must not depend on the images that happen to share its batch."""
    shapes = []
    served = task(input=InputSpec(size=(32, 32), resize_mode="native", divisor=32))

    def engine(image: Tensor) -> Any:
        shapes.append(tuple(image.shape))
        return TorchEngine(served)(image)

    predictor = Predictor(served, engine)
    predictor([np.zeros(size, np.uint8) for size in ((40, 40, 3), (90, 50, 3), (50, 33, 3))])
    assert sorted(shapes) == [(1, 3, 96, 64), (2, 3, 64, 64)]


class _Thirds(ClassificationTask):
    """Processes the left, the middle and the right of an image and takes the mean."""

    name = "thirds"

    def plan(self, image: ImageSource, *, views: Views | None = None, parts: int = 3, **options: Any) -> Plan:
        height, width = image.size
        own = [View((k * width / parts, 0, (k + 1) * width / parts, height)) for k in range(parts)]
        return Plan(own if views is None else views, MergeObjects(self._mean))

    def _mean(self, parts: Sequence[Prediction]) -> Prediction:
        mean = np.mean([part.probabilities for part in parts if isinstance(part, Classification)], axis=0)
        return Classification(self.classes, mean)

    def decode(self, outputs: Any, temperature: float = 1.0) -> Tensor:
        return super().decode(type(outputs)(outputs.logits / temperature))


def test_several_views_of_an_image_are_merged():
    torch.manual_seed(0)
    several = _Thirds("test_resnet", classes=["a", "b"], input=InputSpec(size=(32, 32)))
    predictor, image = Predictor(several), images(1)[0]
    views = several.plan(ImageSource(image)).views
    each = [
        several.restore(several.decode(TorchEngine(several)(predictor.prepare(image, v)["inputs"]["image"][None])), ())
        for v in views
    ]
    expected = np.mean([predictions[0].probabilities for predictions in each], axis=0)
    assert np.allclose(predictor(image).probabilities, expected, atol=1e-6)
    assert np.allclose(predictor([image, NOTHING])[0].probabilities, expected, atol=1e-6)
    left = predictor(image, views=views[:1])
    assert np.allclose(left.probabilities, each[0][0].probabilities, atol=1e-6)
    with pytest.raises(UsageError, match="views"):
        predictor([image], views=views)


def test_options_of_decode():
    torch.manual_seed(0)
    several = _Thirds("test_resnet", classes=["a", "b"], input=InputSpec(size=(32, 32)))
    predictor = Predictor(several)
    hot, cold = predictor(NOTHING, temperature=1e6), predictor(NOTHING, temperature=0.01)
    assert hot.best.probability == pytest.approx(0.5, abs=1e-3) and cold.best.probability > 0.5
    assert np.allclose(predictor(NOTHING, parts=1).probabilities, predictor(NOTHING, views=[None]).probabilities)
    assert predictor.options == ("parts", "temperature") and predictor.decode_options == ("temperature",)
    with pytest.raises(UsageError, match="did you mean 'temperature'"):
        predictor(NOTHING, temprature=2)
    with pytest.raises(UsageError, match="classification has none"):
        Predictor(task()).stream([NOTHING], threshold=0.2)


class _Counts(Session):
    """Keeps the number of the frame, as a tracker would keep its tracks."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.times: list[float | None] = []

    def examine(self, image: Any, time: float | None = None, progress: Any = None) -> Result:
        self.times.append(time)
        return super().examine(image, time, progress)


class _Counting(_Thirds):
    name = "counting"

    def session(self, predictor: Predictor, **options: Any) -> Session:
        return _Counts(predictor, **options)


def test_a_session_keeps_what_a_task_keeps():
    torch.manual_seed(0)
    predictor = Predictor(_Counting("test_resnet", classes=["a", "b"], input=InputSpec(size=(32, 32))))
    session = predictor.session(temperature=0.01)
    assert session.step(NOTHING, 0.0) == session.step(NOTHING, 0.5) == predictor(NOTHING, temperature=0.01)
    assert isinstance(session, _Counts) and session.times == [0.0, 0.5]
    assert Predictor(task()).session().step(NOTHING) == Predictor(task())(NOTHING), "stateless by default"
    with pytest.raises(UsageError, match="did you mean 'temperature'"):
        predictor.session(temprature=2)


def test_the_parts_of_a_prediction_are_timed():
    start = time.perf_counter()
    result = Predictor(task()).examine(images(1)[0])
    took = time.perf_counter() - start
    assert result.times is not None
    parts = (result.times.read, result.times.prepare, result.times.network, result.times.decode)
    assert min(parts) > 0 and sum(parts) < took and result.prediction is not None


def test_a_task_in_training_predicts_in_evaluation_mode_and_trains_on():
    learning = task(dropout=0.5).train()
    predictor = Predictor(learning)
    before = {key: value.clone() for key, value in learning.state_dict().items()}
    first = predictor(images(1)[0])
    assert learning.training and predictor(images(1)[0]) == first
    assert all(torch.equal(value, before[key]) for key, value in learning.state_dict().items())
    assert first == Predictor(learning.eval())(images(1)[0])


def test_threads_get_the_predictions_of_one():
    predictor = Predictor(task())
    expected = [predictor(image) for image in images(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(predictor, images(8)))
    assert found == expected


def test_bfloat16_is_near():
    plain, brief = TorchEngine(task().eval()), TorchEngine(task().eval(), precision="bfloat16")
    image = Predictor(task()).prepare(images(1)[0])["inputs"]["image"][None]
    assert brief(image).logits.dtype == torch.float32
    assert torch.allclose(plain(image).logits, brief(image).logits, atol=0.05)
    with pytest.raises(UsageError, match="precision"):
        TorchEngine(task(), precision="int4")  # type: ignore[arg-type]


def test_devices_that_are_not_there():
    with pytest.raises(UsageError, match="give cpu, cuda"):
        TorchEngine(task(), "gpu")
    with pytest.raises(EnvironmentFault, match="this machine has"):
        TorchEngine(task(), "cuda:99")


def test_faults_of_graphs(tmp_path):
    bundle = save_bundle(task(), tmp_path / "bundle", card={})
    with pytest.raises(UsageError, match="did you mean 'onnx'"):
        load(bundle, engine="onyx")  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"no model\.onnx.*export --onnx"):
        load(bundle, engine="onnx")
    with pytest.raises(CheckpointError, match=r"no model\.int8\.onnx.*export --int8"):
        load(bundle, engine="onnx-int8")
    with pytest.raises(CheckpointError, match="needs a bundle"):
        load(tmp_path / "model.ckpt", engine="onnx")
    with pytest.raises(UsageError, match="computes on the CPU"):
        load(bundle, engine="onnx", device="cuda" if torch.cuda.is_available() else "meta")
    for content, says in (
        (b"", "0 bytes"),
        (b"\x00" * 100, "not a usable ONNX file"),
        (b"hello", "not a usable ONNX file"),
    ):
        (bundle / "model.onnx").write_bytes(content)
        with pytest.raises(CheckpointError, match=says) as caught:
            load(bundle, engine="onnx")
        assert "\n" not in str(caught.value) and str(bundle) in str(caught.value)
    with pytest.raises(CheckpointError, match="no such file"):
        OnnxEngine(tmp_path / "no.onnx", ClassificationTask.outputs)


def test_a_graph_of_another_task_is_refused(tmp_path: Path):
    import onnx
    from onnx import TensorProto, helper

    def graph(input_name: str, kind: int, output_name: str) -> Path:
        inputs = [helper.make_tensor_value_info(input_name, kind, ["n", 3, 32, 32])]
        outputs = [helper.make_tensor_value_info(output_name, kind, ["n", 3, 32, 32])]
        node = helper.make_node("Identity", [input_name], [output_name])
        model = helper.make_model(
            helper.make_graph([node], "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 20)], ir_version=10
        )
        onnx.save(model, tmp_path / "g.onnx")
        return tmp_path / "g.onnx"

    outputs = ClassificationTask.outputs
    with pytest.raises(CheckpointError, match="its outputs boxes; this task needs image and logits"):
        OnnxEngine(graph("image", TensorProto.UINT8, "boxes"), outputs)
    with pytest.raises(CheckpointError, match="tensor\\(float\\) and should be"):
        OnnxEngine(graph("image", TensorProto.FLOAT, "logits"), outputs)
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(OnnxEngine(graph("image", TensorProto.UINT8, "logits"), outputs)(image).logits, image)
