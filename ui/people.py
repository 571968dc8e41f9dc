"""People of a gallery, as the demo's page and the routes for programs ask for them.

Everything is computed here, and what is kept are names and embeddings in the gallery's folder. No image is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui import strings
from ui.inference import Upload, opened
from ui.operating_point import card_curve, named, operating_point, place_on_curve
from ui.server.job_queue import JobQueue
from visionkit.errors import CheckpointError, DataError, EnvironmentFault, UsageError, VisionKitError
from visionkit.wording import counted

if TYPE_CHECKING:
    import numpy as np

    from tasks.face_recognition.chain import FaceChain
    from tasks.face_recognition.gallery import Gallery
    from visionkit.predictions import Faces


class People:
    """What the page asks: a face model of the model registry, and the gallery that belongs to it.

    Args:
        job_queue: Where work is admitted; of its models the first face recognition model is taken.
        folder: Folder of the gallery.
    """

    def __init__(self, job_queue: JobQueue, folder: Path) -> None:
        self.job_queue, self.folder = job_queue, folder
        self._opening = threading.Lock()
        self._opened: tuple[Any, Gallery] | None = None

    @property
    def model(self) -> Any:
        """The entry of the model.

        Raises:
            UsageError: There is none.
        """
        return self.entry(None)

    def entry(self, name: str | None) -> Any:
        """The entry of a face model in the model registry.

        Args:
            name: Name of the model; the first face recognition model by default.

        Raises:
            UsageError: There is none, or none of that name.
        """
        if name:
            return self.job_queue.model_registry.entry(name)
        for entry in self.job_queue.model_registry.entries():
            if entry.task == "face_recognition" and not entry.fault:
                return entry
        raise UsageError("there is no face recognition model here")

    def ask(self, work: Callable[[FaceChain, Gallery, Callable[[], None]], Any], model: str | None = None) -> Any:
        """Does something with the model and the gallery, one at a time, when it is its turn.

        Args:
            work: Is given, besides, what raises once nobody waits any more; to be called before something is kept.
            model: Name of the face model; see `entry`.
        """
        return self._run(lambda chain, check: work(chain, self._gallery(chain), check), model)

    def _run(
        self, work: Callable[[FaceChain, Callable[[], None]], Any], model: str | None, channel: str = "people"
    ) -> Any:
        from tasks.face_recognition.chain import FaceChain

        name = self.entry(model).name if model else self.model.name

        def admitted(check: Callable[[], None]) -> Any:
            loaded = self.job_queue.model_registry.get(name)
            with loaded.lock:
                check()
                return work(FaceChain(loaded.predictor()), check)

        return self.job_queue.run(admitted, name, channel)

    def _gallery(self, chain: FaceChain) -> Gallery:
        """The gallery of a model; whose it is, is worked out once for each time that it is loaded."""
        from tasks.face_recognition.chain import fingerprint
        from tasks.face_recognition.gallery import Gallery

        with self._opening, self._without_its_path():
            if self._opened is None or self._opened[0] is not chain.task:
                mark = fingerprint(chain.task.config, chain.task.state_dict())
                gallery = Gallery(self.folder, model=mark, width=chain.width, create=True)
                self._opened = chain.task, gallery
            return self._opened[1]

    @contextmanager
    def _without_its_path(self) -> Iterator[None]:
        """Names the gallery without its path: where it lies on the server is nobody's business."""
        try:
            yield
        except VisionKitError as error:
            # Neither the image nor the chosen model's file is at fault.
            kind = {DataError: EnvironmentFault, CheckpointError: UsageError}.get(type(error), type(error))
            raise kind(str(error).replace(str(self.folder), "the server's gallery")) from error

    def _source(self, upload: Upload | None) -> Any:
        """The image; what is none, or too large a one, ends here."""
        if upload is None:
            raise UsageError("give an image first")
        return opened(upload, self.job_queue.limits)

    def enrol(self, upload: Upload | None, name: str, crop: bool, face: float | None, add: bool) -> str:
        """Enrols one person from one image, and states this."""
        source = self._source(upload)
        number = int(face) if face else None

        def work(chain: FaceChain, gallery: Gallery, check: Callable[[], None]) -> None:
            found = chain.one(source, crop, number)
            check()  # who got an error since it took too long is not enrolled afterwards
            gallery.enrol(name or "", found.embeddings, add=add)

        self.ask(work)
        return f"{strings.plain(name)} is enrolled. The image was not kept."

    def find(self, upload: Upload | None, model: str | None = None) -> tuple[Faces, np.ndarray]:
        """The faces of a photo, and its pixels.

        Args:
            upload: The photo.
            model: Name of the face model; see `entry`.
        """
        source = self._source(upload)

        def work(chain: FaceChain, check: Callable[[], None]) -> Any:
            pixels = source.read(3)
            return chain.faces(pixels), pixels

        found: tuple[Faces, np.ndarray] = self._run(work, model, "program")
        return found

    def name(
        self, upload: Upload | None, crop: bool, threshold: float, model: str | None = None
    ) -> tuple[Faces, np.ndarray]:
        """The faces of a photo with the names of those who are known, and its pixels.

        Args:
            upload: The photo.
            crop: The image is one face already.
            threshold: Similarity from which somebody is known.
            model: Name of the face model; see `entry`.
        """
        source = self._source(upload)

        def work(chain: FaceChain, gallery: Gallery, check: Callable[[], None]) -> Any:
            pixels = source.read(3)
            return named(gallery, chain.faces(pixels, crop), threshold), pixels

        found: tuple[Faces, np.ndarray] = self.ask(work, model)
        return found

    def identify(self, upload: Upload | None, crop: bool, far: float) -> tuple[Faces, np.ndarray, str]:
        """The faces of a photo with names, its pixels, and the threshold in words."""
        self._source(upload)
        point = operating_point(card_curve(self.model.card), far)
        faces, pixels = self.name(upload, crop, point.threshold)
        return faces, pixels, strings.plain(f"{counted(len(faces), 'face')} · {point.message}")

    def verify(self, first: Upload | None, second: Upload | None, crop: bool, far: float) -> str:
        """Whether two images show one person, with the score on the scale of the ROC."""
        sources = [self._source(first), self._source(second)]
        curve = card_curve(self.model.card)
        point = operating_point(curve, far)

        def work(chain: FaceChain, gallery: Gallery, check: Callable[[], None]) -> float:
            first = chain.one(sources[0], crop, None).embeddings[0]
            check()
            return float(first @ chain.one(sources[1], crop, None).embeddings[0])

        score = self.ask(work)
        verdict = "The same person" if score >= point.threshold else "Different people"
        place = place_on_curve(score, curve)
        scale = (
            f" So high score {place['far']:.2%} of pairs of different people and {place['tar']:.1%} of pairs of one "
            "person, on the images that the model was measured on."
        )
        return f"**{verdict}.** Similarity {score:.3f}; {strings.plain(point.message)}.{scale if place else ''}"

    def listed(self) -> list[list[str]]:
        """Who is enrolled, and with how many images."""
        from tasks.face_recognition.gallery import DATABASE, Gallery

        if not (self.folder / DATABASE).is_file():
            return []
        with self._without_its_path():
            return [[person.name, str(person.images)] for person in Gallery(self.folder).people()]

    def remove(self, name: str | None) -> str:
        """Forgets one person, and states this."""
        if not name:
            raise UsageError("choose who is to be forgotten")
        from tasks.face_recognition.gallery import Gallery

        count = Gallery(self.folder).remove(name)
        return f"{strings.plain(name)} is forgotten; {counted(count, 'embedding')} overwritten."
