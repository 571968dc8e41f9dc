"""Who and what is in a drawn clip, and how it moves: camera, surroundings and objects, as planes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from visionkit.camera import CameraIntrinsics
from visionkit.errors import UsageError
from visionkit.synthetic.generate import IDENTITIES, identity_of
from visionkit.synthetic.people import draw_person
from visionkit.synthetic.planes import Plane
from visionkit.synthetic.scene import OBJECT_CLASSES
from visionkit.synthetic.sprites import Sprite, draw_shape
from visionkit.synthetic.world import clouds, color, wall_texture

_PERSON = OBJECT_CLASSES.index("person")
_NEAREST = 3.0  # meters, of objects
_APART = 0.5  # meters between the depths of two objects
_FLOOR_DETAIL = 0.35  # texture pixels of the floor per meter, in heights of the image


@dataclass(frozen=True)
class ClipSettings:
    """How clips are drawn.

    Attributes:
        size: Height and width in pixels, at least 32.
        length: Frames of a clip.
        objects: Smallest and largest number of objects.
        speed: Largest speed of an object by itself, in heights of the image per frame.
        camera_speed: Largest speed of the camera, in meters per frame; objects are 3 meters away and more.
        reach: Largest distance in meters of the camera from its first place.
        blur: Longest exposure in frames, from one frame to the next; each frame has its own, some none. Above 1 it
            stands for frames that were averaged.
        noise: Deviation of the sensor's noise, of 255.
        room: Objects stand on a floor before a wall; otherwise they float before a wall.
        whole_pixels: Everything moves by whole pixels, before a wall: warping a frame by the flow then gives the next
            one exactly.
    """

    size: tuple[int, int] = (128, 128)
    length: int = 10
    objects: tuple[int, int] = (3, 6)
    speed: float = 0.03
    camera_speed: float = 0.03
    reach: float = 0.6
    blur: float = 0.0
    noise: float = 0.0
    room: bool = True
    whole_pixels: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", (int(self.size[0]), int(self.size[1])))
        object.__setattr__(self, "objects", (int(self.objects[0]), int(self.objects[1])))
        if min(self.size) < 32 or self.length < 1:
            raise UsageError(f"clips of {self.length} frames of {self.size}: at least 1 frame, sides of at least 32")
        if not 1 <= self.objects[0] <= self.objects[1] <= 100:
            raise UsageError(f"clip.objects {self.objects}: give the smallest and the largest number, from 1 to 100")
        if min(self.speed, self.camera_speed, self.blur, self.noise) < 0 or not 0 <= self.reach <= 5:
            raise UsageError(
                "clip: speed, camera_speed, blur and noise are numbers from 0 on, reach is one from 0 to 5"
            )
        if self.whole_pixels and self.blur:
            raise UsageError(
                f"clip.blur {self.blur:g}: with whole_pixels nothing moves during an exposure; leave it out"
            )


class ClipWorld:
    """What a clip shows.

    Args:
        seed: Random seed of the set.
        index: Number of the clip; the classes take turns as the first object.
        settings: How it is drawn.

    Attributes:
        camera: Intrinsics of the camera.
        background: Planes behind the objects, the farthest first.
        objects: The objects.
        labels: Index into `OBJECT_CLASSES` of each object.
        position: From a time in frames to (3,) where the camera is.
        exposure: From a frame to how many frames its exposure takes.
        tint: (3,) float32 factor of the colors.
    """

    def __init__(self, seed: int, index: int, settings: ClipSettings) -> None:
        self.seed, self.index, self.settings = seed, index, settings
        rng = np.random.Generator(np.random.Philox(key=seed & 0xFFFFFFFFFFFFFFFF, counter=[0, 0, index, 2]))
        height, width = settings.size
        self.has_floor = settings.room and not settings.whole_pixels
        focal = 1.1 * height
        horizon = height * (rng.uniform(0.34, 0.44) if self.has_floor else 0.5)
        self.camera = CameraIntrinsics(focal, focal, width / 2, horizon)
        self._far, self._elevation = rng.uniform(6.5, 9.5), rng.uniform(1.4, 1.6)
        self.position, self.exposure = self._travel(rng), self._exposures(rng)
        self.background = self._surroundings(rng)
        self.labels, self.objects = self._cast(rng)
        self.tint = (1 + rng.uniform(-0.05, 0.05, 3)).astype(np.float32) * np.float32(rng.uniform(0.8, 1.1))

    def _travel(self, rng: np.random.Generator) -> Callable[[float], np.ndarray]:
        """Where the camera is at a time, in meters: to and fro, slowly."""
        period = rng.uniform(2, 4) * max(8, self.settings.length)
        phase, size = rng.uniform(0, 2 * np.pi, 3), rng.uniform(-1, 1, 3) * (1.0, 0.25, 0.6)
        size *= min(self.settings.camera_speed * period / (2 * np.pi), self.settings.reach / 2)
        step = self._far / self.camera.fx  # of one pixel of the wall

        def position(time: float) -> np.ndarray:
            place = size * (np.sin(2 * np.pi * time / period + phase) - np.sin(phase))
            if self.settings.whole_pixels:
                place = np.round(place / step) * step * (1, 1, 0)
            return np.asarray(place)

        return position

    def _exposures(self, rng: np.random.Generator) -> Callable[[float], float]:
        period, phase = rng.uniform(6, 12), rng.uniform(0, 2 * np.pi)
        return lambda time: self.settings.blur * (0.5 + 0.5 * math.sin(2 * math.pi * time / period + phase))

    def _surroundings(self, rng: np.random.Generator) -> list[Plane]:
        height, width = self.settings.size
        focal, _, cx, cy = self.camera
        step = self._far / focal
        margin = math.ceil(1.2 * self.settings.reach / step) + 8
        side = np.array([width + 2 * margin, height + 2 * margin])
        corner = np.array([(-margin - cx) * step, (-margin - cy) * step, self._far])
        wall = wall_texture(rng, int(side[1]), int(side[0])) * (1 - 0.012 * self._far)
        wall *= 1 + 0.08 * clouds(rng, (int(side[1]), int(side[0])))[..., None]
        place = np.column_stack([(step, 0, 0), (0, step, 0), corner])
        planes = [Plane(_opaque(wall), lambda time: place.copy())]
        if not self.has_floor:
            return planes
        near, detail = 1.5, _FLOOR_DETAIL * height
        reach = (width / 2 / focal) * self._far + self.settings.reach + 0.5
        columns, rows = math.ceil(2 * reach * detail), math.ceil((self._far - near) * detail)
        # The first row of the texture is the farthest, at the wall.
        ground = np.column_stack([(1 / detail, 0, 0), (0, 0, -1 / detail), (-reach, self._elevation, self._far)])
        planes.append(Plane(_opaque(_floor_texture(rng, rows, columns, detail)), lambda time: ground.copy()))
        return planes

    def _cast(self, rng: np.random.Generator) -> tuple[tuple[int, ...], list[Plane]]:
        """The objects: who, how far away, and how each moves."""
        count = int(rng.integers(self.settings.objects[0], self.settings.objects[1] + 1))
        light = np.array([rng.uniform(-0.7, 0.7), -rng.uniform(0.4, 0.8), 0.75])
        light /= np.linalg.norm(light)
        farthest = self._far - _APART
        depths = np.sort(rng.uniform(_NEAREST, farthest, count))
        apart = min(_APART, (farthest - _NEAREST) / count)
        depths += np.maximum.accumulate(np.maximum(0, _NEAREST + apart * np.arange(count) - depths))
        labels, planes = [], []
        for number, depth in enumerate(depths):
            label = self.index % len(OBJECT_CLASSES) if number == 0 else self._label(rng)
            labels.append(label)
            planes.append(self._moving(rng, self._drawn(rng, label, float(depth), light), float(depth)))
        order = rng.permutation(count)
        return tuple(labels[k] for k in order), [planes[k] for k in order]

    def _label(self, rng: np.random.Generator) -> int:
        return _PERSON if rng.random() < 0.3 else int(rng.integers(1, len(OBJECT_CLASSES)))

    def _drawn(self, rng: np.random.Generator, label: int, depth: float, light: np.ndarray) -> Sprite:
        scale = self.camera.fx / depth
        if label == _PERSON:
            person = identity_of(self.seed, int(rng.integers(IDENTITIES)))
            return draw_person(rng, person, 0, 0, scale * rng.uniform(1.55, 1.9), scale, light)
        return draw_shape(rng, OBJECT_CLASSES[label], 0, 0, scale * rng.uniform(0.6, 1.2), scale, light)

    def _moving(self, rng: np.random.Generator, sprite: Sprite, depth: float) -> Plane:
        """An object that goes to and fro across the image, now faster, now slower."""
        settings = self.settings
        whole, room = settings.whole_pixels, self.has_floor
        step = depth / self.camera.fx  # meters per pixel of the sprite
        tall = sprite.coverage.shape[0] * step
        half = np.array(settings.size[::-1]) / 2 * step
        limits = half + np.array([0.2, -0.2]) * tall
        meeting, when = rng.uniform(-0.4, 0.4, 2) * half, rng.uniform(0.25, 0.75) * settings.length
        speed = rng.uniform(0.3, 1) * settings.speed * settings.size[0] * step
        angle = rng.uniform(0, 2 * np.pi)
        velocity = speed * np.array([np.sign(np.cos(angle)) if room else np.cos(angle), np.sin(angle)])
        period, phase, unsteady = rng.uniform(8, 20), rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.0 if whole else 0.9)
        to_and_fro = rng.uniform(0, 0.2) if room else 0.0

        def place(time: float) -> np.ndarray:
            moved = time - when + unsteady * period / (2 * np.pi) * np.sin(2 * np.pi * time / period + phase)
            x, y = _folded(meeting + velocity * moved, np.maximum(limits, step))
            z = depth + to_and_fro * np.sin(2 * np.pi * time / period)
            corner = np.array([x + sprite.x * step, (self._elevation if room else y + tall / 2) + sprite.y * step, z])
            if whole:
                camera = self.position(time)
                corner[:2] = camera[:2] + np.round((corner[:2] - camera[:2]) / step) * step
                corner[:2] += (np.round(self.camera[2:]) - self.camera[2:]) * step
            return np.column_stack([(step, 0, 0), (0, step, 0), corner])

        texture = np.concatenate([sprite.color * (1 - 0.012 * depth), sprite.coverage[..., None]], axis=2)
        return Plane(texture.astype(np.float32), place)


def _folded(places: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Places between limits on both sides of 0, as of a ball that bounces between walls."""
    turns = np.mod(places + limits, 4 * limits)
    return np.asarray(np.where(turns < 2 * limits, turns - limits, 3 * limits - turns))


def _opaque(texture: np.ndarray) -> np.ndarray:
    return np.concatenate([texture, np.ones((*texture.shape[:2], 1))], axis=2).astype(np.float32)


def _floor_texture(rng: np.random.Generator, rows: int, columns: int, detail: float) -> np.ndarray:
    """Tiles, boards or a carpet, in floor coordinates; soft, since far away it is seen small."""
    shade = 1 + 0.1 * clouds(rng, (rows, columns))
    kind, side = rng.integers(3), rng.uniform(0.5, 0.9) * detail
    across, along = np.arange(columns)[None] / side, np.arange(rows)[:, None] / side
    if kind == 0:
        shade = shade * (1 - rng.uniform(0.12, 0.3) * ((np.floor(across) + np.floor(along)) % 2))
    elif kind == 1:
        shade = shade * (0.88 + 0.2 * np.modf(np.abs(np.sin(np.floor(2 * across) * 12.9898)) * 43758.5453)[0])
    soft = cv2.GaussianBlur(shade.astype(np.float32), (0, 0), 1.0)
    return np.asarray(soft[..., None] * color(rng, (0.1, 0.45), (0.35, 0.75)), np.float32)
