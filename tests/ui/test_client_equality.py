"""What a program is reported over HTTP is what `Predictor` states in Python, to the digit.

Every task, every example model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.contracts.cases import CASES, build, images
from tests.ui.conftest import served
from ui.inference import runner
from ui.model_registry import find_example_models
from visionkit.predictions.image import encode_png

pytestmark = pytest.mark.filterwarnings("ignore::Warning:gradio.queueing")  # its use of pandas

EXAMPLE_MODELS = {entry.name: entry for entry in find_example_models() if not entry.fault}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of each task, with random weights."""
    import torch

    from visionkit.checkpoint import save_bundle

    folder = tmp_path_factory.mktemp("tasks")
    for name in CASES:
        torch.manual_seed(0)
        save_bundle(build(name).eval(), folder / name, card={"name": name})
    return folder


@pytest.fixture(scope="module")
def client(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from gradio_client import Client

    with served(bundles, tmp_path_factory.mktemp("scratch")) as demo:
        yield Client(demo.address, verbose=False, analytics_enabled=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two images of odd sizes, one of them turned by its header."""
    folder, saved = tmp_path_factory.mktemp("files"), []
    exif = Image.Exif()
    exif[0x0112] = 6
    for number, (image, options) in enumerate(zip(images(2), ({}, {"exif": exif}), strict=True)):
        smooth = Image.fromarray(image).resize((image.shape[1] // 2, image.shape[0] // 2)).resize((97, 75))
        saved.append(folder / f"{number}.png")
        smooth.save(saved[-1], **options)
    assert len({np.asarray(Image.open(path)).tobytes() for path in saved}) == 2
    return saved


def _compare(client: Any, path: Path, name: str, bundle: Path) -> None:
    from gradio_client import handle_file

    from visionkit.predictor import load

    predictor: Any = load(bundle)
    # A face model searches faces first, and states where it found none.
    faces = predictor.task.name == "face_recognition"
    inputs: tuple[str, ...] = predictor.task.inputs
    given: Any = path
    options = {"noise_level": 25} if "noise_level" in inputs else {}
    files = {each: path.read_bytes() for each in inputs if each != "noise_level"}
    if "mask" in inputs:
        with Image.open(path) as image:
            mask = np.zeros((image.height, image.width, 1), np.uint8)
        mask[::4] = 255
        files["mask"] = encode_png(mask)
    if len(files) > 1:
        given = files
    elif predictor.task.input.frames > 1:  # a still image is a clip in which nothing moves
        given = {inputs[0]: [path] * predictor.task.input.frames}
    prediction = runner(predictor, None, {})(path) if faces else predictor(given, **options)
    expected = json.loads(json.dumps(prediction.to_json(), allow_nan=False))
    if len(files) > 1:  # they are sent by one request
        import httpx

        response = httpx.post(f"{client.src}api/predict", params={"model": name}, files=files, timeout=120)
        assert response.json() == expected
    else:
        further, endpoint = ((options,), "/predict_with_options") if options else ((), "/predict")
        assert client.predict(handle_file(str(path)), name, *further, api_name=endpoint) == expected
    assert len(json.dumps(expected)) > 40, "an empty prediction carries no information"


@pytest.mark.parametrize("name", sorted(CASES))
def test_each_task(client: Any, bundles: Path, files: list[Path], name: str) -> None:
    for path in files:
        _compare(client, path, name, bundles / name)


@pytest.mark.parametrize("name", sorted(EXAMPLE_MODELS))
def test_each_example_model(client: Any, files: list[Path], name: str) -> None:
    own = sorted(Path(EXAMPLE_MODELS[name].path).glob("examples/*.*"))
    _compare(client, own[0] if own else files[0], name, Path(EXAMPLE_MODELS[name].path))
