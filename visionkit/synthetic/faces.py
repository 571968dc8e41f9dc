"""Drawn faces: an identity is a set of proportions and colors, an image of it adds pose, light, mouth and noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from visionkit.synthetic.world import clouds, color, grain

FACE_LANDMARKS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""As seen: `left` is the left side of the image, as in the alignment template."""

ALIGNED_SIZE = 112
ALIGNED_LANDMARKS = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
"""Where the five landmarks lie in an aligned image of 112 x 112 (the template of ArcFace, Deng et al., 2019)."""

_FINE = 2
_SKINS = np.array([(246, 214, 190), (232, 190, 160), (214, 160, 122), (180, 124, 86), (138, 90, 62), (96, 62, 44)])
_HAIRS = np.array(
    [(28, 24, 24), (70, 44, 28), (120, 76, 40), (190, 150, 90), (150, 60, 30), (168, 168, 168), (235, 220, 170)]
)


@dataclass(frozen=True)
class Identity:
    """What stays the same in all images of one person. Lengths are in units of the face's width.

    Attributes:
        skin: (3,) float32 RGB.
        hair: (3,) float32 RGB.
        eyes: (3,) float32 RGB of the iris.
        shape: Height of the face, jaw width, eye distance, eye height, eye size, brow height, brow weight, brow slant,
            nose length, nose width, mouth height, mouth width, lip weight.
        style: Hair style, 0 to 4.
        beard: Weight of the beard, 0 for none.
        glasses: Wears them in every image.
        mole: Place of a mole on the face (x, y).
    """

    skin: np.ndarray
    hair: np.ndarray
    eyes: np.ndarray
    shape: np.ndarray
    style: int
    beard: float
    glasses: bool
    mole: np.ndarray


_LOW = np.array([1.16, 0.62, 0.19, -0.16, 0.055, 0.075, 0.012, -0.25, 0.14, 0.045, 0.30, 0.11, 0.018])
_HIGH = np.array([1.48, 0.92, 0.27, -0.02, 0.085, 0.13, 0.038, 0.25, 0.24, 0.10, 0.40, 0.20, 0.050])


def make_identity(seed: int, number: int) -> Identity:
    """The person of that number; the same for every scene and image with this seed."""
    rng = np.random.Generator(np.random.Philox(key=(seed & 0xFFFFFFFF) << 32 | 0xFACE, counter=[0, 0, number, 0]))
    skin = _SKINS[rng.integers(len(_SKINS))] * rng.uniform(0.93, 1.06) + rng.uniform(-5, 5, 3)
    hair = _HAIRS[rng.integers(len(_HAIRS))] * rng.uniform(0.85, 1.1)
    return Identity(
        skin=np.clip(skin, 0, 255).astype(np.float32),
        hair=np.clip(hair, 0, 255).astype(np.float32),
        eyes=color(rng, (0.2, 0.7), (0.15, 0.55)),
        shape=rng.uniform(_LOW, _HIGH),
        style=int(rng.integers(5)),
        beard=float(rng.uniform(0.3, 0.8)) if rng.random() < 0.25 else 0.0,
        glasses=bool(rng.random() < 0.25),
        mole=rng.uniform((-0.3, 0.02), (0.3, 0.35)),
    )


