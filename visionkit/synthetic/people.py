"""People with keypoints: a skeleton posed in three dimensions, clothed in capsules, seen by the camera.

The 17 keypoints and their order are COCO's; left and right are the person's own. A keypoint that the person's own body
hides is marked so here; what other objects hide is found when the scene is put together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from visionkit.synthetic.faces import Identity
from visionkit.synthetic.sprites import Sprite
from visionkit.synthetic.world import color

KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
_LIMB_LIST = "16-14 14-12 17-15 15-13 12-13 6-12 7-13 6-7 6-8 7-9 8-10 9-11 2-3 1-2 1-3 2-4 3-5 4-6 5-7"
SKELETON = tuple((int(a), int(b)) for a, b in (limb.split("-") for limb in _LIMB_LIST.split()))
"""COCO's own limbs, counted from 1 as its files do."""

_FINE = 3  # subpixels a side
_HEAD = 1  # part numbers; limbs follow
_TORSO = 2


class _Part(NamedTuple):
    number: int
    near: float  # toward the camera
    ends: tuple[np.ndarray, np.ndarray]  # in the person's image plane, heights of a person
    radii: tuple[float, float]
    color: np.ndarray


def _direction(swing: float, spread: float, side: float) -> np.ndarray:
    """Unit vector of a limb that hangs down, swung forward and spread outwards (radians); left, up, forward."""
    down = np.array([0.0, -np.cos(swing), np.sin(swing)])
    return np.array([side * np.sin(spread), down[1] * np.cos(spread), down[2] * np.cos(spread)])


def pose_skeleton(rng: np.random.Generator) -> np.ndarray:
    """Draws a pose. Returns (17, 3) float: left, up and forward in units of the person's height, feet at 0."""
    deg = np.deg2rad
    keypoints = np.zeros((17, 3))
    lean = deg(rng.uniform(-8, 8))
    for side, sign in ((0, 1.0), (1, -1.0)):
        hip = np.array([0.07 * sign, 0.52, 0.0])
        thigh_swing = deg(rng.uniform(-30, 40))
        spread = deg(rng.uniform(2, 22))
        knee = hip + 0.235 * _direction(thigh_swing, spread, sign)
        ankle = knee + 0.235 * _direction(thigh_swing - deg(rng.uniform(0, 50)), spread * 0.7, sign)
        shoulder = np.array([0.125 * sign, 0.815, 0.0])
        raised = rng.random() < 0.3
        arm_spread = deg(rng.uniform(70, 150) if raised else rng.uniform(6, 55))
        swing = deg(rng.uniform(-30, 60))
        elbow = shoulder + 0.165 * _direction(swing, arm_spread, sign)
        bend = deg(rng.uniform(5, 100))
        wrist = elbow + 0.155 * _direction(
            swing + bend * rng.uniform(0.2, 1), arm_spread + bend * rng.uniform(-0.4, 0.6), sign
        )
        for index, place in ((5, shoulder), (7, elbow), (9, wrist), (11, hip), (13, knee), (15, ankle)):
            keypoints[index + side] = place
    head = np.array([rng.uniform(-0.012, 0.012), 0.92, 0.01])
    keypoints[:5] = head + np.array(
        [(0, -0.008, 0.085), (0.034, 0.016, 0.072), (-0.034, 0.016, 0.072), (0.08, 0.0, -0.005), (-0.08, 0.0, -0.005)]
    )
    upper = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    pivot = np.array([0.0, 0.52, 0.0])
    tilt = np.array([[np.cos(lean), np.sin(lean), 0], [-np.sin(lean), np.cos(lean), 0], [0, 0, 1]])
    keypoints[upper] = (keypoints[upper] - pivot) @ tilt.T + pivot
    keypoints[:, 1] -= keypoints[15:, 1].min() - 0.04
    return keypoints


