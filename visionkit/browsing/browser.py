"""Finds the samples of a data set that a filter asks for, and draws them with their labels."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_args

import numpy as np
from PIL import Image

from visionkit.browsing.items import Filter, Item, by_file, caption_of, sizes_of
from visionkit.browsing.measured_model import MeasuredModel
from visionkit.checkup.findings import Finding
from visionkit.checkup.marking import mark
from visionkit.data import Split, VisionDataModule
from visionkit.data_summary import NamedSamples
from visionkit.drawing.base import side_by_side
from visionkit.errors import DataError, MissingSplit, UsageError, VisionKitError
from visionkit.geometry import InputSpec
from visionkit.inputs import last_frame
from visionkit.loading import Augment, SampleDataset
from visionkit.predictions.labels import LabelFacts, labels_of
from visionkit.preprocess import Preprocessor
from visionkit.refusals import kept_refusals
from visionkit.targets import fixed
from visionkit.types import Sample

SPLITS: tuple[Split, ...] = get_args(Split)

AUGMENTED_SIDE = 480
"""Longer side in pixels of an augmented image, where no model states the size of its input."""

LABELS, AUGMENTED, PREDICTION = "labels", "augmented", "prediction"
"""Drawings of a sample."""

BLANK = (120, 160, 3)
"""Shape of what stands for an image that cannot be read."""


@dataclass
class _Search:
    """What a filter has found so far, and the position in the order of the data that is read next."""

    found: list[Item] = field(default_factory=list)
    next: int = 0


class DataBrowser:
    """The samples of a data set, in their order; safe to call from several threads.

    Labels are read when they are needed and what was found is kept, so that the first samples of a large data set are
    there at once, and a filter reads no further than it has to.

    Args:
        data: The data; its `augment` is replaced by `augment` where that is given.
        augment: What training would do with a sample; that of the data by default.
        input: Input of the network that is to be trained; by default each augmented image has the shape of its own.
        findings: What an examination has found.
        model: A model that was measured on one split, which alone is browsed, the worst images first.

    Raises:
        DataError: The data has no split that can be read.
    """

    def __init__(
        self,
        data: VisionDataModule,
        augment: Augment | None = None,
        input: InputSpec | None = None,
        findings: Sequence[Finding] = (),
        model: MeasuredModel | None = None,
    ) -> None:
        self.data, self.input, self.model = data, input or data.input, model
        self.augment = augment or data.augment
        self.facts: LabelFacts = data.label_facts()
        self._findings = by_file(findings)
        self._items: dict[tuple[str, int], Item] = {}
        self._searches: dict[Filter, _Search] = {}
        self._lock = threading.RLock()
        self._fault: VisionKitError | None = None
        if not self.samples:
            raise self._fault or DataError(f"{type(data).__name__}: no images in it")

    @cached_property
    def samples(self) -> Mapping[str, Sequence[Sample]]:
        """The samples by split: those of training, or as label files have them where it would refuse them."""
        splits = [split for split in SPLITS if self.model is None or split == self.model.split]
        opened = ((str(split), self._open(split)) for split in splits)
        return {split: samples for split, samples in opened if samples is not None and len(samples)}

    def _open(self, split: Split) -> Sequence[Sample] | None:
        try:
            return self.data.samples(split)
        except (UsageError, MissingSplit) as error:
            self._fault = self._fault or error
            return None
        except DataError as error:
            self._fault = self._fault or error
        with kept_refusals():
            try:
                return self.data.raw_samples(split)
            except (UsageError, DataError):
                return None

    @property
    def findings(self) -> Sequence[Finding]:
        """What an examination has found of the images, each once."""
        return list({id(each): each for some in self._findings.values() for each in some}.values())

    @findings.setter
    def findings(self, findings: Sequence[Finding]) -> None:
        with self._lock:
            self._findings = by_file(findings)
            self._items = {}  # what is being read meanwhile is kept with the old ones
            self._searches.clear()

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the data, those of all heads where it has several; empty where it names none."""
        heads = [name for each in self.facts.heads.values() for name in each.classes]
        return tuple(dict.fromkeys((*self.facts.classes, *heads)))

    def first_target(self) -> Mapping[str, Any]:
        """The target of the first sample that can be read; empty where none can."""
        for split, samples in self.samples.items():
            for number in range(len(samples)):
                with suppress(DataError):
                    return self.sample(split, number).target
        return {}

    @property
    def has_objects(self) -> bool:
        """Whether labels have objects of a size."""
        target = self.first_target()
        return any("boxes" in each for each in (target, *target.get("heads", {}).values()))

    def __len__(self) -> int:
        return sum(map(len, self.samples.values()))

    # ------------------------------------------------------------------ finding them

    def find(
        self, filter: Filter, first: int = 0, count: int = 24, check: Callable[[], None] | None = None
    ) -> list[Item]:
        """Some of the samples that a filter asks for, in the order of the data.

        What was read before an exception is kept: the next call goes on from there.

        Args:
            filter: Which ones.
            first: Samples that are passed over.
            count: Number of samples; fewer where there are no more.
            check: Called before each sample that is read; raises what ends the search.
        """
        while True:
            with self._lock:
                search = self._searches.setdefault(filter, _Search())
                position = search.next
                place = self._place(filter, position) if len(search.found) < first + count else None
                if place is None:
                    return search.found[first : first + count]
            if check is not None:
                check()
            item = self._asked(filter, *place)
            with self._lock:
                if search.next == position:  # nobody else has read it meanwhile
                    search.next += 1
                    search.found += [] if item is None else [item]

    def _place(self, filter: Filter, position: int) -> tuple[str, int] | None:
        """Split and number of a position in the order of the splits that a filter asks for; None behind the last."""
        for split, samples in self.samples.items():
            if filter.splits and split not in filter.splits:
                continue
            order = range(len(samples)) if self.model is None else self.model.order
            if position < len(order):
                return split, order[position]
            position -= len(order)
        return None

    def _asked(self, filter: Filter, split: str, number: int) -> Item | None:
        if filter.findings and (names := self._names[split]) and names[number] not in self._findings:
            return None  # which needs no reading
        item = self.item(split, number)
        return item if filter.takes(item) else None

    @cached_property
    def _names(self) -> Mapping[str, Sequence[str]]:
        """Names of the images by split; empty where they are not known without reading."""
        known = {
            split: samples.names() if isinstance(samples, NamedSamples) else ()
            for split, samples in self.samples.items()
        }
        return {split: names if len(names) == len(self.samples[split]) else () for split, names in known.items()}

    def item(self, split: str, number: int) -> Item:
        """What is known of one sample; where it cannot be read, its caption states why."""
        key, items = (split, number), self._items
        if key not in items:
            items[key] = self._read(split, number)  # without the lock: others need not wait for it
        return items[key]

    def _read(self, split: str, number: int) -> Item:
        try:
            sample = self.sample(split, number)
        except DataError as error:
            names = self._names[split]
            name = names[number] if names else f"{split} {number}"
            return Item(split, number, name, caption=str(error), findings=self._of(name))
        name = sample.image.name
        findings = self._of(name)
        try:
            labels = labels_of(sample.target, self.facts.of_size(sample.image.size))
        except (DataError, ValueError) as error:
            return Item(split, number, name, caption=str(error), findings=findings)
        caption = caption_of(labels, sample.target, self.facts.classes)
        classes = () if labels is None else tuple(labels.class_names())
        return Item(split, number, name, classes, sizes_of(sample.target), caption, findings)

    def _of(self, name: str) -> tuple[Finding, ...]:
        return self._findings.get(name, ())

    def sample(self, split: str, number: int) -> Sample:
        """One sample, before any augmentation."""
        with kept_refusals():
            return self.samples[split][number]

    # ------------------------------------------------------------------ drawing them

    def labeled(self, item: Item, marks: bool = True) -> np.ndarray:
        """The image of a sample with its labels, (h, w, 3) uint8 RGB; further inputs stand beside it.

        Args:
            item: Which sample.
            marks: Mark what an examination has found.

        Raises:
            DataError: The image cannot be read.
        """
        sample = self.sample(item.split, item.number)
        pixels = sample.image.read()
        try:
            labels = labels_of(sample.target, self.facts.of_size((pixels.shape[0], pixels.shape[1])))
        except ValueError:  # its caption states what is wrong with them
            labels = None
        drawn = pixels if labels is None else labels.draw(pixels)
        if marks and item.findings:
            drawn = _marked(drawn, pixels, item.findings)
        if len(sample.inputs) == 1:
            return drawn
        return side_by_side([drawn, *(last_frame(each).read() for each in sample.inputs.values())])

    def view(self, item: Item, name: str, epoch: int = 0) -> np.ndarray:
        """One drawing of a sample, its labels where it has no such drawing; a blank image where it cannot be read.

        Args:
            item: Which sample.
            name: `labels`, `augmented` or `prediction`, as `views` has them.
            epoch: See `augmented`.
        """
        try:
            if name == AUGMENTED and self.augments:
                with suppress(UsageError):
                    return self.augmented(item, epoch)
            labels = self.labeled(item)
            return side_by_side([labels, self.predicted(item)]) if name == PREDICTION and self.model else labels
        except DataError:
            return np.full(BLANK, 200, np.uint8)

    def views(self, item: Item, epoch: int = 0) -> tuple[dict[str, np.ndarray], str]:
        """Every drawing of a sample by what it is, and why one of them is missing.

        Args:
            item: Which sample.
            epoch: See `augmented`.

        Returns:
            `labels` and, where training would change the sample, `augmented`; with a model first `prediction`, which
            has the labels on its left. Of an image that cannot be read, a blank one. The reason is empty where all of
            them are there.
        """
        try:
            views = {LABELS: self.labeled(item)}
            if self.model is not None:
                views = {PREDICTION: side_by_side([views[LABELS], self.predicted(item)]), **views}
        except DataError as error:
            return {LABELS: np.full(BLANK, 200, np.uint8)}, "" if str(error) == item.caption else str(error)
        if self.augments:
            try:
                views[AUGMENTED] = self.augmented(item, epoch)
            except (DataError, UsageError) as error:
                return views, f"not augmented: {error}"
        return views, ""

    def predicted(self, item: Item) -> np.ndarray:
        """The image of a sample with what the model predicts of it, (h, w, 3) uint8 RGB.

        Raises:
            DataError: The image cannot be read.
            UsageError: There is no model.
        """
        if self.model is None:
            raise UsageError("there is no model that could predict")
        sample = self.sample(item.split, item.number)
        return self.model.predict(sample).draw(sample.image.read())

    @property
    def augments(self) -> bool:
        """Whether training would change the samples."""
        return self.augment is not None

    def augmented(self, item: Item, epoch: int = 0) -> np.ndarray:
        """The sample as training would show it to a network, with its labels, (h, w, 3) uint8 RGB.

        Args:
            item: Which sample.
            epoch: Epoch of the training, from 0: another one draws another augmentation.

        Raises:
            DataError: The image cannot be read.
            UsageError: The augmentation does not fit the labels.
        """
        sample = self.sample(item.split, item.number)
        spec = self.input or _own_shape(sample)
        dataset = SampleDataset(self.samples[item.split], Preprocessor(spec), self.data.seed, self.augment)
        example = dataset[(epoch, item.number)]
        panels = [_pixels(each) for each in example["inputs"].values()]
        size = (panels[0].shape[0], panels[0].shape[1])
        try:
            labels = labels_of(example["target"], self.facts.of_size(size))
        except ValueError:
            labels = None
        drawn = panels[0] if labels is None else labels.draw(panels[0])
        return drawn if len(panels) == 1 else side_by_side([drawn, *panels])


