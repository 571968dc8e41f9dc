"""Pose: counts, every network learns and serves, ground truth fed back, what bad input states."""

import json

import numpy as np
import pytest
import torch

from datamodules.scene_data import SceneData
from tasks.pose import PoseTask
from tasks.pose.fields import draw_fields, read_people
from tasks.pose.network import FieldOutputs, HeatmapOutputs, OffsetOutputs, PlaceOutputs, flipped_limbs
from tasks.pose.offsets import draw_offsets
from visionkit.crops import PersonCrop
from visionkit.errors import UsageError
from visionkit.families.keypoints.heatmaps import draw_gaussians
from visionkit.geometry import InputSpec
from visionkit.predictions import Poses, Prediction
from visionkit.predictor import Predictor
from visionkit.skeleton import Skeleton
from visionkit.types import View

COCO = Skeleton.of("coco17")
ARCHITECTURES = ("simple_baseline", "cpm", "deeppose", "openpose")
CODINGS = (*ARCHITECTURES, "simple_baseline udp", "cpm udp")


def tiny(architecture="simple_baseline", **arguments):
    """A small task; `udp` behind the architecture's name stands for that encoding."""
    architecture, _, encoding = architecture.partition(" ")
    fit = "letterbox" if architecture == "openpose" else "stretch"
    own = {"deeppose": {"stages": 2}, "cpm": {"stage_width": 16}, "openpose": {"stage_width": 16}}
    small = {} if architecture == "keypoint_rcnn" else {"width": 32, **own.get(architecture, {})}
    given = {architecture: {**small, **({"encoding": encoding} if encoding else {}), **arguments.pop("own", {})}}
    defaults = {"input": InputSpec(size=(64, 64), resize_mode=fit)}
    return PoseTask("test_resnet", architecture=architecture, **{**defaults, **given, **arguments})


def scenes(task, **arguments):
    return SceneData("keypoints", count=6, eval_count=4, size=(96, 128), crop=task.crop, input=task.input, **arguments)


@pytest.mark.parametrize(("name", "parameters"), [("resnet50", 33_999_697), ("resnet18", 15_376_721)])
def test_parameter_counts_are_the_published_ones(name, parameters):
    with torch.device("meta"):
        task = PoseTask(name)
    assert sum(p.numel() for p in task.network.parameters()) == parameters


@pytest.mark.parametrize("architecture", CODINGS)
def test_every_architecture_trains_evaluates_and_serves(architecture):
    torch.manual_seed(0)
    task = tiny(architecture)
    data = scenes(task, batch_size=4)
    batch = next(iter(data.train_dataloader()))
    loss = task.train().training_step(batch, 0)
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is not None for p in task.parameters())
    task.eval()
    with torch.no_grad():
        for batch in data.val_dataloader():
            decoded = task.decode(task.run(batch))
            task.measure(decoded, batch)
    values = task.metrics.compute()
    assert {"ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large"} <= set(values)
    assert len(task.tabulate(values)["per keypoint"]) == 17
    response = Predictor(task)(data.samples("val")[0].image)
    assert isinstance(response, Poses)
    assert Prediction.from_json(json.loads(json.dumps(response.to_json()))) == response


@pytest.mark.parametrize("architecture", CODINGS)
def test_the_flip_test_makes_the_predictions_of_a_flipped_image_the_flipped_predictions(architecture):
    torch.manual_seed(1)
    task = tiny(architecture).eval()
    for p in task.network.parameters():
        p.data += 0.02 * torch.randn(p.shape)
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        plain, other = task(image), task(image.flip(-1))
        assert not torch.allclose(plain[0], task.network.flipped(other)[0], atol=1e-4)
        served = task.augmented(task, flip_tta=True)(image)
        task.network.flip_tta = True
        a, b = task(image), task(image.flip(-1))
    assert all(torch.allclose(*each, atol=1e-6) for each in zip(a, served, strict=True))
    for ours, flipped in zip(a, task.network.flipped(b), strict=True):
        assert torch.allclose(ours, flipped, atol=1e-5)
    assert torch.allclose(a[0], (plain[0] + task.network.flipped(other)[0]) / 2, atol=1e-5)


def test_fields_of_a_flipped_image_are_the_flipped_fields():
    task = tiny("openpose")
    keypoints = torch.rand(2, 17, 3) * 56 + 4
    keypoints[..., 2] = 2
    other = keypoints.clone()
    other[..., 0] = 64 - other[..., 0]
    other = other[:, list(COCO.flip_indices)]
    maps = [draw_gaussians(k[..., :2], (16, 16), 4.0, 1.5).amax(dim=0)[None, None] for k in (keypoints, other)]
    fields = [draw_fields(k, COCO.limbs, (16, 16), 4.0, 1.0)[None, None] for k in (keypoints, other)]
    back = task.network.flipped((maps[1], fields[1]))
    assert torch.allclose(back[0], maps[0], atol=1e-5)
    assert torch.allclose(back[1], fields[0], atol=1e-4)


