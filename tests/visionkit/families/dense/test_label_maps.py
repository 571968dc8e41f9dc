"""Label maps from coarse scores: the same as enlarging everything, at exactly the file's size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from visionkit.families.dense.label_maps import best, labels_in_file, labels_in_input
from visionkit.geometry import Geometry, InputSpec
from visionkit.types import View


def blobs(classes: int, size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """Scores as networks give them: smooth, one class at a time highest over larger parts."""
    noise = torch.randn(1, classes, max(2, size[0] // 4), max(2, size[1] // 4), generator=torch.manual_seed(seed))
    return F.interpolate(noise, size=size, mode="bicubic")[0] + 0.1 * torch.randn(classes, *size)


@pytest.mark.parametrize("classes", [1, 2, 21, 300])
@pytest.mark.parametrize(
    ("cells", "size"), [((24, 32), (96, 128)), ((24, 32), (90, 121)), ((7, 5), (7, 5)), ((1, 9), (4, 36))]
)
def test_equals_interpolation_and_argmax(classes, cells, size):
    scores = blobs(classes, cells)
    stride = -(-size[0] // cells[0])
    canvas = (cells[0] * stride, cells[1] * stride)
    whole = F.interpolate(scores[None], size=canvas, mode="bilinear", align_corners=False)[0]
    wanted = whole.argmax(dim=0)[: size[0], : size[1]]
    found = labels_in_input(scores[None], size, canvas)[0]
    assert found.shape == size
    assert (found != wanted).float().mean() < 1e-4


def test_highest_of_each_cell_whatever_the_memory_format():
    scores = torch.randn(9, 31, 17)
    assert torch.equal(best(scores).long(), scores.argmax(dim=0))
    last = scores.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(best(last).long(), scores.argmax(dim=0))


@pytest.mark.parametrize("fit", ["crop", "letterbox", "stretch", "pad", "native"])
@pytest.mark.parametrize("file", [(1, 1), (37, 53), (64, 64), (201, 120), (3, 500)])
@pytest.mark.parametrize("stride", [1, 4])
def test_back_to_exactly_the_files_size_and_place(fit, file, stride):
    """The network's scores state in which quarter of the image a pixel lies; so does every pixel that comes back."""
    spec = InputSpec(size=(64, 96), resize_mode=fit, divisor=32)
    geometry = Geometry.plan(spec, file)
    height, width = -(-geometry.size[0] // 32) * 32, -(-geometry.size[1] // 32) * 32
    y, x = torch.meshgrid(
        (torch.arange(height // stride) + 0.5) * stride, (torch.arange(width // stride) + 0.5) * stride, indexing="ij"
    )
    back = geometry.invert_points(torch.stack([x, y], dim=-1))
    low, left = back[..., 1] - file[0] / 2, back[..., 0] - file[1] / 2
    scores = torch.stack([-low - left, -low + left, low - left, low + left])
    labels = labels_in_file(scores, geometry, (height, width))
    assert labels.shape == file and labels.dtype == np.uint8
    seen = labels != 255
    assert seen.any()
    if fit != "crop" and file != (3, 500):
        assert seen.all()
    y, x = np.indices(file) + 0.5
    wanted = 2 * (y > file[0] / 2) + (x > file[1] / 2)
    # Pixels on the line between quarters have no right side.
    reach = stride / min(geometry.scale) + 1
    clear = seen & (abs(y - file[0] / 2) > reach) & (abs(x - file[1] / 2) > reach)
    assert (labels[clear] == wanted[clear]).all()


def test_equals_the_geometrys_own_way_back():
    for fit in ("crop", "letterbox", "stretch"):
        geometry = Geometry.plan(InputSpec(size=(64, 96), resize_mode=fit), (100, 171))
        scores = blobs(5, (64, 96))
        wanted = geometry.invert_map(scores, fill=-1e9)
        found = labels_in_file(scores, geometry, (64, 96))
        seen = (wanted[0] > -1e8).numpy()
        assert ((found != wanted.argmax(dim=0).numpy()) & seen).mean() < 0.003, "at the border of the content alone"
        assert (found[~seen] == 255).all()


def test_turned_views_come_back_too():
    view = View((10, 10, 50, 40), rotation=20.0)
    geometry = Geometry.plan(InputSpec(size=(32, 32), resize_mode="stretch"), (60, 70), view)
    labels = labels_in_file(torch.stack([torch.ones(32, 32), torch.zeros(32, 32)]), geometry, (32, 32))
    assert labels.shape == (60, 70) and labels[25, 30] == 0 and labels[0, 0] == 255


def test_flipped_images_are_flipped_back():
    view = View((0, 0, 40, 20), flip=True)
    geometry = Geometry.plan(InputSpec(size=(20, 40), resize_mode="stretch"), (20, 40), view)
    ramp = torch.arange(40.0).repeat(20, 1)
    labels = labels_in_file(torch.stack([ramp, 39 - ramp]), geometry, (20, 40))
    assert (labels[:, :20] == 0).all() and (labels[:, 20:] == 1).all()