def _own_shape(sample: Sample) -> InputSpec:
    """An input of the shape of an image; the image as it is where its labels do not move with it."""
    height, width = sample.image.size
    channels = 3
    if fixed(sample.target):
        return InputSpec((height, width), "native", channels=channels, divisor=1)
    factor = min(1.0, AUGMENTED_SIDE / max(height, width))
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return InputSpec(size, "stretch", channels=channels)


def _pixels(image: Any) -> np.ndarray:
    """(h, w, 3) uint8 of an input tensor (C, h, w), of a clip (T, C, h, w) its last frame."""
    values = np.asarray(image)
    values = values[-1] if values.ndim == 4 else values
    values = values if values.dtype == np.uint8 else (values + 0.5).clip(0, 255).astype(np.uint8)
    values = values[:1].repeat(3, axis=0) if len(values) < 3 else values[:3]
    return np.ascontiguousarray(values.transpose(1, 2, 0))


def _marked(drawn: np.ndarray, pixels: np.ndarray, findings: Sequence[Finding]) -> np.ndarray:
    """The drawing with the place of each fault, where it has the shape of the image."""
    down, across = drawn.shape[0] / pixels.shape[0], drawn.shape[1] / pixels.shape[1]
    if abs(down - across) > 0.01 * down:
        return drawn
    image = Image.fromarray(drawn)
    for each in findings:
        mark(image, each, across, down)
    return np.asarray(image)
