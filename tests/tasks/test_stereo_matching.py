"""MC-CNN and the classical steps behind its costs, against plain loops and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.disparity_files import read_disparity
from tasks.stereo import StereoTask
from tasks.stereo.mc_cnn import MCCNNFast
from tests.real_data import real_data
from visionkit.errors import UsageError
from visionkit.families.matching import cross_based
from visionkit.families.matching.classical_stereo import block_matching
from visionkit.families.matching.refinement import (
    bilateral_filter,
    interpolated,
    median_filter,
    of_right_image,
    subpixel,
)
from visionkit.families.matching.semi_global import Penalties, semi_global
from visionkit.geometry import InputSpec
from visionkit.predictor import Predictor


@pytest.mark.parametrize(("name", "count"), [("mc_cnn_fast", 111_424), ("mc_cnn_accurate", 870_449)])
def test_networks_have_the_papers_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        network = StereoTask.architectures[name]().build(None, InputSpec())
    assert sum(each.numel() for each in network.parameters()) == count


def test_semi_global_matching_is_that_of_plain_loops() -> None:
    rng = np.random.default_rng(0)
    cost, left, right = rng.random((4, 5, 6)), rng.random((5, 6)), rng.random((5, 6))
    p = Penalties(0.3, 0.9, 2.0, 4.0, 1.5, 0.4)
    bins, height, width = cost.shape
    expected = np.zeros_like(cost)
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        paths = np.zeros_like(cost)
        for y in range(height)[:: dy or 1]:
            for x in range(width)[:: dx or 1]:
                by, bx = y - dy, x - dx
                for d in range(bins):
                    if not (0 <= by < height and 0 <= bx < width):
                        paths[d, y, x] = cost[d, y, x]
                        continue
                    there = min(x, bx) >= d
                    edges = int(abs(left[y, x] - left[by, bx]) >= p.edge)
                    if there:
                        edges += int(abs(right[y, x - d] - right[by, bx - d]) >= p.edge)
                    factor = (1, 1 / p.q1, 1 / p.q2)[edges]
                    p1, p2 = p.p1 * factor / (p.vertical if dy else 1), p.p2 * factor
                    before = paths[:, by, bx]
                    ways = [before[d], before.min() + p2]
                    ways += [before[d + s] + p1 for s in (-1, 1) if 0 <= d + s < bins]
                    paths[d, y, x] = cost[d, y, x] + min(ways) - before.min()
        expected += paths / 4
    found = semi_global(*(torch.from_numpy(each)[None] for each in (cost, left, right)), p)[0]
    # Left of the right image's first column there is no edge to be seen.
    assert np.allclose(found[:, :, 4:], expected[:, :, 4:], atol=1e-12)


def test_crosses_end_at_edges_and_their_means_are_those_of_plain_loops() -> None:
    image = torch.tensor([[[0.0, 0.0, 0.0, 1.0, 1.0, 0.0]]])
    arms = cross_based.arms_of(image, 3, 0.5)
    assert arms.left.tolist() == [[[0, 1, 2, 0, 1, 0]]] and arms.right.tolist() == [[[2, 1, 0, 1, 0, 0]]]
    rng = torch.Generator().manual_seed(0)
    left, right = ((torch.rand(1, 5, 6, generator=rng) * 3).round() for _ in range(2))
    ours, theirs = (cross_based.arms_of(each, 4, 0.5) for each in (left, right))
    cost = torch.rand(1, 2, 5, 6, generator=rng)
    found = cross_based.aggregate(cost, ours, theirs, 1)

    def arm(name: str, y: int, x: int, d: int) -> int:
        other = int(getattr(theirs, name)[0, y, x - d]) if x >= d else 0
        return min(int(getattr(ours, name)[0, y, x]), other)

    for d in range(2):
        for y in range(5):
            for x in range(6):
                region = [
                    float(cost[0, d, j, i])
                    for j in range(y - arm("up", y, x, d), y + arm("down", y, x, d) + 1)
                    for i in range(x - arm("left", j, x, d), x + arm("right", j, x, d) + 1)
                ]
                assert float(found[0, d, y, x]) == pytest.approx(np.mean(region), abs=1e-6)


def test_occluded_pixels_get_the_background_and_mismatches_the_median() -> None:
    left, right = torch.full((1, 7, 9), 2), torch.full((1, 7, 9), 2)
    left[0, 3, 5] = 4  # fits nothing that the right image states at 1, but 2 at 3: a mismatch
    assert torch.equal(interpolated(left, right, 6), torch.full((1, 7, 9), 2))
    left = torch.tensor([[[1, 1, 1, 3, 5, 5, 5, 5, 5]]])
    right = torch.tensor([[[5, 1, 1, 9, 9, 9, 9, 9, 9]]])
    right[0, 0, :3] = torch.tensor([5, 1, 5])
    assert interpolated(left, right, 6)[0, 0, 3] == 1
    nothing = torch.full((1, 2, 3), 1)
    assert torch.equal(interpolated(nothing, nothing + 9, 4), nothing)


def test_subpixel_places_filters_and_the_costs_of_the_right_image() -> None:
    place = torch.arange(5, dtype=torch.float64).view(1, 5, 1, 1)
    cost = ((place - 2.3) ** 2).expand(1, 5, 1, 2).clone()
    assert subpixel(torch.tensor([[[2, 4]]]), cost)[0, 0].tolist() == pytest.approx([2.3, 4.0])
    spot = torch.zeros(1, 7, 7)
    spot[0, 3, 3] = 9.0
    assert not median_filter(spot).any()
    assert torch.allclose(bilateral_filter(spot, 1.0, 2.0), spot)  # differs by more than the threshold
    mild = bilateral_filter(spot / 9, 1.0, 2.0)
    assert 0 < float(mild[0, 3, 3]) < 1 and float(mild[0, 3, 2]) > 0
    volume = torch.arange(12.0).view(1, 2, 1, 6)
    assert of_right_image(volume, 99.0)[0, :, 0].tolist() == [[0, 1, 2, 3, 4, 5], [7, 8, 9, 10, 11, 99]]


def test_patches_that_match_are_trained_to_score_higher() -> None:
    torch.manual_seed(0)
    task = StereoTask("mc_cnn_fast", mc_cnn_fast={"max_disparity": 8, "width": 8, "layers": 3, "pairs": 500}).train()
    rng = np.random.default_rng(0)
    wide = torch.from_numpy(rng.integers(0, 256, (2, 3, 24, 45), dtype=np.uint8))
    left, right = wide[..., :40], wide[..., 5:]
    target = {"disparity": torch.full((2, 24, 40), 5.0)}
    optimizer = torch.optim.Adam(task.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        (loss,) = task.losses(task(left, right), target).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[0] > 0.04 and np.mean(losses[-5:]) < 0.1 * losses[0]
    task.eval()
    with torch.no_grad():
        outputs = task(left, right)
        assert task.losses(outputs, target) == task.losses(outputs, target), "evaluation draws the same patches"
        found = task.decode(outputs)
    assert outputs.cost.shape == (2, 8, 24, 40)
    assert float((found[:, 4:-4, 12:-4] - 5).abs().mean()) < 0.5


def test_the_same_patch_costs_the_same_in_both_networks_whatever_is_beside_it() -> None:
    torch.manual_seed(0)
    for name in ("mc_cnn_fast", "mc_cnn_accurate"):
        arguments = {"max_disparity": 6, "width": 6, "layers": 2}
        if name == "mc_cnn_accurate":
            arguments |= {"units": 8, "hidden": 2}
        network = StereoTask(name, **{name: arguments}).eval().network
        left, right = torch.rand(1, 3, 9, 20), torch.rand(1, 3, 9, 20)
        with torch.no_grad():
            outputs = network(left, right)
            ours, theirs = outputs.features
            prepared = network.prepared(ours[:, :, 4:5, 11:12], theirs[:, :, 4:5, 8:9])
            assert float(outputs.cost[0, 3, 4, 11]) == pytest.approx(-float(network.match(*prepared)), abs=1e-5)
        assert bool((outputs.cost[0, 4, :, :4] == network.worst).all())


def test_distances_that_overlap_are_refused() -> None:
    with pytest.raises(UsageError, match="a patch that does not match lies farther"):
        StereoTask("mc_cnn_fast", mc_cnn_fast={"negative": (0.4, 2.0)})


def test_block_matching_and_the_pipeline_on_real_images() -> None:
    folder = real_data("stereo/middlebury_cones")
    truth = read_disparity(folder / "disp_left.tif")
    left, right = (np.asarray(Image.open(folder / f"{side}.png")) for side in ("left", "right"))
    found = block_matching(left, right)
    known = truth > 0
    both, error = known & (found > 0), np.abs(found - truth)
    assert both.sum() / known.sum() == pytest.approx(0.821, abs=0.003)
    assert error[both].mean() == pytest.approx(0.555, abs=0.01)
    assert (error[both] > 1).mean() == pytest.approx(0.058, abs=0.002)
    assert ((error > 3) | (found == 0))[known].mean() == pytest.approx(0.211, abs=0.003)
    with pytest.raises(UsageError, match="multiple of 16"):
        block_matching(left, right, 40)
    # Random convolutions describe patches well enough for the pipeline, which leaves less wrong than block matching.
    torch.manual_seed(0)
    part = slice(150, 250), slice(60, 320)
    network = MCCNNFast(max_disparity=64, blur_sigma=0.0)
    task = StereoTask("mc_cnn_fast", mc_cnn_fast=network).eval()
    images = {side: np.repeat(image[part][..., None], 3, 2) for side, image in (("left", left), ("right", right))}
    seen = known[part] & (np.arange(260) >= 64)
    wrong = np.abs(Predictor(task)(images).values - truth[part])[seen] > 2
    assert wrong.mean() < 0.25
