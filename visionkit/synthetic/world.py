"""Where a scene takes place: a camera over a floor, before a wall or under the sky, with true distances."""

from __future__ import annotations

import colorsys
import functools
from dataclasses import dataclass

import cv2
import numpy as np

SENSOR_RANGE = 10.0
"""Meters; what is farther away has not been measured, as with an indoor depth camera."""

SKY, WALL, FLOOR = 0, 1, 2
"""Semantic classes of the surroundings; objects follow after them."""

_BANK = 512


@dataclass(frozen=True)
class SceneCamera:
    """A pinhole camera that looks along the floor.

    Attributes:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        focal: Focal length in pixels.
        horizon: Row of the horizon in pixels.
        elevation: Elevation of the camera above the floor in meters.
    """

    height: int
    width: int
    focal: float
    horizon: float
    elevation: float

    @classmethod
    def draw(cls, rng: np.random.Generator, size: tuple[int, int]) -> SceneCamera:
        """A camera for an image of (height, width)."""
        height, width = size
        return cls(height, width, 1.1 * height, height * rng.uniform(0.34, 0.44), rng.uniform(1.4, 1.6))

    def floor_depth(self, y: float) -> float:
        """Distance in meters of the floor seen in row y (continuous, below the horizon)."""
        return self.focal * self.elevation / (y - self.horizon)

    def floor_row(self, depth: float) -> float:
        """The row, in continuous pixels, in which the floor at that distance in meters is seen."""
        return self.horizon + self.focal * self.elevation / depth


@dataclass(frozen=True)
class Surroundings:
    """What is seen where no object stands.

    Attributes:
        image: (h, w, 3) float32 RGB, 0 to 255.
        depth: (h, w) float32 meters; infinite in the sky.
        label_map: (h, w) uint8, one of `SKY`, `WALL`, `FLOOR`.
        farthest: Meters; objects stand nearer than this.
    """

    image: np.ndarray
    depth: np.ndarray
    label_map: np.ndarray
    farthest: float


