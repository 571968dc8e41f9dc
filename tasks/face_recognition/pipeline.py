"""From a photo to the embeddings of its faces: find, place five landmarks, align, embed. Each step can be replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from tasks.face_recognition.alignment import face_view
from tasks.face_recognition.finding import NO_FACE, CascadeFinder, EyePlacer, FaceFinder, Found, LandmarkPlacer
from tasks.face_recognition.task import FaceRecognitionTask
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageLike, ImageSource
from visionkit.predictions import Faces
from visionkit.predictor import Predictor

_SERVED = ("input", "framing", "mirror", "embedding", "head", "backbone")


class FacePipeline:
    """Answers photos with their faces.

    Args:
        predictor: Of a face recognition model.
        finder: Finds faces; scikit-image's cascade where left out.
        placer: Places landmarks where the finder gives none; by the eyes where left out.

    Raises:
        UsageError: A model of another task.

    Example:
        >>> pipeline = FacePipeline(load("models/faces"))
        >>> faces = pipeline("group.jpg")
        >>> faces.boxes.shape, faces.embeddings.shape
        ((3, 4), (3, 128))
    """

    def __init__(
        self, predictor: Predictor, finder: FaceFinder | None = None, placer: LandmarkPlacer | None = None
    ) -> None:
        if not isinstance(predictor.task, FaceRecognitionTask):
            raise UsageError(f"a face recognition model is wanted, not one of {predictor.task.name}")
        self.predictor, self.task = predictor, predictor.task
        self.finder: FaceFinder = finder or CascadeFinder()
        self.placer: LandmarkPlacer = placer or EyePlacer()

    @property
    def width(self) -> int:
        """Of the embeddings."""
        return self.task.embedding

    def __call__(self, picture: ImageLike) -> Faces:
        """The faces of a photo, the larger ones first; none is an answer too.

        Raises:
            DataError: The picture cannot be read.
        """
        source = ImageSource(picture)
        pixels = source.read(3)
        found = self.finder(pixels)
        if len(found.boxes) == 0:
            empty = np.zeros((0, 4)), np.zeros((0, self.width)), np.zeros(0), np.zeros((0, 5, 2))
            return Faces(*empty, faces_found=0)
        landmarks = found.landmarks if found.landmarks is not None else self.placer(pixels, found.boxes)
        return self.embed(pixels, Found(found.boxes, found.scores, landmarks))

    def embed(self, pixels: np.ndarray, found: Found) -> Faces:
        """Aligns and embeds faces whose landmarks are known.

        Args:
            pixels: (h, w, 3) uint8 RGB.
            found: With landmarks.
        """
        assert found.landmarks is not None
        views = [face_view(points, self.task.framing) for points in found.landmarks]
        answer = self.predictor(pixels, views=views)
        assert isinstance(answer, Faces)
        return replace(
            answer,
            boxes=found.boxes,
            scores=found.scores,
            landmarks=found.landmarks,
            faces_found=len(found.boxes),
            whole_image=False,
        )

    def crop(self, picture: ImageLike) -> Faces:
        """The one face of a picture that is an aligned crop already."""
        answer = self.predictor(picture)
        assert isinstance(answer, Faces)
        return answer

    def one(self, picture: ImageLike, crop: bool = False, face: int | None = None) -> Faces:
        """The one face of a picture that somebody is to be enrolled with or verified by.

        Args:
            picture: See `visionkit.images`.
            crop: The picture is an aligned crop already.
            face: Which one of several, from 1, the largest being the first.

        Raises:
            DataError: No face, or several and nobody said which.
        """
        name = ImageSource(picture).name
        faces = self.crop(picture) if crop else self(picture)
        if len(faces) == 0:
            raise DataError(
                f"{name}: no face found; take a frontal one, or say with --crop that the image is a face already"
            )
        if face is not None and not 1 <= face <= len(faces):
            raise UsageError(f"--face {face}: {name} has {len(faces)} face(s), numbered from 1, the largest first")
        if len(faces) > 1 and face is None:
            boxes = "; ".join(
                f"{number}: {', '.join(f'{v:.0f}' for v in box)}" for number, box in enumerate(faces.boxes, 1)
            )
            raise DataError(
                f"{name}: {len(faces)} faces ({boxes}); say which one is meant with --face N, 1 being the largest"
            )
        number = (face or 1) - 1
        if not crop and faces.scores[number] < NO_FACE:
            raise DataError(
                f"{name}: what was found has the score {faces.scores[number]:.2f}, below {NO_FACE:g}, so it is hardly "
                "a face; take a clearer image, or cut the face out and give it with --crop"
            )
        return take(faces, [number])


def take(faces: Faces, numbers: list[int]) -> Faces:
    """Some faces of a picture."""
    assert faces.similarities is not None
    return Faces(
        faces.boxes[numbers],
        faces.embeddings[numbers],
        faces.scores[numbers],
        faces.landmarks[numbers],
        tuple(faces.names[k] for k in numbers),
        faces.similarities[numbers],
        faces.faces_found,
        faces.whole_image,
    )


def fingerprint(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str:
    """What ties a gallery to a model: a digest of its weights and of what it does to a picture.

    The training head has no part in it, so a checkpoint and the bundle that was exported from it are one model; in 16
    bit it is another.

    Args:
        config: Constructor arguments of the task.
        weights: Its state.
    """
    digest = hashlib.sha256()
    facts = {key: config.get(key) for key in _SERVED}
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    for name in sorted(weights):
        if not name.startswith("loss."):
            values = weights[name].detach().cpu().float().contiguous().numpy()
            digest.update(name.encode() + values.tobytes())
    return digest.hexdigest()
