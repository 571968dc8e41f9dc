"""The base of every type of prediction with all that is done with one, and the registry of the types."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
    from visionkit.camera import CameraIntrinsics
    from visionkit.images import ImageLike
    from visionkit.predictions.labels import LabelFacts


@dataclass(frozen=True, eq=False)
class Overlay:
    """What lies over an image, for viewers that switch it on and off class by class.

    Attributes:
        classes: Names in label order.
        labels: (h, w) uint8, the class of each pixel and 255 where there is none, or None; 255 classes at most.
        boxes: (N, 4) x1, y1, x2, y2 as fractions of the image's width and height, or None.
        numbers: (N,) the class of each box.
        scores: (N,) in [0, 1].
    """

    classes: tuple[str, ...]
    labels: np.ndarray | None = None
    boxes: np.ndarray | None = None
    numbers: np.ndarray | None = None
    scores: np.ndarray | None = None


class Difference(NamedTuple):
    """How far two predictions on one image are apart.

    Attributes:
        largest: Largest difference of a probability, or of a value as a part of the largest value.
        same: Whether they mean the same: the same class, the same number of objects.
    """

    largest: float
    same: bool


class Prediction(ABC):
    """Base of every type of prediction.

    A type is a frozen dataclass of numpy arrays in file pixels. It names itself by `kind`, writes and reads its json,
    and overrides what else can be done with it; every other default is that the type has no such form. The demo finds
    a type's view by the entry point of that name in the group `visionkit.views`.

    Attributes:
        kind: Its name in json.
        label_keys: Keys of a target, any of which `from_labels` can make a prediction of this type from.
        label_rank: Of several types that a target has the keys of, the one of the highest rank shows its labels.
    """

    kind: ClassVar[str]
    label_keys: ClassVar[tuple[str, ...]] = ()
    label_rank: ClassVar[int] = 0
    _kinds: ClassVar[dict[str, type[Prediction]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Prediction._kinds[cls.kind] = cls

    @staticmethod
    def kinds() -> tuple[type[Prediction], ...]:
        """Every type that is known, in the order in which they were defined."""
        return tuple(Prediction._kinds.values())

    @classmethod
    def from_labels(cls, target: Mapping[str, Any], facts: LabelFacts) -> Prediction | None:
        """The labels of an image in the form of this type, where no model has predicted anything.

        Args:
            target: See `visionkit.types.Target`.
            facts: What the target does not state, such as class names; sizes are in the target's pixels.

        Returns:
            None where the type has no such form.
        """
        return None

    def class_names(self) -> list[str]:
        """The classes that the prediction shows, each once; empty where it has no classes."""
        return []

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain json types; `from_json` gives an equal value back."""

    @classmethod
    @abstractmethod
    def _from_json(cls, record: Mapping[str, Any]) -> Prediction: ...

    def summary(self) -> dict[str, Any]:
        """What `to_json` gives without pixels, to be read by people or to lie beside the files that hold them."""
        return self.to_json()

    def record(self, top: int | None = None) -> dict[str, Any]:
        """What `to_json` gives, of class probabilities the `top` highest alone; all of them by default."""
        return self.to_json()

    def text(self, top: int = 3) -> str:
        """The prediction in one line for people.

        Args:
            top: Number of classes or objects that are named, at most.
        """
        return self.kind

    def nothing(self) -> str:
        """What is reported of a prediction in which nothing was found; empty where something was."""
        return ""

    def difference(self, other: Prediction) -> Difference | None:
        """How far another prediction of this type on the same image is from this one.

        The check of an exported graph compares predictions by it; types without it are compared by the network's
        outputs alone.
        """
        return None

    def draw(self, image: ImageLike) -> np.ndarray:
        """Draws the prediction on its image.

        Args:
            image: Path, bytes, PIL image or array (h, w, 3) RGB uint8; it is not changed.

        Returns:
            (h, w, 3) uint8 RGB; an image of less than 256 pixels is enlarged by a whole factor.

        Raises:
            TypeError: The type has no drawing.
        """
        raise TypeError(f"no drawing for {type(self).__name__}")

    def files(self, stem: Path) -> Iterator[tuple[Path, bytes]]:
        """The files that hold the prediction where json is not enough; by default none.

        Args:
            stem: Path without an ending, which each file adds (`with_name(stem.name + ".png")`, since a name may hold
                dots).

        Yields:
            Path and content of each file.
        """
        yield from ()

    def save(self, stem: Path) -> list[Path]:
        """Writes what `files` gives, each file whole or not at all.

        Args:
            stem: Path without suffix, as in `files`; its folder is created where a file needs it.

        Raises:
            OSError: The disk is full, or the folder cannot be written.
        """
        from visionkit.atomic import write_whole

        written = []
        for path, content in self.files(stem):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
            written.append(path)
        return written

    def points(self, image: ImageLike, camera: CameraIntrinsics) -> bytes | None:
        """A `.ply` file of colored points in space; None where the prediction has no metric depth.

        Args:
            image: The image of the prediction.
            camera: The camera that took it.
        """
        return None

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """The prediction as it is drawn and reported where the call was given these options of `decode`."""
        return self

    @property
    def coco_classes(self) -> tuple[str, ...]:
        """Category names of its COCO results in label order; empty where COCO has no results of this type."""
        return ()

    def coco_results(self, image_id: int | str, category_id: int = 1) -> list[dict[str, Any]]:
        """Rows of COCO's results json.

        Args:
            image_id: Id of the image.
            category_id: Id of the first class; the others follow in label order.
        """
        return []

    def truth(self, target: Mapping[str, Any]) -> Prediction | None:
        """The ground truth of the same image, in the form of this prediction, to be drawn beside it.

        Args:
            target: See `visionkit.types.Target`, in file pixels.

        Returns:
            None where the target does not state, or the type has no such form.
        """
        return None

    def row(self, truth: Prediction | None = None) -> dict[str, str | float | bool]:
        """What a table of images states about this prediction, by column; by default nothing.

        Args:
            truth: What `truth` gave.
        """
        return {}

    def overlay(self, size: tuple[int, int]) -> Overlay | None:
        """The prediction as layers over the image in another size.

        Args:
            size: Height and width.

        Returns:
            None where the type has no such form.
        """
        return None

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Prediction:
        """Reads what `to_json` wrote, of whichever kind.

        Raises:
            ValueError: The record names a type that is unknown here.
        """
        kind = record.get("kind")
        if kind not in Prediction._kinds:
            _import_tasks()
        if kind not in Prediction._kinds:
            raise ValueError(f"unknown type of prediction {kind!r}; known are {', '.join(sorted(Prediction._kinds))}")
        return Prediction._kinds[kind]._from_json(record)


def _import_tasks() -> None:
    """Makes the types known that tasks of other packages bring."""
    from visionkit.registry import task_class, task_names

    for name in task_names():
        with suppress(ImportError):  # a broken package keeps its own types from being known, no others
            task_class(name)