@dataclass(frozen=True)
class FaceImage:
    """An image of one face.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        landmarks: (5, 2) float32 x, y in pixels of the image, see `FACE_LANDMARKS`.
        box: (4,) float32 x1, y1, x2, y2 around the face.
    """

    image: np.ndarray
    landmarks: np.ndarray
    box: np.ndarray

    def aligned(self, size: int = ALIGNED_SIZE) -> FaceImage:
        """Turned, scaled and moved (a similarity, least squares over the landmarks) to the template."""
        template = ALIGNED_LANDMARKS * (size / ALIGNED_SIZE)
        matrix = similarity(self.landmarks, template)
        shifted = matrix.copy()
        shifted[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV counts pixel centers from 0, we from 0.5
        image = cv2.warpAffine(
            self.image, shifted, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        corners = self.box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2) @ matrix[:, :2].T + matrix[:, 2]
        box = np.concatenate([corners.min(axis=0), corners.max(axis=0)]).clip(0, size)
        landmarks = self.landmarks @ matrix[:, :2].T + matrix[:, 2]
        return FaceImage(image, landmarks.astype(np.float32), box.astype(np.float32))


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(2, 3) similarity that takes points (N, 2) to others with the least squared error, without reflection."""
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    norm = float((a * a).sum())
    cos, sin = float((a * b).sum()) / norm, float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / norm
    turn = np.array([[cos, -sin], [sin, cos]])
    return np.concatenate([turn, (target.mean(axis=0) - turn @ source.mean(axis=0))[:, None]], axis=1)


def draw_face(seed: int, identity: int, index: int, size: tuple[int, int] = (128, 128)) -> FaceImage:
    """Draws one image of one person.

    Args:
        seed: Random seed of the whole set.
        identity: Number of the person.
        index: Number of the image; other numbers give another pose, light and expression.
        size: Height and width in pixels.
    """
    person = make_identity(seed, identity)
    key = (seed & 0xFFFFFFFF) << 32 | (0x10000 + identity)
    rng = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, index, 0]))
    height, width = size
    fine = (height * _FINE, width * _FINE)
    backdrop = color(rng, (0.05, 0.6), (0.25, 0.9))
    canvas = np.clip(backdrop * (1 + 0.18 * clouds(rng, fine))[..., None], 0, 255).astype(np.uint8)
    # One affine map for the whole face: roll, size and place; turning the head moves what is nearer by more.
    roll, unit = np.deg2rad(rng.uniform(-16, 16)), min(fine) * rng.uniform(0.44, 0.56)
    center = np.array(fine[::-1]) / 2 + rng.uniform(-0.05, 0.05, 2) * min(fine)
    yaw, pitch = rng.uniform(-0.09, 0.09), rng.uniform(-0.05, 0.05)
    pen = _Pen(canvas, center, unit, roll, yaw, pitch)
    landmarks = _paint(
        pen,
        person,
        opened=rng.uniform(0, 0.05),
        smile=rng.uniform(-0.02, 0.03),
        shirt=color(rng, (0.2, 0.8), (0.3, 0.9)),
    )
    image: np.ndarray = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    slope = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None] * rng.uniform(-0.25, 0.25)
    image = image * rng.uniform(0.75, 1.15) * (1 + slope) + rng.uniform(1, 5) * grain(rng, size)[..., None]
    reach = (
        pen.place(np.array([(-0.5, 0), (0.5, 0), (0, -0.5 * person.shape[0]), (0, 0.5 * person.shape[0])]), 0.0) / _FINE
    )
    box = np.concatenate([reach.min(axis=0), reach.max(axis=0)]).clip(0, [width, height, width, height])
    return FaceImage(
        np.clip(image, 0, 255).astype(np.uint8), (landmarks / _FINE).astype(np.float32), box.astype(np.float32)
    )


class _Pen:
    """Draws in face units: x to the right, y downwards, the face one unit wide about the origin."""

    def __init__(
        self, canvas: np.ndarray, center: np.ndarray, unit: float, roll: float, yaw: float, pitch: float
    ) -> None:
        self.canvas, self.center, self.unit = canvas, center, unit
        self.turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
        self.parallax = np.array([yaw, pitch])

    def place(self, points: np.ndarray, near: float = 1.0) -> np.ndarray:
        """Face units to canvas pixels; `near` is 1 on the front of the face, 2 at the tip of the nose, -1 behind."""
        turned: np.ndarray = (np.atleast_2d(points) + near * self.parallax) @ self.turn.T
        return np.asarray(turned * self.unit + self.center)

    def polygon(self, points: np.ndarray, paint: np.ndarray, near: float = 1.0, shade: float = 1.0) -> None:
        corners = np.round((self.place(points, near) - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(self.canvas, [corners], np.clip(paint * shade, 0, 255).tolist(), cv2.LINE_AA, 4)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, paint: np.ndarray, near: float = 1.0, shade: float = 1.0
    ) -> None:
        self.polygon(np.array([x, y]) + _ROUND * (rx, ry), paint, near, shade)

    def stroke(
        self, points: np.ndarray, weight: float, paint: np.ndarray, near: float = 1.0, shade: float = 1.0
    ) -> None:
        path = np.round((self.place(points, near) - 0.5) * 16).astype(np.int32)
        thick = max(1, round(weight * self.unit))
        cv2.polylines(self.canvas, [path], False, np.clip(paint * shade, 0, 255).tolist(), thick, cv2.LINE_AA, 4)


_ROUND = np.stack([np.cos(np.arange(40) * np.pi / 20), np.sin(np.arange(40) * np.pi / 20)], axis=1)
_WHITE = np.array([248.0, 248.0, 248.0])


def _paint(pen: _Pen, person: Identity, opened: float, smile: float, shirt: np.ndarray) -> np.ndarray:
    tall, jaw, apart, eye_y, eye, brow, brow_weight, slant, nose, nose_wide, mouth_y, mouth, lip = person.shape
    half = tall / 2
    skin, hair = person.skin, person.hair
    if person.style in (1, 3):  # long hair falls behind the head
        pen.ellipse(0, 0.05, 0.6, half * 1.08, hair, -1.0, 0.85)
        pen.polygon(np.array([(-0.6, 0), (0.6, 0), (0.62, half + 0.35), (-0.62, half + 0.35)]), hair, -1.0, 0.8)
    pen.polygon(
        np.array(
            [
                (-1.1, half + 0.7),
                (-0.75, half + 0.25),
                (-0.2, half + 0.12),
                (0.2, half + 0.12),
                (0.75, half + 0.25),
                (1.1, half + 0.7),
                (1.1, 3),
                (-1.1, 3),
            ]
        ),
        shirt,
        -0.5,
    )
    pen.polygon(
        np.array([(-0.2, 0.2), (0.2, 0.2), (0.22, half + 0.2), (0, half + 0.3), (-0.22, half + 0.2)]), skin, -0.3, 0.78
    )
    for side in (-1, 1):
        pen.ellipse(0.5 * side, 0.03, 0.07, 0.13, skin, -0.3, 0.85)
    # The outline: a skull above, narrowing to the jaw below.
    outline = _ROUND * (0.5, half)
    low = outline[:, 1] > 0
    outline[low, 0] *= 1 - (1 - jaw) * (outline[low, 1] / half) ** 1.5
    pen.polygon(outline, skin, 0.0, 0.88)
    pen.polygon(outline * 0.95, skin, 0.25)
    pen.ellipse(0, 0.06, 0.3, 0.3, skin, 0.6, 1.05)
    if person.beard:
        chin = outline[low & (outline[:, 1] > 0.2)]
        pen.polygon(
            np.concatenate([chin, chin[::-1] * (0.7, 0.62)]), skin * (1 - person.beard) + hair * person.beard, 0.3
        )
    brow_y = eye_y - brow
    for side in (-1, 1):
        x = side * apart
        pen.ellipse(x, eye_y, eye * 1.35, eye * 0.78, skin, shade=0.8)
        pen.ellipse(x, eye_y, eye * 1.2, eye * 0.62, _WHITE)
        pen.ellipse(x, eye_y, eye * 0.6, eye * 0.6, person.eyes)
        pen.ellipse(x, eye_y, eye * 0.28, eye * 0.28, person.eyes, shade=0.2)
        ends = np.array(
            [(x - 0.1, brow_y + slant * 0.1 * side), (x, brow_y - 0.02), (x + 0.1, brow_y - slant * 0.1 * side)]
        )
        pen.stroke(ends, brow_weight, hair, shade=0.8)
    tip = eye_y + 0.04 + nose
    pen.polygon(
        np.array([(-0.025, eye_y + 0.05), (0.025, eye_y + 0.05), (nose_wide, tip + 0.02), (-nose_wide, tip + 0.02)]),
        skin,
        1.3,
        0.93,
    )
    pen.ellipse(0, tip, nose_wide, 0.035, skin, 2.0, 0.84)
    pen.ellipse(0, tip - 0.01, nose_wide * 0.6, 0.03, skin, 2.0, 1.04)
    wide, red = mouth, skin * 0.45 + np.array([90.0, 20.0, 30.0])
    bend = np.array(
        [
            (-wide, mouth_y - smile),
            (-wide / 2, mouth_y),
            (0, mouth_y + 0.01),
            (wide / 2, mouth_y),
            (wide, mouth_y - smile),
        ]
    )
    if opened > 0.02:
        pen.ellipse(0, mouth_y + opened / 2, wide * 0.8, opened, np.array([70.0, 20.0, 25.0]))
    pen.stroke(bend, lip, red)
    pen.ellipse(person.mole[0], person.mole[1], 0.014, 0.014, skin, shade=0.4)
    if person.glasses:
        for side in (-1, 1):
            pen.stroke(
                np.array([side * apart, eye_y]) + np.concatenate([_ROUND, _ROUND[:1]]) * (0.15, 0.11),
                0.02,
                np.array([30.0, 30.0, 36.0]),
                1.6,
            )
        pen.stroke(np.array([(-apart + 0.15, eye_y), (apart - 0.15, eye_y)]), 0.02, np.array([30.0, 30.0, 36.0]), 1.6)
    _paint_hair(pen, person, half)
    return np.concatenate(
        [
            pen.place(np.array([(-apart, eye_y), (apart, eye_y)])),
            pen.place(np.array([0.0, tip]), 2.0),
            pen.place(bend[[0, -1]]),
        ]
    )


def _paint_hair(pen: _Pen, person: Identity, half: float) -> None:
    crown = _ROUND[20:]  # the upper half, left to right
    fringe = {0: 0.62, 1: 0.72, 2: 0.5, 3: 0.6, 4: 0.86}[person.style]
    volume = {0: 1.04, 1: 1.1, 2: 1.16, 3: 1.08, 4: 1.0}[person.style]
    if person.style == 4:  # short and thin
        volume = 1.02
    inner = crown[::-1] * (0.47, half * fringe)
    if person.style == 2:
        inner[:, 1] += 0.06 * np.sin(np.arange(len(inner)) * 1.7)
    if person.style == 3:  # parted at the side
        inner[:, 1] -= 0.12 * np.linspace(1, -0.6, len(inner))
    pen.polygon(np.concatenate([crown * (0.5 * volume + 0.02, half * volume), inner]), person.hair, 0.1)
    shine = crown[6:14] * (0.36, half * 0.92)
    pen.stroke(shine, 0.03, person.hair, 0.3, 1.25)
