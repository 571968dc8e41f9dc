"""From a photo to the embeddings of its faces: find, place five landmarks, align, embed. Each step can be replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from tasks.face_recognition.finding import NO_FACE, CascadeFinder, EyePlacer, FaceFinder, LandmarkPlacer
from tasks.face_recognition.task import FaceRecognitionTask
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageLike, ImageSource
from visionkit.predictions import Faces, Prediction
from visionkit.predictor import Predictor
from visionkit.renamed import stored_names
from visionkit.tiling import MergeObjects, Plan, Views
from visionkit.wording import counted

_SERVED = ("input", "framing", "flip_tta", "embedding", "head", "backbone")


class FaceChain(Predictor):
    """Predicts the faces of photos: finds them, places five landmarks, aligns and embeds.

    Args:
        predictor: Predictor of a face recognition model.
        finder: Finds faces; scikit-image's cascade by default.
        placer: Places landmarks where the finder gives none; by the eyes by default.
        whole: Take the whole image as one face where none is found.

    Raises:
        UsageError: A model of another task.

    Example:
        >>> chain = FaceChain(load("models/faces"))
        >>> faces = chain("group.jpg")
        >>> faces.boxes.shape, faces.embeddings.shape
        ((3, 4), (3, 128))
    """

    task: FaceRecognitionTask

    def __init__(
        self,
        predictor: Predictor,
        finder: FaceFinder | None = None,
        placer: LandmarkPlacer | None = None,
        whole: bool = False,
    ) -> None:
        if not isinstance(predictor.task, FaceRecognitionTask):
            raise UsageError(f"a face recognition model is needed, not one of {predictor.task.name}")
        super().__init__(predictor.task, predictor.engine, predictor.batch_size)
        self.finder: FaceFinder = finder or CascadeFinder()
        self.placer: LandmarkPlacer = placer or EyePlacer()
        self.whole = whole

    @property
    def width(self) -> int:
        """Of the embeddings."""
        return self.task.embedding

    def plan(self, image: ImageSource, views: Views | None = None, **options: Any) -> Plan:
        """The faces that are found, the larger ones first; none is a prediction too."""
        if views is not None:
            return super().plan(image, views, **options)
        pixels = image.read(3)
        found, source = self.finder(pixels), ImageSource(pixels, image.name)
        if self.whole and not len(found.boxes):
            return Plan((None,), MergeObjects(_unsearched), source)
        if found.landmarks is None and len(found.boxes):
            found = found._replace(landmarks=self.placer(pixels, found.boxes))
        return self.task.plan(source, found=found)._replace(image=source)

    def faces(self, image: ImageLike, crop: bool = False) -> Faces:
        """The faces of an image.

        Args:
            image: See `visionkit.images`.
            crop: The image is an aligned crop of one face already.

        Raises:
            DataError: The image cannot be read.
        """
        found = self(image, views=(None,) if crop else None)
        assert isinstance(found, Faces)
        return found

    def one(self, image: ImageLike, crop: bool = False, face: int | None = None) -> Faces:
        """The one face of an image that somebody is to be enrolled with or verified by.

        Args:
            image: See `visionkit.images`.
            crop: The image is an aligned crop already.
            face: Which one of several, from 1, the largest being the first.

        Raises:
            DataError: No face, or several and nothing was given which.
        """
        name = ImageSource(image).name
        faces = self.faces(image, crop)
        if len(faces) == 0:
            raise DataError(
                f"{name}: no face found; take a frontal one, or state with --crop that the image is a face already"
            )
        if face is not None and not 1 <= face <= len(faces):
            raise UsageError(f"--face {face}: {name} has {len(faces)} face(s), numbered from 1, the largest first")
        if len(faces) > 1 and face is None:
            boxes = "; ".join(
                f"{number}: {', '.join(f'{v:.0f}' for v in box)}" for number, box in enumerate(faces.boxes, 1)
            )
            raise DataError(
                f"{name}: {counted(len(faces), 'face')} ({boxes}); state which one is meant with --face N, 1 being the "
                "largest"
            )
        number = (face or 1) - 1
        if not crop and faces.scores[number] < NO_FACE:
            raise DataError(
                f"{name}: what was found has the score {faces.scores[number]:.2f}, below {NO_FACE:g}, so it is hardly "
                "a face; take a clearer image, or cut the face out and give it with --crop"
            )
        return take(faces, [number])


def _unsearched(parts: Sequence[Prediction]) -> Prediction:
    (face,) = parts
    assert isinstance(face, Faces)
    return replace(face, faces_found=0)


def take(faces: Faces, numbers: list[int]) -> Faces:
    """Some faces of an image."""
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
    """What ties a gallery to a model: a digest of its weights and of what it does to an image.

    The training head has no part in it, so a checkpoint and the bundle that was exported from it are one model; in 16
    bit it is another.

    Args:
        config: Constructor arguments of the task.
        weights: Its state.
    """
    digest = hashlib.sha256()
    facts = stored_names(FaceRecognitionTask.name, {key: config.get(key) for key in _SERVED})
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    for name in sorted(weights):
        if not name.startswith("loss."):
            values = weights[name].detach().cpu().float().contiguous().numpy()
            digest.update(name.encode() + values.tobytes())
    return digest.hexdigest()