def test_offsets_of_a_flipped_image_are_the_flipped_offsets():
    task = tiny("cpm udp")
    places = torch.rand(3, 17, 2, generator=torch.Generator().manual_seed(0)) * 64
    other = torch.stack([64 - places[..., 0], places[..., 1]], dim=-1)[:, list(COCO.flip_indices)]
    (maps, ways), (other_maps, other_ways) = (
        [each.flatten(1, 2)[:, None] if each.ndim == 5 else each[:, None] for each in draw_offsets(p, (16, 16), 4, 2.0)]
        for p in (places, other)
    )
    back = task.network.flipped((other_maps, other_ways))
    assert torch.allclose(back[0], maps) and torch.allclose(back[1], ways, atol=1e-5)


def people_at(centers, height=120.0):
    """Standing figures with COCO's keypoints, (N, 17, 3)."""
    shape = np.array([
        (0, -45), (2, -47), (-2, -47), (5, -46), (-5, -46), (12, -34), (-12, -34), (17, -17), (-17, -17), (19, 0),
        (-19, 0), (8, 2), (-8, 2), (9, 26), (-9, 26), (10, 48), (-10, 48),
    ], dtype=np.float32) * (height / 100)  # fmt: skip
    places = np.stack([shape + center for center in centers])
    return np.concatenate([places, np.full((*places.shape[:2], 1), 2, np.float32)], axis=2).astype(np.float32)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_drawn_maps_and_fields_are_read_back_as_the_same_people(count):
    centers = [(40 + 75 * k + 0.3, 70 + 9.7 * (k % 3)) for k in range(count)]
    truth = torch.from_numpy(people_at(centers)) if count else torch.zeros(0, 17, 3)
    size = (40, 112)
    maps = draw_gaussians(truth[..., :2], size, 4.0, 1.2)
    maps = maps.amax(dim=0) if count else torch.zeros(17, *size)
    found = read_people(maps, draw_fields(truth, COCO.limbs, size, 4.0, 1.0), COCO.limbs, 4.0)
    assert len(found.scores) == count
    if count:
        distance = (found.places[:, None] - truth[None, ..., :2]).norm(dim=-1)  # (found, true, K)
        nearest = distance.mean(dim=-1).argmin(dim=1)
        assert sorted(nearest.tolist()) == list(range(count))
        assert distance[torch.arange(count), nearest].max() < 1.0


@pytest.mark.parametrize("architecture", CODINGS)
def test_ground_truth_through_each_network_s_own_coding_gives_ap_1(architecture):
    if architecture == "openpose":
        task = tiny(architecture, input=InputSpec(size=(192, 256), resize_mode="letterbox"))
    else:
        # Wide crops: what a figure hides of itself behind others may lie outside the box of what is seen.
        own = {} if architecture == "deeppose" else {"sigma": 1.2}
        task = tiny(architecture, input=InputSpec(size=(128, 96), resize_mode="stretch"), own=own, crop=PersonCrop(3.0))
    data = SceneData(
        "keypoints", count=6, eval_count=8, size=(192, 256), crop=task.crop, input=task.input, batch_size=4
    )
    limbs, cell = task.skeleton.limbs, 4.0
    for batch in data.val_dataloader():
        size = tuple(int(side / cell) for side in batch["inputs"]["image"].shape[-2:])
        if architecture == "openpose":
            drawn = [draw_gaussians(t["keypoints"][..., :2], size, cell, 0.6) for t in batch["target"]]
            seen = [(t["keypoints"][..., 2] > 0)[..., None, None] for t in batch["target"]]
            maps = torch.stack([(d * s).amax(dim=0) for d, s in zip(drawn, seen, strict=True)])
            fields = torch.stack([draw_fields(t["keypoints"], limbs, size, cell, 1.0) for t in batch["target"]])
            outputs = FieldOutputs(maps[:, None], fields[:, None])
        else:
            places = torch.stack([t["keypoints"][0, :, :2] for t in batch["target"]])
            outputs = HeatmapOutputs(draw_gaussians(places, size, cell, 1.2)[:, None])
            if "udp" in architecture:
                discs, ways = draw_offsets(places, size, cell, 1.2)
                outputs = OffsetOutputs(discs[:, None], ways.flatten(1, 2)[:, None])
            if architecture == "deeppose":
                outputs = PlaceOutputs(
                    places[:, None] / torch.tensor([96.0, 128.0]), torch.full(places.shape[:2], -4.0)
                )
        task.measure(task.decode(outputs), batch)
    values = task.metrics.compute()
    # Small figures that overlap share cells of a whole image's maps; a crop has its own.
    assert float(values["ap"]) >= (0.8 if architecture == "openpose" else 0.999)


