"""A folder of images that a model labels and a person corrects: what was done to each image, and what may be replaced.

`label.jsonl` states in its first line what the folder holds, and in every further one what happened to an image: which
model labeled it and a digest of what it wrote, or that a person has reviewed it. Annotations whose digest is none of
these were changed by a person or by another tool, and are never replaced.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import RLock
from typing import IO, Any

from datamodules.label_classes import CsvStore, FolderStore
from datamodules.label_store import CocoStore, LabelStore, VocStore, YoloStore
from datamodules.object_entries import AnnotatedImage
from datamodules.object_files import free_name
from datamodules.object_writers import Losses
from visionkit.atomic import write_whole
from visionkit.errors import DataError, EnvironmentFault, UsageError
from visionkit.skeleton import Skeleton
from visionkit.text_files import parse_json, read_text, shown

JOURNAL = "label.jsonl"
STORES: Mapping[str, type[LabelStore]] = {
    "coco": CocoStore,
    "yolo": YoloStore,
    "voc": VocStore,
    "csv": CsvStore,
    "folders": FolderStore,
}
_FORMAT = 1


@dataclass(frozen=True)
class Description:
    """What a folder of labels holds.

    Attributes:
        format: One of `STORES`.
        task: Name of the task whose models label it.
        target: `boxes`, `masks`, `keypoints` or, of whole images, `classes`.
        classes: Classes in label order.
        skeleton: Content of the keypoints' skeleton, or None.
    """

    format: str
    task: str
    target: str
    classes: tuple[str, ...]
    skeleton: Any = None

    def differences(self, other: Description) -> str:
        """What differs from another description, for a message; empty where nothing does."""
        own, their = asdict(self), asdict(other)
        return ", ".join(
            f"{name} {shown(own[name])} and not {shown(their[name])}" for name in own if own[name] != their[name]
        )


@dataclass
class ImageState:
    """What happened to an image so far.

    Attributes:
        source: Path of the file that it was copied from.
        digests: Digests of all that models wrote for it.
        model: The model that labeled it last.
        reviewed: A person has accepted or corrected its annotations.
        uncertainty: How uncertain the model was of it, in [0, 1], or None.
    """

    source: str = ""
    digests: set[str] = field(default_factory=set)
    model: str = ""
    reviewed: bool = False
    uncertainty: float | None = None


class LabelFolder:
    """The images and annotations of one folder; use it as a context, which keeps others from writing to it meanwhile.

    Args:
        out: The folder; it is made where it is not there.
        description: What it shall hold; by default what its journal states.

    Attributes:
        images: State of each image by name, in the order in which they were labeled.
        selected: Paths of the images that were chosen last to be labeled.

    Raises:
        UsageError: The folder holds something else.
        DataError: Its journal is damaged.
    """

    def __init__(self, out: Path, description: Description | None = None) -> None:
        self.out, self.lock = out, RLock()
        self.path = out / JOURNAL
        self.images: dict[str, ImageState] = {}
        self.selected: list[str] = []
        self._names: dict[str, str] = {}
        self._stems: set[str] = set()
        self._lines: list[str] = []
        self._handle: IO[bytes] | None = None
        known = self._read()
        if known is None and description is None:
            raise UsageError(f"{out}: no labels of `visionkit label` there (it has no {JOURNAL})")
        if known is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(
                f"{out}: not an empty folder, and it has no {JOURNAL} of an earlier `visionkit label`; name a new one"
            )
        if known is not None and description is not None and (apart := known.differences(description)):
            raise UsageError(f"{out}: was labeled with {apart}; name another folder")
        self.description: Description = known or description  # type: ignore[assignment]
        skeleton = self.description.skeleton
        self.skeleton = None if skeleton is None else Skeleton.of(skeleton)
        self.losses = Losses()
        store = STORES[self.description.format]
        self.store: LabelStore = store(out, self.description.classes, self.skeleton, self.losses)

    def __enter__(self) -> LabelFolder:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            if not self.path.exists():
                head = {"visionkit_labels": _FORMAT, **asdict(self.description)}
                write_whole(self.path, (json.dumps(head, ensure_ascii=False) + "\n").encode())
            self._handle = self.path.open("r+b")
        except OSError as error:
            raise EnvironmentFault(f"{self.path}: cannot be written ({error.strerror or error})") from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._handle.close()
            raise UsageError(
                f"{self.out}: another `visionkit label` is using it; wait until it has ended, or end it"
            ) from None
        except OSError:
            pass  # a file system without locks
        whole = self._handle.read().rfind(b"\n") + 1
        self._handle.truncate(whole)
        self._handle.seek(whole)
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        assert self._handle is not None
        try:
            if kind is None:
                self.flush()
        finally:
            self._handle.close()

    def name_of(self, source: Path) -> str | None:
        """The name under which an image was labeled; None where it was not."""
        return self._names.get(str(source.resolve()))

    def is_done(self, name: str) -> bool:
        """Whether an image has annotations, if only an empty list."""
        return self.store.content(name) is not None

    def is_corrected(self, name: str) -> bool:
        """Whether the annotations of an image are not what a model wrote: reviewed, or changed by whatever program."""
        state, digest = self.images[name], self.store.digest(name)
        return state.reviewed or (digest is not None and digest not in state.digests)

    def add(
        self, source: Path, entry: AnnotatedImage, size: tuple[int, int], model: str, uncertainty: float | None = None
    ) -> str:
        """Takes what a model labels in an image, which is copied; `flush` brings the annotations to the disk.

        Args:
            source: Path of the image.
            entry: Its annotations.
            size: Its height and width.
            model: Model that labeled it.
            uncertainty: How uncertain the model was, in [0, 1].

        Returns:
            The name of the image in the folder.
        """
        name = self.name_of(source) or free_name(source, self._stems)
        image = self.store.image(name)
        part = image.with_name(f".{name}.part")
        try:
            image.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, part)  # also where there is a copy: the source may have changed since
            part.replace(image)
        except OSError as error:
            raise EnvironmentFault(f"{image}: cannot be written ({error.strerror or error})") from error
        facts = {"image": name, "source": str(source.resolve()), "model": model}
        facts |= {"digest": self.store.put(name, entry, size, reviewed=False)}
        self._note({**facts, **({} if uncertainty is None else {"uncertainty": round(uncertainty, 6)})})
        return name

    def choose(self, sources: Sequence[Path]) -> None:
        """Notes which images are to be labeled next, so that an interrupted run does not choose others."""
        self._note({"selected": [str(source.resolve()) for source in sources]})
        self.flush()

    def correct(self, name: str, entry: AnnotatedImage, size: tuple[int, int], reviewed: bool) -> None:
        """Writes what a person has made of the annotations of an image; on the disk when the call returns.

        Args:
            name: Name of the image.
            entry: Its annotations.
            size: Its height and width.
            reviewed: The person is done with the image.
        """
        reviewed = reviewed or self.images[name].reviewed
        self.store.put(name, entry, size, reviewed)
        if reviewed and not self.images[name].reviewed:
            self._note({"image": name, "reviewed": True})
        self.flush()

    def flush(self) -> None:
        """Brings all to the disk, the journal first: nothing that a model wrote is taken for a person's."""
        assert self._handle is not None
        try:
            self._handle.write("".join(self._lines).encode())
            self._handle.flush()
        except OSError as error:
            raise EnvironmentFault(f"{self.path}: cannot be written ({error.strerror or error})") from error
        self._lines = []
        self.store.flush()

    def _note(self, line: dict[str, Any]) -> None:
        self._lines.append(json.dumps(line, ensure_ascii=False) + "\n")
        self._take(line)

    def _take(self, line: Mapping[str, Any]) -> None:
        """One line of the journal."""
        if "selected" in line:
            self.selected = [str(each) for each in line["selected"]]
            return
        name = line["image"]
        if not isinstance(name, str) or Path(name).name != name or "\\" in name or name in ("", ".", ".."):
            raise DataError(f"{self.path}: {shown(name)} is no name of an image in this folder")
        state = self.images.setdefault(name, ImageState())
        if "source" in line:
            state.source = line["source"]
            self._names[state.source] = name
            self._stems.add(Path(name).stem.lower())
        if "digest" in line:
            state.digests.add(line["digest"])
            state.model = line.get("model", "")
            state.uncertainty = line.get("uncertainty")
        state.reviewed = state.reviewed or bool(line.get("reviewed"))

    def _read(self) -> Description | None:
        """The journal; a last line that a killed process has left unfinished does not count."""
        if not self.path.is_file():
            return None
        lines = read_text(self.path, what="journal").split("\n")[:-1]
        records = [parse_json(line, f"{self.path} line {number}") for number, line in enumerate(lines, 1)]
        try:
            head = dict(records[0])
            if head.pop("visionkit_labels") != _FORMAT or head["format"] not in STORES:
                raise ValueError
            description = Description(**{**head, "classes": tuple(head["classes"])})
            for record in records[1:]:
                self._take(record)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise DataError(
                f"{self.path}: not a journal of `visionkit label`; restore it, or label into another folder"
            ) from None
        return description