def color(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> np.ndarray:
    """A random color, (3,) float32 RGB from 0 to 255."""
    hsv = rng.random(), rng.uniform(*saturation), rng.uniform(*value)
    return np.array(colorsys.hsv_to_rgb(*hsv), dtype=np.float32) * 255


@functools.lru_cache(maxsize=1)
def _banks() -> tuple[np.ndarray, np.ndarray]:
    """Grain and clouds, (512, 512) float32 of unit spread; scenes take windows of them, since fresh noise is slow."""
    rng = np.random.default_rng(20)
    grain = rng.standard_normal((_BANK, _BANK), dtype=np.float32)
    clouds = np.zeros((_BANK, _BANK), dtype=np.float32)
    for cells, weight in ((6, 1.0), (14, 0.55), (32, 0.3), (80, 0.15)):
        layer = rng.standard_normal((cells, cells), dtype=np.float32)
        clouds += weight * cv2.resize(layer, (_BANK, _BANK), interpolation=cv2.INTER_CUBIC)
    return grain, clouds / clouds.std()


def _window(bank: np.ndarray, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    if height > _BANK or width > _BANK:  # images larger than the bank see it enlarged
        scale = max(height, width) / _BANK
        part = _window(bank, rng, (int(height / scale), int(width / scale)))
        return cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
    top, left = rng.integers(_BANK - height + 1), rng.integers(_BANK - width + 1)
    return bank[top : top + height, left : left + width]


def grain(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """(h, w) float32 noise without structure, of unit spread."""
    return _window(_banks()[0], rng, size)


def clouds(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """(h, w) float32 smooth noise, of unit spread."""
    return _window(_banks()[1], rng, size)


def draw_surroundings(rng: np.random.Generator, camera: SceneCamera) -> Surroundings:
    """Paints floor and wall, or floor and sky, with the distance of every pixel."""
    height, width = camera.height, camera.width
    indoors = rng.random() < 0.65
    farthest = rng.uniform(5.0, 9.5) if indoors else SENSOR_RANGE * 1.2
    rows = np.arange(height, dtype=np.float32) + 0.5
    border = int(np.ceil((camera.floor_row(farthest) if indoors else camera.horizon + 1) - 0.5))
    border = min(max(border, 1), height - 1)
    depth = np.full((height, width), farthest if indoors else np.inf, dtype=np.float32)
    floor_depth = camera.focal * camera.elevation / (rows[border:] - camera.horizon)
    depth[border:] = floor_depth[:, None]
    label_map = np.full((height, width), FLOOR, dtype=np.uint8)
    label_map[:border] = WALL if indoors else SKY
    image = np.empty((height, width, 3), dtype=np.float32)
    image[:border] = wall_texture(rng, border, width) if indoors else _sky(rng, border, width)
    image[border:] = _floor(rng, camera, floor_depth, indoors)
    if indoors:  # a skirting board, or the bare edge
        image[border - 1 : border + 1] *= rng.uniform(0.45, 0.8)
    return Surroundings(image, depth, label_map, farthest)


def wall_texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(h, w, 3) float32 of a wall: plain, with stripes, bricks or panels."""
    base = color(rng, (0.02, 0.25), (0.55, 0.95))
    shade = 1 + 0.05 * clouds(rng, (height, width)) + np.linspace(0.06, -0.08, height, dtype=np.float32)[:, None]
    kind = rng.integers(4)
    rows, columns = np.arange(height), np.arange(width)
    if kind == 0:  # stripes
        period = int(rng.integers(max(6, width // 20), max(9, width // 8)))
        shade = shade * np.where(columns // (period // 2) % 2 == 0, 1.0, rng.uniform(0.86, 0.94))
    elif kind == 1:  # bricks
        tall = max(5, height // 9)
        course = rows // tall
        joint = (rows % tall == 0)[:, None] | ((columns[None] + (course % 2 * tall)[:, None]) % (2 * tall) == 0)
        shade = shade * np.where(joint, rng.uniform(0.75, 0.88), 1.0)
    elif kind == 2:  # panels
        period = max(12, width // 6)
        shade = shade * np.where(columns % period < max(1, period // 14), 0.84, 1.0)
    return np.asarray(shade[..., None] * base, dtype=np.float32)


def _sky(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    top = np.array([rng.uniform(70, 130), rng.uniform(130, 180), rng.uniform(200, 240)], dtype=np.float32)
    bottom = top * 0.35 + 150
    fade = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    white = np.clip(clouds(rng, (height, width)) * 0.5 + rng.uniform(-0.3, 0.3), 0, 0.9)[..., None]
    return np.asarray((top * (1 - fade) + bottom * fade) * (1 - white) + 245 * white)


def _floor(rng: np.random.Generator, camera: SceneCamera, depth: np.ndarray, indoors: bool) -> np.ndarray:
    """Tiles, boards or a carpet indoors, grass or sand outdoors, drawn in floor coordinates, hence in perspective."""
    rows, width = len(depth), camera.width
    columns = np.arange(width, dtype=np.float32) + 0.5
    across = (columns[None] - width / 2) * (depth / camera.focal)[:, None] + rng.uniform(0, 1)
    along = np.repeat(depth[:, None] + rng.uniform(0, 1), width, axis=1)
    # A pattern finer than the pixels would only alias: it fades with the distance.
    clear = np.clip(1.6 - np.gradient(depth)[:, None] * -4 if rows > 1 else 1.0, 0, 1)
    shade = 1 + 0.06 * clouds(rng, (rows, width)) + 0.05 * grain(rng, (rows, width))
    kind = rng.integers(3)
    if indoors:
        base = color(rng, (0.1, 0.45), (0.35, 0.75))
        side = rng.uniform(0.35, 0.7)
        if kind == 0:
            pattern = (np.floor(across / side) + np.floor(along / side)) % 2
            shade = shade * (1 - rng.uniform(0.12, 0.35) * pattern * clear)
        elif kind == 1:
            board = np.floor(across / 0.22)
            tone = np.sin(board * 12.9898) * 43758.5453
            shade = shade * (0.9 + 0.16 * (tone - np.floor(tone)))
            shade = shade * np.where(np.mod(across, 0.22) < 0.02, 1 - 0.3 * clear, 1.0)
    elif kind == 0:
        base = np.array([190, 168, 120], dtype=np.float32) * rng.uniform(0.8, 1.1)
    else:
        base = np.array([rng.uniform(70, 110), rng.uniform(115, 150), rng.uniform(50, 80)], dtype=np.float32)
        shade = shade + 0.1 * grain(rng, (rows, width)) * clear
    return np.asarray(np.asarray(shade, dtype=np.float32)[..., None] * base, dtype=np.float32)