def draw_person(
    rng: np.random.Generator, identity: Identity, x: float, base: float, tall: float, scale: float, light: np.ndarray
) -> Sprite:
    """Draws one person.

    Args:
        rng: Draws pose, direction and clothes.
        identity: Gives skin and hair.
        x: Column of the hips, continuous pixels.
        base: Row on which the lower foot stands.
        tall: Height of the upright person in pixels.
        scale: Pixels per meter at this distance.
        light: (3,) unit vector to the light.
    """
    body = pose_skeleton(rng)
    back = rng.random() < 0.22
    yaw = np.deg2rad(rng.uniform(-45, 45) + (180 if back else 0))
    # Image plane: a person who faces the camera (yaw 0) has the left hand at the right.
    right = body[:, 0] * np.cos(yaw) + body[:, 2] * np.sin(yaw)
    near = body[:, 2] * np.cos(yaw) - body[:, 0] * np.sin(yaw)
    flat = np.stack([right, -body[:, 1]], axis=1)
    parts = _dress(rng, identity, flat, near)
    places = flat * tall + (x, base)
    margin = 0.13 * tall + 2
    low = np.floor(places.min(axis=0) - margin).astype(int)
    width, height = (np.ceil(places.max(axis=0) + margin).astype(int) - low).tolist()
    image = np.zeros((height * _FINE, width * _FINE, 3), dtype=np.uint8)
    number = np.zeros((height * _FINE, width * _FINE), dtype=np.uint8)
    origin = np.array([x, base]) - low
    for part in sorted(parts, key=lambda each: each.near):
        if part.number == _HEAD:
            _draw_head(image, number, identity, places[:5] - low, tall, np.cos(yaw))
        else:
            _draw_part(image, number, part, tall, origin, light)
    coverage = cv2.resize((number > 0).astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_AREA)
    painted = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    table = np.zeros(16, dtype=np.float32)
    for part in parts:
        table[part.number] = np.clip(part.near * tall / scale, -0.28, 0.28)
    coarse = number[_FINE // 2 :: _FINE, _FINE // 2 :: _FINE]
    keypoints = np.full((17, 3), 2, dtype=np.float32)
    keypoints[:, :2] = places
    keypoints[:, 2] = np.where(_uncovered(number, places - low, near), 2, 1)
    return Sprite(int(low[0]), int(low[1]), painted, coverage.astype(np.float32) / 255, table[coarse], keypoints)


_LIMBS = {  # part number -> its two keypoints, radii in heights of a person
    3: (5, 7, 0.038, 0.032),
    4: (6, 8, 0.038, 0.032),
    5: (7, 9, 0.03, 0.026),
    6: (8, 10, 0.03, 0.026),
    7: (11, 13, 0.056, 0.042),
    8: (12, 14, 0.056, 0.042),
    9: (13, 15, 0.04, 0.03),
    10: (14, 16, 0.04, 0.03),
}
_OWNERS: dict[int, tuple[int, ...]] = {  # keypoint -> parts on which it is seen
    **dict.fromkeys(range(5), (_HEAD,)),
    **{5: (3, _TORSO), 6: (4, _TORSO), 7: (3, 5), 8: (4, 6), 9: (5,), 10: (6,)},
    **{11: (7, _TORSO), 12: (8, _TORSO), 13: (7, 9), 14: (8, 10), 15: (9,), 16: (10,)},
}


def _dress(rng: np.random.Generator, identity: Identity, flat: np.ndarray, near: np.ndarray) -> list[_Part]:
    shirt, trousers = color(rng, (0.3, 0.9), (0.4, 0.95)), color(rng, (0.1, 0.7), (0.2, 0.7))
    sleeves, shorts = rng.random() < 0.5, rng.random() < 0.25
    skin = identity.skin
    paint = {3: shirt, 4: shirt, 5: shirt if sleeves else skin, 6: shirt if sleeves else skin}
    paint |= {7: trousers, 8: trousers, 9: skin if shorts else trousers, 10: skin if shorts else trousers}
    parts = [
        _Part(key, float(near[a] + near[b]) / 2, (flat[a], flat[b]), (first, second), paint[key])
        for key, (a, b, first, second) in _LIMBS.items()
    ]
    shoulders, hips = flat[5:7].mean(axis=0), flat[11:13].mean(axis=0)
    parts.append(_Part(_TORSO, float(near[[5, 6, 11, 12]].mean()), (shoulders, hips), (0.045, 0.05), shirt))
    parts[-1] = parts[-1]._replace(ends=(flat[[5, 6]], flat[[11, 12]]))
    parts.append(_Part(_HEAD, 0.06 if near[0] > 0 else 0.01, (flat[0], flat[0]), (0.09, 0.09), skin))
    return parts


def _draw_part(
    image: np.ndarray, number: np.ndarray, part: _Part, tall: float, origin: np.ndarray, light: np.ndarray
) -> None:
    """A capsule (or the trunk) with a dark rim and a lit side; the rim sets limbs off from the trunk behind them."""
    first, second = (np.atleast_2d(end) * tall + origin for end in part.ends)
    offset = -0.25 * light[:2]
    for grow, shift, gain in ((1.0, 0.0, 0.62), (0.8, 0.0, 0.92), (0.45, -1.0, 1.08)):
        radii = [radius * tall * grow for radius in part.radii]
        move = offset * shift * min(radii)
        hull = np.concatenate(
            [_circle(p + move, radius) for end, radius in ((first, radii[0]), (second, radii[1])) for p in end]
        )
        polygon = cv2.convexHull(np.round((hull * _FINE - 0.5) * 16).astype(np.int32))
        cv2.fillConvexPoly(image, polygon, np.clip(part.color * gain, 0, 255).tolist(), cv2.LINE_8, 4)
        if grow == 1.0:
            cv2.fillConvexPoly(number, polygon, part.number, cv2.LINE_8, 4)


_UNIT = np.stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6)], axis=1)


