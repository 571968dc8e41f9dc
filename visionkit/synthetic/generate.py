"""Puts scenes together: (seed, index) gives a scene, always the same one."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from visionkit.synthetic.faces import Identity, make_identity
from visionkit.synthetic.people import draw_person
from visionkit.synthetic.scene import OBJECT_CLASSES, Scene, SceneObject
from visionkit.synthetic.sprites import Sprite, draw_shape
from visionkit.synthetic.world import FLOOR, SENSOR_RANGE, SceneCamera, Surroundings, clouds, draw_surroundings, grain

DEFAULT_SIZE = (120, 160)
IDENTITIES = 20
"""People that walk through the scenes of one seed."""

_PERSON = OBJECT_CLASSES.index("person")
_STUFF = 3  # semantic classes before those of objects
_APART = 0.4  # meters between neighbors in depth, more than any relief


def scene_rng(seed: int, index: int) -> np.random.Generator:
    """The randomness of one scene; a counter-based generator, so any scene can be drawn on its own."""
    return np.random.Generator(np.random.Philox(key=seed & 0xFFFFFFFFFFFFFFFF, counter=[0, 0, index, 1]))


def make_scene(
    seed: int, index: int, size: tuple[int, int] = DEFAULT_SIZE, max_size: tuple[int, int] | None = None
) -> Scene:
    """Draws one scene.

    Args:
        seed: Random seed of the set.
        index: Number of the scene, 0 or more; the classes take turns as the subject.
        size: Height and width in pixels, at least 32.
        max_size: Where given, every image gets a size of its own between `size` and this.

    Example:
        >>> scene = make_scene(seed=0, index=7)
        >>> scene.image.shape, [OBJECT_CLASSES[each.label] for each in scene.objects]
    """
    rng = scene_rng(seed, index)
    if max_size is not None:
        size = int(rng.integers(size[0], max_size[0] + 1)), int(rng.integers(size[1], max_size[1] + 1))
    camera = SceneCamera.draw(rng, size)
    around = draw_surroundings(rng, camera)
    light = np.array([rng.uniform(-0.7, 0.7), -rng.uniform(0.4, 0.8), 0.75])
    light /= np.linalg.norm(light)
    stage = _Stage(rng, camera, seed, light)
    for candidate in _cast(rng, camera, around, index % len(OBJECT_CLASSES)):
        stage.place(*candidate)
    return stage.finish(around, seed, index)


def _cast(
    rng: np.random.Generator, camera: SceneCamera, around: Surroundings, main: int
) -> list[tuple[int, float, bool]]:
    """Who appears: class, distance and whether it is the subject, of which most must be seen; nearest first."""
    subject = float(np.clip(camera.floor_depth(camera.height * rng.uniform(0.84, 1.0)), 2.4, 4.2))
    cast = [(main, subject, True)]
    for _ in range(rng.integers(1, 6)):
        label = _PERSON if rng.random() < 0.45 else int(rng.integers(1, len(OBJECT_CLASSES)))
        # Even in 1 / distance, which is even over the rows of the floor.
        near, far = 1 / (subject - 0.5 if rng.random() < 0.2 else subject + 0.5), 1 / min(around.farthest - 0.5, 9.0)
        cast.append((label, 1 / rng.uniform(far, max(near, far + 1e-3)), False))
    cast.sort(key=lambda each: each[1])
    spaced: list[tuple[int, float, bool]] = []
    for label, distance, leads in cast:
        distance = max(distance, spaced[-1][1] + _APART if spaced else 0.0)
        if distance < around.farthest - 0.3 or leads:
            spaced.append((label, distance, leads))
    return spaced


class _Stage:
    """Takes objects nearest first, so a later one hides nobody and is turned away when too little of it is seen."""

    def __init__(self, rng: np.random.Generator, camera: SceneCamera, seed: int, light: np.ndarray) -> None:
        self.rng, self.camera, self.seed, self.light = rng, camera, seed, light
        self.owner = np.zeros((camera.height, camera.width), dtype=np.uint8)
        self.placed: list[tuple[int, float, Sprite, int | None]] = []
        self.least = max(24, camera.height * camera.width // 500)
        self.subject_area = 0

    def place(self, label: int, distance: float, main: bool) -> None:
        """Tries places until enough of the object is seen; an extra that finds none does not appear."""
        for attempt in range(6 if main else 3):
            sprite, person = self._draw(label, distance, main)
            window = _window(sprite, self.owner.shape)
            if window is None:
                continue
            rows, columns, cut = window
            solid = sprite.coverage[cut] > 0.5
            seen = solid & (self.owner[rows, columns] == 0)
            area, whole = int(seen.sum()), max(1, int((sprite.coverage > 0.5).sum()))
            most = 0.6 * self.subject_area if self.subject_area else 0.04 * self.owner.size
            fits = area >= 0.5 * whole if main else (area >= 0.35 * whole and area <= most)
            if (area < self.least or not fits) and not (main and attempt == 5 and area):
                continue
            self.placed.append((label, distance, sprite, person))
            self.owner[rows, columns][seen] = len(self.placed)
            if main:
                self.subject_area = area
            return

    def _draw(self, label: int, distance: float, main: bool) -> tuple[Sprite, int | None]:
        rng, camera = self.rng, self.camera
        scale = camera.focal / distance
        x, base = (
            camera.width * (rng.uniform(0.22, 0.78) if main else rng.uniform(0.02, 0.98)),
            camera.floor_row(distance),
        )
        if label == _PERSON:
            person = int(rng.integers(IDENTITIES))
            tall = scale * rng.uniform(1.55, 1.9) * (1.15 if main else 1.0)
            return draw_person(rng, identity_of(self.seed, person), x, base, tall, scale, self.light), person
        small = self.subject_area == 0 and not main  # before the subject only small things stand
        side = scale * (rng.uniform(1.2, 1.65) if main else rng.uniform(0.3, 0.45) if small else rng.uniform(0.5, 1.1))
        return draw_shape(rng, OBJECT_CLASSES[label], x, base, side, scale, self.light), None

    def finish(self, around: Surroundings, seed: int, index: int) -> Scene:
        """Paints what was placed, farthest first, and measures what is seen of it."""
        image, label_map, depth = around.image, around.label_map, around.depth
        image *= self._shadows(around)[..., None]
        for number in range(len(self.placed) - 1, -1, -1):
            label, distance, sprite, _ = self.placed[number]
            window = _window(sprite, self.owner.shape)
            assert window is not None
            rows, columns, cut = window
            haze = 1 - 0.012 * distance
            image[rows, columns] *= 1 - sprite.coverage[cut][..., None]
            image[rows, columns] += sprite.color[cut] * haze
            seen = self.owner[rows, columns] == number + 1
            label_map[rows, columns][seen] = label + _STUFF
            depth[rows, columns][seen] = (distance - sprite.relief[cut])[seen]
        size = self.owner.shape
        tint = 1 + self.rng.uniform(-0.05, 0.05, 3).astype(np.float32)
        image *= tint * np.float32(self.rng.uniform(0.8, 1.12))
        image += (self.rng.uniform(1.0, 4.0) * grain(self.rng, size))[..., None]
        pixels = cv2.convertScaleAbs(np.maximum(image, 0))
        objects = tuple(self._measure(number) for number in range(len(self.placed)))
        return Scene(pixels, objects, self.owner, label_map, _measured(self.rng, depth), seed, index)

    def _shadows(self, around: Surroundings) -> np.ndarray:
        dark = np.zeros(self.owner.shape, dtype=np.uint8)
        for label, distance, sprite, _ in self.placed:
            half = sprite.coverage.shape[1] * (0.3 if label == _PERSON else 0.4)
            x, y = sprite.x + sprite.coverage.shape[1] / 2, self.camera.floor_row(distance)
            axes = (int(half * 16), int(max(1.0, half * 0.22) * 16))
            center = (int((x - self.light[0] * half * 0.4) * 16), int(y * 16))
            cv2.ellipse(dark, center, axes, 0, 0, 360, 255, -1, cv2.LINE_8, 4)
        soft = cv2.blur(dark, (5, 3)).astype(np.float32)
        return np.where(around.label_map == FLOOR, 1 - soft * (0.5 / 255), 1.0).astype(np.float32)

    def _measure(self, number: int) -> SceneObject:
        label, distance, sprite, person = self.placed[number]
        mask = self.owner == number + 1
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)
        keypoints = None if sprite.keypoints is None else self._visibility(sprite.keypoints, mask)
        return SceneObject(label, box, int(mask.sum()), distance, keypoints, person)

    def _visibility(self, keypoints: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Keypoints outside the image are absent; where another object is seen in their place they are hidden."""
        height, width = mask.shape
        out = keypoints.copy()
        inside = (out[:, 0] >= 0) & (out[:, 0] < width) & (out[:, 1] >= 0) & (out[:, 1] < height)
        columns = np.clip(out[:, 0], 0, width - 1).astype(int)
        rows = np.clip(out[:, 1], 0, height - 1).astype(int)
        covered = ~mask[rows, columns] & (self.owner[rows, columns] > 0)
        out[covered, 2] = 1
        out[~inside] = 0
        return out


