"""Requests that wait for one model go through it together, and each gets what it would get alone."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ui import model_registry
from ui.inference import InferenceResult, predict
from ui.joined_requests import MOST
from ui.model_registry import ModelRegistry
from visionkit.errors import CheckpointError, UsageError
from visionkit.images import ImageSource
from visionkit.model_facts import read_facts
from visionkit.predictor import load


class Spy:
    """An engine that remembers the sizes of its batches."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.batches = engine, list[int]()

    def __call__(self, *inputs: Any) -> Any:
        self.batches.append(len(inputs[0]))
        return self.engine(*inputs)


def together(loaded: Any, asks: list[Callable[[], Any]]) -> list[Any]:
    """Asks while the model is busy, so that all wait."""
    with ThreadPoolExecutor(len(asks)) as pool:
        with loaded.lock:
            found = []
            for number, ask in enumerate(asks, 1):
                found.append(pool.submit(ask))
                end = time.monotonic() + 20
                while len(loaded.joined._waiting) < number and time.monotonic() < end:
                    time.sleep(0.005)
            assert len(loaded.joined._waiting) == len(asks), "some do not wait for the model"
        return [each.exception() or each.result() for each in found]


@pytest.fixture
def registry(models: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRegistry:
    registry = ModelRegistry(models)
    loaded = registry.get("good")
    with loaded.lock:
        predictor = loaded.predictor()
    monkeypatch.setattr(predictor, "engine", Spy(predictor.engine))
    return registry


def sources(count: int) -> list[ImageSource]:
    rng = np.random.default_rng(0)
    return [ImageSource(rng.integers(0, 256, (40 + n, 60, 3), dtype=np.uint8), f"{n}.png") for n in range(count)]


def test_what_waits_goes_together_and_gets_what_it_gets_alone(registry: ModelRegistry, models: Path) -> None:
    loaded, images = registry.get("good"), sources(MOST + 3)
    found = together(loaded, [lambda image=image: predict(registry, "good", image) for image in images])
    assert sorted(loaded.predictor().engine.batches) == [3, MOST]
    alone = load(models / "good")
    for image, result in zip(images, found, strict=True):
        assert isinstance(result, InferenceResult) and result.together in (3, MOST) and result.network <= result.total
        assert result.prediction.difference(alone(image)).largest < 1e-5
    assert not loaded.joined._waiting
    assert predict(registry, "good", images[0]).together == 1


def test_other_options_and_faults_stay_with_their_request(registry: ModelRegistry) -> None:
    loaded, images = registry.get("good"), sources(4)
    predictor = loaded.predictor()
    many, one = predictor.examine_together, predictor.examine

    def examine_together(given: list[Any], **options: Any) -> Any:
        if any(each is bad for each in given):
            raise UsageError("this one cannot be")
        return many(given, **options)

    def examine(given: Any, progress: Any = None, **options: Any) -> Any:
        if given is bad:
            raise UsageError("this one cannot be")
        return one(given, progress, **options)

    bad: Any = None
    decoded = predictor.decoded

    def remember(image: Any) -> Any:
        nonlocal bad
        source = decoded(image)
        if source.name == "2.png":
            bad = source
        return source

    predictor.decoded, predictor.examine_together, predictor.examine = remember, examine_together, examine  # type: ignore[method-assign]
    try:
        options = [{}, {}, {}, {"top": 2}] if "top" in predictor.decode_options else [{}] * 4
        asks = [
            lambda image=image, given=given: predict(registry, "good", image, options=given)
            for image, given in zip(images, options, strict=True)
        ]
        found = together(loaded, asks)
    finally:
        del predictor.decoded, predictor.examine_together, predictor.examine
    assert [type(each).__name__ for each in found] == [
        "InferenceResult",
        "InferenceResult",
        "UsageError",
        "InferenceResult",
    ]


def test_large_images_are_not_joined(registry: ModelRegistry) -> None:
    image = ImageSource(np.zeros((1100, 1000, 3), np.uint8), "large.png")
    done = threading.Event()
    assert predict(registry, "good", image, progress=lambda *_: done.set()).together == 1
    assert registry.get("good").predictor().engine.batches == [1]


def test_a_request_for_a_model_in_memory_lists_no_models(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That took several times as long as a small network; a model that is replaced or damaged is seen all the same."""
    bundle = Path(shutil.copytree(models / "good", tmp_path / "good"))
    registry, (image,), listed = ModelRegistry(tmp_path), sources(1), []
    first = predict(registry, "good", image)
    entries = registry.entries
    monkeypatch.setattr(registry, "entries", lambda: listed.append(1) or entries())
    assert predict(registry, "good", image).prediction.difference(first.prediction).largest == 0 and not listed
    loaded = registry.get("good")
    os.utime(bundle / "model.safetensors", (1, 1))
    assert registry.get("good") is not loaded and listed
    (bundle / "model.json").write_text("{not json")
    with pytest.raises(CheckpointError, match="good"):
        registry.get("good")
    shutil.rmtree(bundle)
    with pytest.raises(UsageError, match="unknown model"):
        registry.get("good")


def test_what_models_state_is_read_once_until_it_changes(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Path(shutil.copytree(models / "good", tmp_path / "good"))
    registry, read = ModelRegistry(tmp_path), []
    registry.entries()
    monkeypatch.setattr(model_registry, "read_facts", lambda folder: read.append(folder) or read_facts(folder))
    assert registry.entry("good").title == "Six things" and not read
    facts = read_facts(bundle)
    facts["card"]["name"] = "Seven things"
    (bundle / "model.json").write_text(json.dumps(facts))
    assert registry.entry("good").title == "Seven things" and read == [bundle]
    (bundle / "model.safetensors").unlink()  # what cannot be served is read each time
    (bundle / "model.json").write_text("{not json")
    assert "cannot be read" in registry.entry("good").fault
