"""Samples of several images and of clips: they stay together through views, batches and targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datamodules.augmentation import AlbumentationsAugment, DenseAugment
from tests.contracts.cases import build
from visionkit.errors import DataError, UsageError
from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageSource
from visionkit.inputs import Clip, check_names, last_frame, reference_images
from visionkit.loading import collate, rng_for
from visionkit.preprocess import Preprocessor
from visionkit.targets import TargetField, apply_target, field_of, register
from visionkit.types import Sample, View

SPEC = InputSpec(size=(32, 48), resize_mode="letterbox")


def image(seed: int, height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pair(**changes: object) -> Sample:
    inputs = {"left": ImageSource(image(0), "left"), "right": ImageSource(image(1), "right")}
    return Sample(inputs, {}, "pair", **changes)  # type: ignore[arg-type]


def test_several_inputs_take_one_view_and_one_geometry():
    sample = pair(view=View((7, 3, 43, 33), flip=True, rotation=10.0))
    example = Preprocessor(SPEC)(sample)
    assert list(example["inputs"]) == ["left", "right"]
    for name, source in sample.inputs.items():
        alone = Preprocessor(SPEC)(Sample.of(last_frame(source), view=sample.view))
        assert alone["geometry"] == example["geometry"]
        assert torch.equal(alone["inputs"]["image"], example["inputs"][name])


def test_inputs_without_a_tie_leave_the_view_to_the_reference():
    spec = InputSpec(size=(32, 32), resize_mode="stretch", tied=False)
    inputs = {"search": ImageSource(image(0)), "template": ImageSource(image(1, 20, 20))}
    example = Preprocessor(spec)(Sample(inputs, view=View((0, 0, 30, 30))))
    assert example["geometry"].source == (40, 60) and example["geometry"].cut == (0, 0, 30, 30)
    whole = Preprocessor(spec)(Sample.of(ImageSource(image(1, 20, 20))))
    assert torch.equal(example["inputs"]["template"], whole["inputs"]["image"])


def test_tied_images_of_different_sizes_are_refused():
    inputs = {"left": ImageSource(image(0)), "right": ImageSource(image(1, 40, 61), "b.png")}
    with pytest.raises(DataError, match=r"b\.png: 61x40 pixels, .* have 60x40"):
        Preprocessor(SPEC)(Sample(inputs))


def test_every_frame_of_a_clip_is_prepared_alike():
    frames = [ImageSource(image(k)) for k in range(3)]
    spec = InputSpec(size=(32, 48), frames=3)
    example = Preprocessor(spec)(Sample({"clip": Clip(frames, (0.0, 0.04, 0.08))}, view=View((3, 3, 40, 30), True)))
    assert example["inputs"]["clip"].shape == (3, 3, 32, 48)
    for frame, shown in zip(frames, example["inputs"]["clip"], strict=True):
        alone = Preprocessor(InputSpec(size=(32, 48)))(Sample.of(frame, view=View((3, 3, 40, 30), True)))
        assert torch.equal(alone["inputs"]["image"], shown)
    batch = collate([example, example])
    assert batch["inputs"]["clip"].shape == (2, 3, 3, 32, 48)
    assert torch.equal(reference_images(batch["inputs"])[1], example["inputs"]["clip"][-1])


@pytest.mark.parametrize(("frames", "given"), [(3, 2), (1, 2), (2, 0)])
def test_a_clip_of_another_length_is_refused(frames, given):
    sources = [ImageSource(image(k)) for k in range(max(1, given))]
    sample = Sample({"clip": Clip(sources) if given else sources[0]})
    with pytest.raises(UsageError, match=f"{max(1, given)} frames; the network takes {frames}"):
        Preprocessor(InputSpec(frames=frames))(sample)


def test_a_clip_states_what_is_wrong_with_it():
    with pytest.raises(DataError, match="without frames"):
        Clip([])
    with pytest.raises(DataError, match="1 frames has 2 times"):
        Clip([ImageSource(image(0))], (0.0, 1.0))


def test_clips_of_different_sizes_are_padded_in_a_batch():
    spec = InputSpec(size=(32, 32), resize_mode="native", divisor=8, frames=2)
    sizes = ((16, 24), (24, 16))
    examples = [
        Preprocessor(spec)(Sample({"clip": Clip([ImageSource(image(k, *size)) for k in range(2)])})) for size in sizes
    ]
    inputs = collate(examples)["inputs"]["clip"]
    assert inputs.shape == (2, 2, 3, 24, 24)
    assert (inputs[0, :, :, 16:] == spec.fill).all() and (inputs[1, :, :, :, 16:] == spec.fill).all()


def test_names_of_inputs_are_checked():
    with pytest.raises(UsageError, match="lft: no input of stereo; its inputs are left, right; did you mean 'left'"):
        check_names(["lft", "right"], ["left", "right"], "stereo")
    with pytest.raises(UsageError, match="stereo needs the input right"):
        check_names(["left"], ["left", "right"], "stereo")


def test_a_task_refuses_a_batch_with_other_inputs():
    task = build("classification")
    batch = collate([Preprocessor(task.input)(pair())])
    with pytest.raises(DataError, match="classification takes image, and the data gives left, right"):
        task.run(batch)


# ---------------------------------------------------------------------- targets


VIEWS = (None, View((5, 2, 45, 38)), View((5, 2, 45, 38), flip=True), View((8, 4, 52, 36), True, 30.0))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("fit", ["letterbox", "stretch", "crop"])
def test_vectors_move_as_their_ends_do(view, fit):
    geometry = Geometry.plan(InputSpec(size=(32, 48), resize_mode=fit), (40, 60), view)
    flow = np.random.default_rng(0).normal(0, 5, (2, 40, 60)).astype(np.float32)
    moved = apply_target(geometry, {"flow": flow})["flow"]
    rows, columns, inside = geometry.source_indices()
    rows, columns = rows.expand(32, 48), columns.expand(32, 48)
    start = torch.stack([columns, rows], dim=-1).double()
    vectors = torch.from_numpy(flow)[:, rows, columns].permute(1, 2, 0).double()
    ends = geometry.apply_points(start + vectors) - geometry.apply_points(start)
    assert torch.allclose(moved.permute(1, 2, 0)[inside], ends.float()[inside], atol=1e-4)
    assert (moved[:, ~inside] == 0).all()


def test_disparity_is_scaled_and_valid_ends_with_the_file():
    geometry = Geometry.plan(InputSpec(size=(32, 96), resize_mode="stretch"), (40, 60), View((-20, 0, 40, 40)))
    known = np.ones((40, 60), dtype=bool)
    out = apply_target(geometry, {"disparity": np.full((40, 60), 5, np.float32), "valid": known})
    assert out["disparity"][:, 40:].unique().tolist() == [5 * 96 / 60] and (out["disparity"][:, :30] == 0).all()
    assert out["valid"].dtype == torch.bool and out["valid"][:, 40:].all() and not out["valid"][:, :30].any()


@pytest.mark.parametrize("view", VIEWS[2:])
def test_disparity_of_an_image_that_is_no_left_one_any_more_is_refused(view):
    geometry = Geometry.plan(SPEC, (40, 60), view)
    with pytest.raises(UsageError, match="leave horizontal_flip and rotate out"):
        apply_target(geometry, {"disparity": np.zeros((40, 60))})


def test_track_ids_follow_their_boxes():
    target = {"boxes": np.array([[1, 1, 9, 9], [50, 1, 59, 9]]), "track_ids": np.array([7, 8])}
    geometry = Geometry.plan(SPEC, (40, 60), View((0, 0, 30, 30)))
    assert apply_target(geometry, target, drop=True)["track_ids"].tolist() == [7]
    assert apply_target(geometry, target)["track_ids"].tolist() == [7, 8]


def test_a_kind_of_target_is_declared_once():
    field = register(TargetField("toy_heights", per_instance=True, pad=-1.0))
    assert register(field) is not None and field_of("toy_heights") is field
    with pytest.raises(UsageError, match=r"toy_heights.* already exists"):
        register(TargetField("toy_heights"))
    assert not field_of("never declared").placed


def test_dense_augmentation_moves_flow_and_both_images_together():
    sample = Sample(pair().inputs, {"flow": np.ones((2, 40, 60), np.float32)}, "pair")
    changed = DenseAugment(scale=(1.5, 1.5), horizontal_flip=1.0, crop_size=(40, 60))(sample, rng_for(0, 0, 0))
    example = Preprocessor(SPEC)(changed)
    assert changed.view is not None and changed.view.flip
    x, y = example["geometry"].scale
    left, top, right, bottom = example["geometry"].content
    inner = example["target"]["flow"][:, top:bottom, left:right].flatten(1)
    assert inner.unique(dim=1).T.tolist() == [[pytest.approx(-x), pytest.approx(y)]]


def test_albumentations_refuses_what_it_cannot_move():
    augment = AlbumentationsAugment([{"name": "HorizontalFlip", "p": 1.0}])
    with pytest.raises(UsageError, match="cannot move flow"):
        augment(Sample(pair().inputs, {"flow": np.zeros((2, 40, 60))}), rng_for(0, 0, 0))
    with pytest.raises(UsageError, match="changes one image, and a sample has left, right"):
        augment(pair(), rng_for(0, 0, 0))