def _circle(center: np.ndarray, radius: float) -> np.ndarray:
    return center + radius * _UNIT


def _ellipse(
    canvas: np.ndarray, center: np.ndarray, radii: tuple[float, float], value: Sequence[float] | float
) -> None:
    points = center + _UNIT_FINE * np.array(radii)
    cv2.fillConvexPoly(canvas, np.round((points * _FINE - 0.5) * 16).astype(np.int32), value, cv2.LINE_8, 4)


_UNIT_FINE = np.stack([np.cos(np.arange(32) * np.pi / 16), np.sin(np.arange(32) * np.pi / 16)], axis=1)


def _draw_head(
    image: np.ndarray, number: np.ndarray, identity: Identity, face: np.ndarray, tall: float, facing: float
) -> None:
    """Head, hair and, where it faces the camera, eyes and mouth; from the back only hair is seen."""
    center = face[3:].mean(axis=0) + _down(-0.002 * tall)
    skin, hair = identity.skin, identity.hair
    neck = center + _down(0.085 * tall)
    _ellipse(image, neck, (0.035 * tall, 0.05 * tall), (skin * 0.75).tolist())
    _ellipse(number, neck, (0.035 * tall, 0.05 * tall), _HEAD)
    for canvas, rim, full in ((image, (skin * 0.6).tolist(), skin.tolist()), (number, _HEAD, _HEAD)):
        for index in (3, 4):
            _ellipse(canvas, face[index], (0.018 * tall, 0.026 * tall), rim)
        _ellipse(canvas, center, (0.08 * tall, 0.096 * tall), rim)
        _ellipse(canvas, center, (0.07 * tall, 0.087 * tall), full)
    if facing < 0:
        _ellipse(image, center + _down(-0.012 * tall), (0.078 * tall, 0.085 * tall), hair.tolist())
        return
    crown = _UNIT_FINE[16:]  # the upper half
    cap = center + np.concatenate([crown * (0.082, 0.098), crown[::-1] * (0.075, 0.045)]) * tall + (0, -0.004 * tall)
    cv2.fillPoly(image, [np.round((cap * _FINE - 0.5) * 16).astype(np.int32)], hair.tolist(), cv2.LINE_8, 4)
    for index in (1, 2):
        _ellipse(image, face[index], (0.017 * tall, 0.014 * tall), (245, 245, 245))
        _ellipse(image, face[index], (0.009 * tall, 0.012 * tall), identity.eyes.tolist())
    _ellipse(image, face[0], (0.01 * tall, 0.013 * tall), (skin * 0.72).tolist())
    mouth = face[0] + (center - face[0]) * 0.2 + (0, 0.034 * tall)
    _ellipse(image, mouth, (0.026 * tall, 0.009 * tall), (150, 50, 55))


def _down(pixels: float) -> np.ndarray:
    return np.array([0.0, pixels])


def _uncovered(number: np.ndarray, places: np.ndarray, near: np.ndarray) -> np.ndarray:
    """(17,) bool: the pixel at the keypoint shows the part to which it belongs, on the side that faces the camera."""
    columns = np.clip((places[:, 0] * _FINE).astype(int), 0, number.shape[1] - 1)
    rows = np.clip((places[:, 1] * _FINE).astype(int), 0, number.shape[0] - 1)
    shown = np.array([number[rows[k], columns[k]] in _OWNERS[k] for k in range(17)])
    shown[:3] &= near[:3] > 0.0  # nose and eyes are on the front
    shown[3:5] &= near[3:5] > -0.045  # an ear behind the cheek is not seen
    return shown
