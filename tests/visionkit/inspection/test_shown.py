"""What is shown of a network: feature maps, filters, maximizing images, occlusion, maps of images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tasks.classification.task import ClassificationTask
from visionkit.backbones.build import build_model
from visionkit.errors import EnvironmentFault, UsageError
from visionkit.geometry import InputSpec
from visionkit.inspection.embedding import draw, embed, neighbors, project, write_table
from visionkit.inspection.feature_maps import feature_maps, first_filters, grid, maps_of
from visionkit.inspection.maximization import as_pixels, maximize
from visionkit.inspection.occlusion import occlude
from visionkit.predictor import Predictor


def test_maps_have_their_sides_last_in_every_layout() -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 64, 96)
    for name, layer, shape in (
        ("test_resnet", "layer1", (32, 16, 24)),
        ("test_convnext", "stages.0.blocks.0.mlp.fc1", (None, 16, 24)),
        ("test_vit", "blocks.1.norm1", (64, 4, 6)),
    ):
        network = build_model(name, {"img_size": (64, 96)} if name == "test_vit" else {}, None).eval()
        maps = feature_maps(network, [image], layer)
        assert maps.shape[1:] == shape[1:] and (shape[0] is None or len(maps) == shape[0]), name
    network = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert torch.equal(feature_maps(network, [image], "0"), network[0](image)[0])
    with pytest.raises(UsageError, match="no sides"):
        feature_maps(network, [image], "2")


def test_maps_of_a_model_are_made_where_its_weights_are(monkeypatch: pytest.MonkeyPatch) -> None:
    task = ClassificationTask("test_resnet", classes=("a", "b"), input=InputSpec((64, 64), "stretch")).eval()
    image, layer = np.zeros((48, 64, 3), np.uint8), "backbone.model.layer1"
    maps = maps_of(Predictor(task), image, layer)
    assert maps.ndim == 3 and maps.isfinite().all()
    predictor = Predictor(task)
    task.to("meta")  # another device, which every machine has
    given: list[torch.device] = []

    def found(network: nn.Module, inputs: list[torch.Tensor], layer: str) -> torch.Tensor:
        given.extend(each.device for each in inputs)
        return maps

    monkeypatch.setattr("visionkit.inspection.feature_maps.feature_maps", found)
    assert maps_of(predictor, image, layer) is maps and given == [torch.device("meta")]


def test_a_grid_gives_each_map_its_own_contrast() -> None:
    maps = torch.tensor([[[0.0, 1.0], [2.0, 4.0]], [[-9.0, -9.0], [-9.0, -9.0]], [[5.0, 6.0], [5.0, 5.0]]])
    sheet = grid(maps)
    assert sheet.shape == (2 * 98 + 2, 2 * 98 + 2, 3)
    assert [sheet[y, x, 0] for y, x in ((2, 2), (2, 97), (97, 97))] == [0, 64, 255]
    assert sheet[10, 110, 0] == 0 and sheet[100, 60, 0] == 255 and sheet[150, 150, 0] == 255


def test_filters_of_the_first_convolution() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 7), nn.Conv2d(5, 2, 3))
    name, filters = first_filters(network)
    assert name == "0" and filters.shape == (5, 7, 7, 3)
    assert np.array_equal(filters[1, :, :, 2], network[0].weight[1, 2].detach().numpy())
    assert first_filters(nn.Conv2d(1, 4, 3))[1].shape == (4, 3, 3)
    with pytest.raises(UsageError, match="no convolution"):
        first_filters(nn.Linear(3, 3))


def test_an_image_that_maximizes_a_channel() -> None:
    """A filter for red: the image turns red, and the activation grows."""
    network = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU())
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].weight[1, 0], network[0].weight[1, 1:] = 1.0, -0.5
        network[0].bias.zero_()
    image, found = maximize(network, (1, 3, 16, 16), "0", 1, steps=40)
    assert found[-1] > 10 * abs(found[0]) and float(image[0].mean()) > 0.3 > -0.2 > float(image[1].mean())
    pixels = as_pixels(image, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert pixels.shape == (16, 16, 3) and pixels[..., 0].mean() > 145 > pixels[..., 2].mean()
    rough, smooth = (maximize(network, (1, 3, 16, 16), "0", 1, steps=40, variation=v)[0] for v in (0.0, 50.0))
    assert float(smooth.diff(dim=-1).abs().mean()) < float(rough.diff(dim=-1).abs().mean())
    with pytest.raises(UsageError, match="channels 0 to 1"):
        maximize(network, (1, 3, 16, 16), "0", 2, steps=1)


class _Corner(nn.Module):
    """Class 0 is the brightness of the upper left quarter."""

    def forward(self, image: torch.Tensor):
        from tasks.classification.network import ClassificationOutputs

        light = image[:, :, : image.shape[2] // 2, : image.shape[3] // 2].mean((1, 2, 3))
        return ClassificationOutputs(torch.stack([light, -light, 0 * light], 1))


def test_occlusion_finds_the_part_that_counts() -> None:
    task = ClassificationTask("test_resnet", classes=("a", "b", "c"), input=InputSpec((32, 32), "stretch")).eval()
    backbone = task.network.backbone
    task.network = _Corner()
    task.network.backbone = backbone
    image = np.full((40, 60, 3), 255, np.uint8)
    found = occlude(Predictor(task), image)
    assert found.name == "a" and found.values.shape == (40, 60)
    assert found.values[:18, :27].min() > 0.1 and found.values[28:].max() == 0 and found.values[:, 42:].max() == 0
    with pytest.raises(UsageError, match="patch"):
        occlude(Predictor(task), image, patch=2)


def test_projections_and_neighbors(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    near = generator.normal(0, 0.1, (6, 16)) + np.eye(16)[0] * 3
    far = generator.normal(0, 0.1, (6, 16)) + np.eye(16)[1] * 3
    vectors = np.concatenate([near, far]).astype(np.float32)
    for method in ("pca", "tsne"):
        places = project(vectors, method)
        assert places.shape == (12, 2)
        centers = places[:6].mean(0), places[6:].mean(0)
        spread = max(np.linalg.norm(places[:6] - centers[0], axis=1).max(), 1e-6)
        assert np.linalg.norm(centers[0] - centers[1]) > spread, method
    centered = vectors - vectors.mean(0)
    values = np.linalg.eigvalsh(centered.T @ centered)[::-1][:2]
    assert np.allclose((project(vectors) ** 2).sum(0), values, rtol=1e-3), "the largest variances"
    order, similar = neighbors(vectors, 3)
    assert ((order[:6] < 6).all() and (order[6:] >= 6).all()) and (np.diff(similar, axis=1) <= 0).all()
    assert not any(number in row for number, row in enumerate(order))
    with pytest.raises(UsageError, match="'tsne'"):
        project(vectors, "tsen")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match="umap-learn"):
        project(vectors, "umap")


def test_images_are_embedded_drawn_and_listed(tmp_path: Path) -> None:
    task = ClassificationTask("test_resnet", classes=("a", "b"), input=InputSpec((64, 64), "stretch")).eval()
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    noise = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for number, path in enumerate(paths):
        Image.fromarray(noise if number < 2 else np.full_like(noise, 80 * number)).save(path)
    vectors = embed(Predictor(task), paths)
    assert vectors.shape[0] == 4 and np.isfinite(vectors).all() and vectors.shape[1] > 16
    places = project(vectors)
    sheet = np.asarray(draw(places, paths))
    assert sheet.shape == (1200, 1200, 3) and (sheet != 255).any(-1).sum() >= 56 * 56
    write_table(tmp_path / "map.csv", places, vectors, paths)
    rows = list(csv.DictReader((tmp_path / "map.csv").open()))
    assert len(rows) == 4 and rows[0]["neighbor 1"] == str(paths[1]) and rows[0]["similarity 1"] == "1.0000"