_Window = tuple[slice, slice, tuple[slice, slice]]


def _window(sprite: Sprite, size: tuple[int, ...]) -> _Window | None:
    """Where the sprite lies in the image, and which part of it; None where it is wholly outside."""
    height, width = sprite.coverage.shape
    top, left = max(sprite.y, 0), max(sprite.x, 0)
    bottom, right = min(sprite.y + height, size[0]), min(sprite.x + width, size[1])
    if top >= bottom or left >= right:
        return None
    cut = slice(top - sprite.y, bottom - sprite.y), slice(left - sprite.x, right - sprite.x)
    return slice(top, bottom), slice(left, right), cut


def _measured(rng: np.random.Generator, depth: np.ndarray) -> np.ndarray:
    """What a depth camera would give: nothing beyond its range, beside edges, and in patches."""
    out = np.where(depth <= SENSOR_RANGE, depth, 0).astype(np.float32)
    reach = max(1, depth.shape[1] // 80)
    # The projector sits beside the camera, so a strip left of whatever stands out lies in its shadow.
    shadow = depth[:, :-reach] > depth[:, reach:] + _APART
    out[:, :-reach][shadow] = 0
    out[clouds(rng, depth.shape) > 2.4] = 0
    return out


@functools.lru_cache(maxsize=1024)
def identity_of(seed: int, person: int) -> Identity:
    """The looks of a person of one seed."""
    return make_identity(seed, person)
