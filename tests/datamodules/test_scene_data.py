from typing import get_args

import numpy as np
import pytest
import torch

from datamodules.degradations import Blur, BoxHoles
from datamodules.scene_data import SceneData
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.synthetic import OBJECT_CLASSES, SEMANTIC_CLASSES, TargetKey

SPEC = InputSpec((64, 64), resize_mode="letterbox")


@pytest.mark.parametrize("target", get_args(TargetKey))
def test_every_target_makes_batches(target: TargetKey) -> None:
    spec = InputSpec(resize_mode="native") if target in ("high_res", "clean") else SPEC
    data = SceneData(target, count=6, eval_count=3, size=(48, 64), input=spec, batch_size=3)
    batch = next(iter(data.loader("train")))
    assert batch["inputs"]["image"].dtype == torch.uint8 and len(batch["inputs"]["image"]) == 3
    keys = {"presence": "labels"}.get(target, target)
    first = batch["target"][0] if isinstance(batch["target"], list) else batch["target"]
    assert keys in first
    assert SceneData.discover_classes(target=target) == list(data.classes)


def test_default_is_classification() -> None:
    data = SceneData(count=16, eval_count=4, input=SPEC)
    assert data.classes == OBJECT_CLASSES == tuple(SceneData.discover_classes())
    labels = [int(sample.target["labels"]) for sample in data.samples("train")]
    assert set(labels) == set(range(8))
    assert data.samples("train")[3] is data.samples("train")[3]  # drawn once


def test_splits_differ_and_the_run_s_seed_does_not_matter() -> None:
    first, second = (SceneData(count=4, eval_count=4, seed=seed) for seed in (1, 2))
    train, again = (data.samples("train")[0].image.read() for data in (first, second))
    assert (train == again).all()
    assert (train != first.samples("val")[0].image.read()).any()
    assert (train != SceneData(count=4, scene_seed=1).samples("train")[0].image.read()).any()


def test_configured_order_of_classes_stands() -> None:
    names = list(reversed(OBJECT_CLASSES))
    plain, turned = SceneData("boxes", count=2), SceneData("boxes", count=2, classes=names)
    for a, b in zip(plain.samples("train"), turned.samples("train"), strict=True):
        assert [plain.classes[k] for k in a.target["labels"]] == [turned.classes[k] for k in b.target["labels"]]
    names = list(reversed(SEMANTIC_CLASSES))
    a, b = (SceneData("label_map", count=1, classes=c).samples("train")[0].target["label_map"] for c in (None, names))
    assert (np.array(SEMANTIC_CLASSES)[a] == np.array(names)[b]).all()
    shuffled = SceneData("presence", count=1, classes=list(reversed(OBJECT_CLASSES))).samples("train")[0]
    assert (
        shuffled.target["labels"] == SceneData("presence", count=1).samples("train")[0].target["labels"][::-1]
    ).all()


def test_super_resolution_pairs_fit() -> None:
    sample = SceneData("high_res", count=1, size=(33, 47), scale=3).samples("train")[0]
    assert sample.image.size == (33, 47) and sample.target["high_res"].shape == (3, 99, 141)
    large = sample.target["high_res"].reshape(3, 33, 3, 47, 3).mean(axis=(2, 4)).transpose(1, 2, 0)
    assert np.abs(large - sample.image.read()).mean() < 6


def test_clean_scenes_are_degraded_as_stated() -> None:
    sample = SceneData("clean", count=1, size=(64, 80)).samples("train")[0]
    assert sample.image.size == (64, 80) and sample.target["clean"].shape == (3, 64, 80)
    assert 15 < np.abs(sample.image.read() - sample.target["clean"].transpose(1, 2, 0).astype(float)).mean() < 21
    holes = SceneData("clean", count=1, size=(64, 80), degradations=[BoxHoles(0.5)]).samples("train")[0]
    mask = holes.inputs["mask"].read(1)[:, :, 0] > 0
    assert mask.sum() == 32 * 40 and (holes.image.read()[mask] == 128).all()
    assert np.array_equal(holes.image.read()[~mask], holes.target["clean"].transpose(1, 2, 0)[~mask])


def test_the_border_that_a_valid_blur_leaves_out_is_cut_off() -> None:
    kernel = [[0.0] * 7, [0.0] * 7, [0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0], *[[0.0] * 7] * 4]
    whole = SceneData("clean", count=1, size=(64, 80)).samples("train")[0].target["clean"]
    given = SceneData("clean", count=1, size=(64, 80), degradations=Blur(kernel, boundary="valid"))
    sample = given.samples("train")[0]
    assert np.array_equal(sample.target["clean"], whole[:, 3:-3, 3:-3]) and sample.image.size == (58, 74)
    with pytest.raises(DataError, match="of which 32 on every side are left out"):
        SceneData("clean", degradations=Blur(np.ones((65, 65)).tolist(), boundary="valid"), size=(64, 64)).samples(
            "train"
        )[0]


def test_mistakes() -> None:
    with pytest.raises(UsageError, match="for the target clean, not for boxes"):
        SceneData("boxes", degradations=[BoxHoles()])
    with pytest.raises(UsageError, match="did you mean 'boxes'"):
        SceneData("boxs")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"'person' is not among data\.classes \(cat\)"):
        SceneData(classes=["cat"])
    with pytest.raises(UsageError, match="count 0"):
        SceneData(count=0)
