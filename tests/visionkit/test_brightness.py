"""Images that are not of 8 bits: one white per data set, kept by the checkpoint, the same when the model is served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionkit.brightness import choose_white
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource, read_image
from visionkit.preprocess import Preprocessor

RNG = np.random.default_rng(0)
DRAWN = RNG.uniform(0.2, 0.7, (24, 24)).astype(np.float32)


def save(path: Path, values: np.ndarray) -> ImageSource:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return ImageSource(path)


def test_one_bright_pixel_does_not_darken_an_image(tmp_path: Path) -> None:
    read = []
    for peak in (0.98, 1.02, 1.9):
        values = DRAWN.copy()
        values[0, 0] = peak
        read.append(save(tmp_path / f"{peak}.tif", values).read()[1:])
    assert np.array_equal(read[0], read[1]) and np.array_equal(read[0], read[2])
    assert abs(float(read[0].mean()) - 255 * float(DRAWN[1:].mean())) < 1


@pytest.mark.parametrize(("bits", "white"), [(8, 255), (10, 1023), (12, 4095), (14, 16383)])
def test_the_white_of_sensors_is_found(
    tmp_path: Path, bits: int, white: float, caplog: pytest.LogCaptureFixture
) -> None:
    values = (DRAWN / DRAWN.max() * white).astype(np.uint16)
    sources = [save(tmp_path / f"{k}.png", values // (k + 1)) for k in range(3)]
    assert choose_white(sources) == white
    assert f"{white:g} is taken for white" in caplog.text
    plain, whitened = sources[0].read(), ImageSource(sources[0], white=white).read()
    assert whitened.max() == 255 and (bits == 14 or plain.max() < 16)
    assert ImageSource(sources[0], white=white).read(bits=16).max() == 65535


def test_eight_bits_and_all_of_sixteen_need_no_white(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    deep = save(tmp_path / "deep.png", (DRAWN / DRAWN.max() * 65535).astype(np.uint16))
    shallow = save(tmp_path / "shallow.png", (DRAWN * 255).astype(np.uint8))
    assert choose_white([shallow]) is None and choose_white([deep]) is None and choose_white([]) is None
    assert not caplog.text


def test_floats_of_a_set_have_one_white(tmp_path: Path) -> None:
    sources = [save(tmp_path / f"{k}.tif", DRAWN * scale) for k, scale in enumerate((1.0, 300.0))]
    assert choose_white(sources) == 255  # and not 1 for the first and 255 for the second
    assert choose_white(sources[:1]) == 1


def test_pixels_that_are_no_numbers_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = DRAWN.copy()
    values[:12] = np.nan
    source = save(tmp_path / "holes.tif", values)
    assert choose_white([source]) == 1
    assert "1 of 1 images that were read hold pixels that are NaN" in caplog.text and "holes.tif" in caplog.text
    assert (source.read()[:12] == 0).all() and (source.read()[12:] > 0).all()


def test_the_preprocessor_reads_with_the_white_of_the_task() -> None:
    values = np.full((8, 8), 2048, np.uint16)
    spec = InputSpec((8, 8), resize_mode="stretch", white=4095.0)
    tensor, _ = Preprocessor(spec).prepare(values)
    assert int(tensor[0, 0, 0]) == 128
    assert read_image(values)[0, 0, 0] == 8
    with pytest.raises(UsageError, match=r"input.white 0"):
        InputSpec(white=0.0)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_what_training_has_found_is_what_is_served(tmp_path: Path, ending: str) -> None:
    """Folders of 12-bit images: the trained task, its checkpoint and its predictor all take 4095 for white."""
    from lightning import Trainer

    from datamodules.folders import FolderData
    from tasks.classification.task import ClassificationTask
    from visionkit.predictor import Predictor
    from visionkit.task import VisionTask

    for number, name in enumerate(("dark", "light")):
        for k in range(4):
            save(tmp_path / "photos" / name / f"{k}.{ending}", np.full((8, 8), 1500 + 2500 * number + k, np.uint16))
    task = ClassificationTask(
        "test_resnet", classes=("dark", "light"), input=InputSpec((32, 32), resize_mode="stretch")
    )
    data = FolderData(str(tmp_path / "photos"), val_fraction=0.25, batch_size=2, input=task.input)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    Trainer(max_steps=1, accelerator="cpu", enable_model_summary=False, **options).fit(task, data)  # type: ignore[arg-type]
    assert task.input.white == 4095 and task.config["input"]["white"] == 4095
    again = type(task).from_config(task.config)
    assert isinstance(again, VisionTask) and again.input.white == 4095
    shown: Sequence[int] = (
        Predictor(task).prepare(tmp_path / "photos" / "light" / f"0.{ending}")["inputs"]["image"].unique().tolist()
    )
    batch = next(iter(data.train_dataloader()))
    assert shown == [249] and {int(value) for value in batch["inputs"]["image"].unique()} <= {93, 94, 249}
