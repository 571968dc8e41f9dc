"""Images to click: what the example models bring, free photos, and generated scenes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

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
    example_models = [entry for entry in entries if entry.example_model and task in (None, entry.task)]
    found = [path for entry in example_models for path in sorted(Path(entry.path).glob("examples/*.*"))]
    skimage = find_spec("skimage")
    if skimage is not None and skimage.submodule_search_locations:
        data = Path(skimage.submodule_search_locations[0]) / "data"
        found += [data / name for name in PHOTOS if (data / name).is_file()]
    from PIL import Image

    from visionkit.synthetic.generate import make_scene

    for number in SCENES:
        path = scratch / f"scene-{number}.png"
        if not path.is_file():
            Image.fromarray(make_scene(seed=0, index=number, size=(240, 320)).image).save(path)
        found.append(path)
    return [str(path) for path in found]