def test_crops_of_rotation_and_flip_are_undone_within_a_thousandth_of_a_pixel():
    from visionkit.geometry import Geometry

    rng = np.random.default_rng(0)
    spec = InputSpec(size=(128, 96), resize_mode="stretch")
    for _ in range(50):
        corner = rng.uniform(-40, 200, 2)
        box = PersonCrop().region((*corner, *(corner + rng.uniform(20, 300, 2))), spec.size)
        view = View(box, bool(rng.random() < 0.5), float(rng.uniform(-180, 180)) if rng.random() < 0.7 else 0.0)
        geometry = Geometry.plan(spec, (333, 477), view)
        points = torch.from_numpy(rng.uniform(-50, 500, (64, 2)).astype(np.float32))
        assert (geometry.invert_points(geometry.apply_points(points)) - points).abs().max() < 1e-3


@pytest.mark.parametrize("name", ["coco17", "mpii16", "lsp14", "ap10k17"])
def test_limbs_have_reflections(name):
    skeleton = Skeleton.of(name)
    found = flipped_limbs(skeleton.limbs, skeleton.flip_indices)
    assert found is not None and sorted(number for number, _ in found) == list(range(len(skeleton.limbs)))


def test_bad_arguments_state_what_to_do():
    with pytest.raises(UsageError, match=r"architecture 'openpos'.*did you mean 'openpose'"):
        PoseTask("test_resnet", architecture="openpos")
    with pytest.raises(UsageError, match=r"deeppose\.encoding: architecture deeppose has no such .* has stride, width"):
        tiny("deeppose udp")
    with pytest.raises(UsageError, match=r"model\.cpm\.encoding: 'upd' is not one of gaussian, udp"):
        tiny("cpm upd")
    with pytest.raises(UsageError, match=r"model\.stages: .*model\.cpm\.stages or model\.deeppose\.stages or"):
        tiny(stages=2)
    with pytest.raises(UsageError, match="openpose processes whole images"):
        tiny("openpose", crop=PersonCrop())
    with pytest.raises(UsageError, match="one type of subject"):
        tiny(classes=["person", "dog"])
    with pytest.raises(UsageError, match=r"skeleton 'coco71'.*did you mean 'coco17'"):
        tiny(skeleton="coco71")
    with pytest.raises(UsageError, match="needs edges"):
        tiny("openpose", skeleton={"name": "dots", "keypoints": ["a", "b"]})
    with pytest.raises(UsageError, match="edges that are flipped counterparts"):
        lame = {"keypoints": ["a", "left", "right"], "flip_pairs": [["left", "right"]], "edges": [["a", "left"]]}
        tiny("openpose", skeleton={"name": "lame", **lame}, flip_tta=True)
    with pytest.raises(UsageError, match="multiple of 4, not 66"):
        tiny(input=InputSpec(size=(64, 66), resize_mode="stretch"), flip_tta=True)
    with pytest.raises(UsageError, match="keypoints of coco17"):
        SceneData("keypoints", skeleton="hand21")


def test_several_people_in_one_crop_and_other_keypoint_counts_are_refused():
    task = tiny()
    outputs = task(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(UsageError, match="3 people, and this network processes one per crop"):
        task.losses(outputs, [{"keypoints": torch.zeros(3, 17, 3)}])
    with pytest.raises(UsageError, match="16 keypoints per person and the skeleton 17"):
        task.losses(outputs, [{"keypoints": torch.zeros(1, 16, 3)}])
    assert sum(value.item() for value in task.losses(outputs, [{"keypoints": torch.zeros(0, 17, 3)}]).values()) == 0


def test_weights_for_other_keypoints_are_refused():
    task, other = tiny(), tiny(skeleton="ap10k17", classes=["person"])
    checkpoint = {}
    task.on_save_checkpoint(checkpoint)
    task.on_load_checkpoint(checkpoint)
    with pytest.raises(UsageError, match="keypoint 0 is 'nose' and that of skeleton ap10k17 is 'left_eye'"):
        other.on_load_checkpoint(checkpoint)


def test_words_and_redrawing_ask_no_network():
    from ui.views import poses, views

    image = np.full((100, 120, 3), 80, np.uint8)
    places = people_at([(40, 50), (90, 50)], height=90)
    scores = np.array([0.9, 0.2])
    keypoint_scores = np.tile(np.linspace(0.1, 0.9, 17), (2, 1))
    boxes = np.concatenate([places[..., :2].min(axis=1), places[..., :2].max(axis=1)], axis=1)
    response = Poses(COCO, places[..., :2], keypoint_scores, scores, boxes)
    assert response.text() == f"1 person ({int((keypoint_scores[0] >= 0.3).sum())} of 17 keypoints)"
    assert Poses.none(COCO).text() == "0 people found"
    kept, drawn, score, words, table = views()["poses"].show(response, image, None)
    assert score == pytest.approx(0.3) and words.startswith("1 person, 13 keypoints") and len(table) == 13
    again, words, table = poses._redraw(kept, 0.95)
    assert words.startswith("0 people") and table == [] and not np.array_equal(again, drawn)
    all_of_them = poses._redraw(kept, 0.0)
    assert all_of_them[1] == "2 people, 34 keypoints" and all_of_them[2][0][:2] == [1, "nose"]
