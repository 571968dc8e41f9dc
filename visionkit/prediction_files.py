"""The files that an answer is handed out as, beside its record: a label map as png, depth as png and npy.

Every kind that has files registers how they are written; the others have none.
"""

from __future__ import annotations

from functools import singledispatch
from pathlib import Path

from visionkit.atomic import write_whole
from visionkit.camera import Camera, ply, point_cloud
from visionkit.images import ImageSource
from visionkit.predictions import Answers, DepthMap, LabelMap, Picture, Prediction


@singledispatch
def save_files(prediction: Prediction, stem: Path) -> list[Path]:
    """Writes the files of an answer.

    Args:
        prediction: The answer.
        stem: Path without an ending, which each file adds (`with_name(stem.name + ".png")`, since a name may hold
            dots); its folder is there.

    Returns:
        What was written; nothing for kinds that have no files.

    Raises:
        OSError: The disk is full, the folder cannot be written.
    """
    return []


def has_files(prediction: Prediction) -> bool:
    """Whether answers of this kind are handed out as files."""
    return save_files.dispatch(type(prediction)) is not save_files.dispatch(object)


@save_files.register(LabelMap)
def _label_map(prediction: LabelMap, stem: Path) -> list[Path]:
    """`.png`: a label a pixel, shown in the colours of the drawing."""
    from visionkit.drawing.colours import palette

    path = stem.with_name(stem.name + ".png")
    write_whole(path, prediction.png(palette(len(prediction.classes))))
    return [path]


@save_files.register(Picture)
def _picture(prediction: Picture, stem: Path) -> list[Path]:
    """`.png`: the picture, its depth, grey and transparency kept."""
    path = stem.with_name(stem.name + ".png")
    write_whole(path, prediction.png())
    return [path]


@save_files.register(DepthMap)
def _depth_map(prediction: DepthMap, stem: Path) -> list[Path]:
    """`.png`: 16 bit, millimetres, see `DepthMap.png`; `.npy`: float32 metres."""
    paths = [stem.with_name(stem.name + ending) for ending in (".png", ".npy")]
    write_whole(paths[0], prediction.png())
    write_whole(paths[1], prediction.npy())
    return paths


@save_files.register(Answers)
def _answers(prediction: Answers, stem: Path) -> list[Path]:
    """The files of every head that has some, its name put behind the picture's: `street-depth.png`."""
    return [
        path for name, part in prediction.items() for path in save_files(part, stem.with_name(f"{stem.name}-{name}"))
    ]


def save_points(prediction: Prediction, picture: ImageSource, camera: Camera, stem: Path) -> list[Path]:
    """`.ply`: the coloured points of metric depth; nothing for answers of other kinds.

    Args:
        prediction: The answer.
        picture: What it is of.
        camera: That took the picture.
        stem: As in `save_files`.

    Raises:
        OSError: As `save_files`.
    """
    if not (isinstance(prediction, DepthMap) and prediction.metric):
        return []
    path = stem.with_name(stem.name + ".ply")
    write_whole(path, ply(*point_cloud(prediction.values, picture.read(), camera)))
    return [path]
