"""Images to click: what the example models bring, free photos, and generated scenes; pairs where two are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ui.model_registry import ModelEntry

PHOTOS = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png")
"""CC0 or public-domain photos that scikit-image ships; its `data/README.txt` names their authors."""

SCENES = (3, 8)
"""Numbers of generated scenes among the examples."""


def examples(scratch: Path, entries: Sequence[ModelEntry], task: str | None = None) -> list[str]:
    """Paths of the images.

    Args:
        scratch: Folder in which scenes are drawn.
        entries: The models, whose own images come first.
        task: Task of whose models the images are taken; of all by default.
    """
    found = [path for folder in _folders(entries, task) for path in sorted(folder.glob("*.*"))]
    found += _photos()
    from PIL import Image

    from visionkit.synthetic.generate import make_scene

    for number in SCENES:
        path = scratch / f"scene-{number}.png"
        if not path.is_file():
            Image.fromarray(make_scene(seed=0, index=number, size=(240, 320)).image).save(path)
        found.append(path)
    return [str(path) for path in found]


def example_pairs(
    scratch: Path, entries: Sequence[ModelEntry], task: str | None, inputs: Sequence[str]
) -> list[list[str]]:
    """Paths of images that belong together, one for each input.

    An example model brings them as `examples/<name>/<input>.png`; drawn ones follow.

    Args:
        scratch: Folder in which they are drawn.
        entries: The models, whose own pairs come first.
        task: Task of whose models they are taken.
        inputs: Names of the inputs, in order.
    """
    own = [pair for folder in _folders(entries, task) for pair in sorted(folder.glob("*/"))]
    found = [[pair / f"{name}.png" for name in inputs] for pair in own]
    if draw := _DRAWN.get(tuple(inputs)):
        from PIL import Image

        for number in SCENES:
            pair = [scratch / f"{'-'.join(inputs)}-{number}-{name}.png" for name in inputs]
            if not all(path.is_file() for path in pair):
                for path, image in zip(pair, draw(number), strict=True):
                    Image.fromarray(image).save(path)
            found.append(pair)
    return [[str(path) for path in pair] for pair in found if all(path.is_file() for path in pair)]


def example_views(scratch: Path) -> list[list[str]]:
    """Paths of two views of each free photo: the photo, and the same seen from the side.

    Args:
        scratch: Folder into which the second views are written.
    """
    import cv2
    from PIL import Image

    from visionkit.images import read_image

    found = [(path, scratch / f"{path.stem}-view.png") for path in _photos()]
    for path, view in found:
        if not view.is_file():
            image = read_image(path)
            height, width = image.shape[:2]
            corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * (width, height)
            seen = np.array([(0.2, 0.05), (0.95, 0.15), (0.85, 0.9), (0.05, 0.95)]) * (width, height)
            matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), seen.astype(np.float32))
            Image.fromarray(cv2.warpPerspective(image, matrix, (width, height))).save(view)
    return [[str(path), str(view)] for path, view in found]


def _photos() -> list[Path]:
    """The free photos that are installed."""
    skimage = find_spec("skimage")
    if skimage is None or not skimage.submodule_search_locations:
        return []
    data = Path(skimage.submodule_search_locations[0]) / "data"
    return [data / name for name in PHOTOS if (data / name).is_file()]


def _folders(entries: Sequence[ModelEntry], task: str | None) -> list[Path]:
    """Folders of the example models' own images."""
    own = [entry for entry in entries if entry.example_model and task in (None, entry.task)]
    return [Path(entry.path) / "examples" for entry in own]


def _stereo(number: int) -> tuple[np.ndarray, np.ndarray]:
    from visionkit.synthetic.pairs import draw_stereo_pair

    pair = draw_stereo_pair(0, number, _settings(), (0.2, 0.4))
    return pair.left, pair.right


def _frames(number: int) -> tuple[np.ndarray, np.ndarray]:
    from visionkit.synthetic.pairs import draw_flow_pair

    pair = draw_flow_pair(0, number, _settings(), (2, 2))
    return pair.first, pair.second


def _settings() -> Any:
    from visionkit.synthetic import ClipSettings

    return ClipSettings(size=(192, 256), speed=0.03, camera_speed=0.15, length=3)


_DRAWN: dict[tuple[str, ...], Callable[[int], tuple[np.ndarray, np.ndarray]]] = {
    ("left", "right"): _stereo,
    ("first", "second"): _frames,
}
"""What is drawn for inputs of these names."""
