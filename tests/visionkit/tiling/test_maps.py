"""Large images in tiles, as the predictor serves them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.semantic_segmentation import SemanticSegmentationTask
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.predictor import Predictor
from visionkit.tiling import BlendMap, architecture_reach, choose_overlap

CLASSES = ("a", "b", "c")
NETWORKS = {
    "unet": {"channels": (8, 8, 8, 8, 8)},
    "fcn": {},
    "segformer": {"channels": 8},
}


def build(architecture="unet", **arguments):
    torch.manual_seed(0)
    task = SemanticSegmentationTask(
        "test_resnet",
        architecture=architecture,
        classes=CLASSES,
        input=InputSpec(size=(64, 64), resize_mode="native"),
        **{architecture: NETWORKS[architecture]},
        **arguments,
    )
    return task.eval()


def photo(height, width):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (-(-height // 16), -(-width // 16), 3), dtype=np.uint8)
    fine = coarse.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]
    return (fine // 2 + rng.integers(0, 128, fine.shape, dtype=np.uint8)).astype(np.uint8)


@pytest.mark.parametrize("architecture", NETWORKS)
def test_tiles_equal_the_whole_where_they_overlap_by_what_is_seen(architecture, monkeypatch):
    task = build(architecture, tile=768)
    source_image = photo(770, 901)
    tiles = task.plan(ImageSource(source_image)).reduce
    assert isinstance(tiles, BlendMap) and tiles.overlap.halo == architecture_reach(task.network, 3, 32)

    def scores():
        """The tiles' scores, where the task would keep the best class alone."""
        plan = task.plan(ImageSource(source_image))
        plan.reduce._finish = plan.reduce._merger.finish = None
        plan.reduce._predict = lambda values: values
        return plan

    def tiled():
        predictor = Predictor(task)
        monkeypatch.setattr(predictor, "plan", lambda image, views=None: scores())
        return predictor(source_image)

    first = tiled()
    with torch.inference_mode():
        whole = tiles._values(task.decode(task(Predictor(task).prepare(source_image)["inputs"]["image"][None])))[
            :, :770, :901
        ]
    assert first.shape == whole.shape and (first - whole).abs().max() < 1e-5
    monkeypatch.setattr("visionkit.tiling.maps.BAND_BYTES", 1)  # every column of tiles is a stripe of its own
    assert (tiled() - first).abs().max() < 1e-5
    monkeypatch.undo()
    tile, task.tile = task.tile, 0
    labels = Predictor(task)(source_image).labels
    task.tile = tile
    assert (Predictor(task)(source_image).labels == labels).mean() > 0.9999


def test_small_images_and_other_fits_are_processed_whole():
    task = build(tile=128)

    def is_tiled(task, *size):
        return isinstance(task.plan(ImageSource(np.zeros((*size, 3), np.uint8))).reduce, BlendMap)

    assert not is_tiled(task, 128, 128) and is_tiled(task, 129, 128) and not is_tiled(build(tile=0), 500, 500)
    fixed = SemanticSegmentationTask(
        "test_resnet", classes=CLASSES, input=InputSpec(size=(64, 64), resize_mode="letterbox")
    )
    assert not is_tiled(fixed, 500, 500)
    with pytest.raises(UsageError, match=r"model\.tile 40"):
        build(tile=40)


def test_a_damaged_large_image_is_one_bad_image_among_many(tmp_path):
    from PIL import Image

    Image.fromarray(photo(200, 200)).save(tmp_path / "good.png")
    data = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    predictor = Predictor(build(tile=128))
    results = list(predictor.stream([tmp_path / "cut.png", tmp_path / "good.png", photo(50, 60)]))
    assert isinstance(results[0].error, DataError) and "truncated" in str(results[0].error)
    assert results[1].prediction.labels.shape == (200, 200) and results[2].prediction.labels.shape == (50, 60)
    done = []
    predictor(photo(200, 210), progress=lambda number, total: done.append((number, total)))
    assert done == [(number + 1, len(done)) for number in range(len(done))] and len(done) > 1
    several = predictor([photo(200, 210), photo(50, 60)])
    assert [prediction.labels.shape for prediction in several] == [(200, 210), (50, 60)]


def test_overlap_is_what_is_seen_or_a_quarter():
    assert choose_overlap(512, 32, 60) == (128, 60)
    assert choose_overlap(512, 32, 200) == (128, 32), "too dear: a quarter of the tile"
    assert choose_overlap(512, 32, None) == (128, 32)


def test_what_a_network_sees_is_known_without_its_weights():
    task = build()
    seen = architecture_reach(task.network, 3, 32)
    meta = build()
    for module in meta.network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = torch.nn.Parameter(parameter.to("meta"), requires_grad=False)
    assert architecture_reach(meta.network, 3, 32) == seen > 100
    assert all(p.is_meta for p in meta.network.parameters())
