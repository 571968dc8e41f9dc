import subprocess
import sys

import numpy as np
import pytest

from visionkit.synthetic import (
    DEFAULT_SIZE,
    KEYPOINTS,
    OBJECT_CLASSES,
    SEMANTIC_CLASSES,
    SKELETON,
    draw_face,
    make_identity,
    make_scene,
)
from visionkit.synthetic.faces import ALIGNED_LANDMARKS, similarity
from visionkit.synthetic.world import FLOOR, SENSOR_RANGE, SKY

SCENES = [make_scene(3, index) for index in range(48)]


def test_same_seed_and_index_same_scene_in_another_process() -> None:
    code = (
        "from visionkit.synthetic import make_scene; import zlib; print(zlib.crc32(make_scene(3, 5).image.tobytes()))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    import zlib

    assert int(other.stdout) == zlib.crc32(make_scene(3, 5).image.tobytes())


def test_other_seeds_and_indices_give_other_scenes() -> None:
    images = {make_scene(seed, index).image.tobytes() for seed in range(3) for index in range(8)}
    assert len(images) == 24


@pytest.mark.parametrize("size", [(32, 32), (45, 67), (96, 96), (600, 801)])
def test_any_size(size: tuple[int, int]) -> None:
    scene = make_scene(0, 1, size)
    assert scene.image.shape == (*size, 3)
    assert scene.depth.shape == scene.label_map.shape == scene.instance_map.shape == size
    assert scene.objects


def test_sizes_of_their_own() -> None:
    sizes = {make_scene(0, index, (40, 50), (60, 90)).depth.shape for index in range(12)}
    assert len(sizes) > 6
    assert all(40 <= height <= 60 and 50 <= width <= 90 for height, width in sizes)


def test_labels_of_one_scene_agree_with_each_other() -> None:
    for scene in SCENES:
        assert scene.image.shape == (*DEFAULT_SIZE, 3) and scene.image.dtype == np.uint8
        seen = np.zeros(DEFAULT_SIZE, dtype=bool)
        for number, each in enumerate(scene.objects):
            mask = scene.mask(number)
            rows, columns = np.nonzero(mask)
            assert mask.sum() == each.area > 0
            assert each.box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert (scene.label_map[mask] == each.label + 3).all()
            assert not (seen & mask).any()
            seen |= mask
        assert (scene.label_map[~seen] < 3).all()
        assert scene.presence.sum() == len({each.label for each in scene.objects})
        assert scene.presence[scene.label] == 1


def test_classes_take_turns_and_the_subject_dominates() -> None:
    labels = [scene.label for scene in SCENES]
    assert np.mean([label == index % len(OBJECT_CLASSES) for index, label in enumerate(labels)]) > 0.95
    assert set(labels) == set(range(len(OBJECT_CLASSES)))


def test_depth_follows_the_order_of_occlusion() -> None:
    for scene in SCENES:
        assert scene.depth.dtype == np.float32 and scene.depth.min() >= 0 and scene.depth.max() <= SENSOR_RANGE
        assert (scene.depth[scene.label_map == SKY] == 0).all()
        middles = []
        for number, each in enumerate(scene.objects):
            depth = scene.depth[scene.mask(number)]
            depth = depth[depth > 0]
            if not len(depth):
                continue
            assert depth.min() > each.distance - 0.31 and depth.max() < each.distance + 0.31
            middles.append(each.distance)
        assert middles == sorted(middles)  # nearest first, and what is nearer hides what is farther
        floor = np.where((scene.label_map == FLOOR) & (scene.depth > 0), scene.depth, np.nan)
        rows = np.nanmean(floor[np.isfinite(floor).any(axis=1)], axis=1)
        assert (np.diff(rows) < 1e-4).all()  # the floor comes nearer downwards
    holes = np.mean([(scene.depth[scene.label_map != SKY] == 0).mean() for scene in SCENES])
    assert 0.01 < holes < 0.3


def test_keypoints_are_coco_s_and_visibility_is_true_occlusion() -> None:
    assert len(KEYPOINTS) == 17 and len(SKELETON) == 19
    height, width = DEFAULT_SIZE
    states = {0: 0, 1: 0, 2: 0}
    tall = []
    for scene in SCENES:
        for number, each in enumerate(scene.objects):
            if each.keypoints is None:
                assert OBJECT_CLASSES[each.label] != "person"
                continue
            assert OBJECT_CLASSES[each.label] == "person" and each.identity is not None
            mask = scene.mask(number)
            tall.append(each.box[3] - each.box[1])
            for x, y, visibility in each.keypoints:
                states[int(visibility)] += 1
                if visibility == 0:
                    assert (x, y) == (0, 0)
                    continue
                assert 0 <= x < width and 0 <= y < height
                near = mask[max(0, int(y) - 1) : int(y) + 2, max(0, int(x) - 1) : int(x) + 2]
                if visibility == 2:
                    assert near.any()  # a visible keypoint lies on the visible person
                elif scene.instance_map[int(y), int(x)] not in (0, number + 1):
                    assert scene.objects[scene.instance_map[int(y), int(x)] - 1].distance < each.distance
    assert min(states.values()) > 0
    assert max(tall) > 2.5 * min(tall)  # two scales at least


def test_people_who_face_the_camera_have_their_left_at_the_right() -> None:
    frontal = [
        each.keypoints
        for scene in SCENES
        for each in scene.objects
        if each.keypoints is not None and (each.keypoints[[0, 1, 2, 5, 6], 2] == 2).all()
    ]
    assert len(frontal) > 5
    assert all(points[5, 0] > points[6, 0] and points[1, 0] > points[2, 0] for points in frontal)


def test_target_keys() -> None:
    scene = next(scene for scene in SCENES if any(each.keypoints is not None for each in scene.objects))
    count = len(scene.objects)
    boxes = scene.target("boxes")
    assert boxes.keys() == {"boxes", "labels", "area", "iscrowd"} and boxes["boxes"].shape == (count, 4)
    assert scene.target("masks")["masks"].shape == (count, *DEFAULT_SIZE)
    points = scene.target("keypoints")
    assert points["keypoints"].shape[1:] == (17, 3) and (points["labels"] == 0).all()
    assert scene.target("label_map")["label_map"].max() < len(SEMANTIC_CLASSES)
    with pytest.raises(KeyError):
        scene.target("nothing")  # type: ignore[arg-type]


def test_a_scene_without_people_has_empty_keypoints() -> None:
    scene = next(scene for scene in SCENES if all(each.keypoints is None for each in scene.objects))
    target = scene.target("keypoints")
    assert target["boxes"].shape == (0, 4) and target["keypoints"].shape == (0, 17, 3)


def test_faces_keep_their_identity_and_align() -> None:
    first, again, other = draw_face(0, 4, 0), draw_face(0, 4, 1), draw_face(0, 5, 0)
    assert (draw_face(0, 4, 0).image == first.image).all()
    assert (first.image != again.image).any()
    assert first.landmarks.shape == (5, 2)
    x1, y1, x2, y2 = first.box
    assert ((first.landmarks >= (x1, y1)) & (first.landmarks <= (x2, y2))).all()
    for face in (first, again, other):
        aligned = face.aligned()
        assert aligned.image.shape == (112, 112, 3)
        assert np.abs(aligned.landmarks - ALIGNED_LANDMARKS).max() < 14
    assert (make_identity(0, 4).shape != make_identity(0, 5).shape).all()
    assert (make_identity(0, 4).shape != make_identity(1, 4).shape).all()


def test_similarity_is_exact_for_a_similarity() -> None:
    points = np.random.default_rng(0).uniform(0, 50, (5, 2))
    matrix = np.array([[0.8, -0.6, 3.0], [0.6, 0.8, -2.0]]) * 1.5
    assert similarity(points, points @ matrix[:, :2].T + matrix[:, 2]) == pytest.approx(matrix)
