"""COCO's results json of predicted boxes, masks and poses, with the ids of a label file or with those of its own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionkit.atomic import write_whole
from visionkit.errors import DataError, UsageError, suggest
from visionkit.names import normalized
from visionkit.predictions import Prediction

NAME = "coco_results.json"


class CocoResults:
    """Collects predictions and writes them as one list of COCO results.

    Args:
        out: The folder for `coco_results.json`.
        labels: A COCO label file whose image and category ids are taken, by file name and class name. Left out,
            an image's id is the number that its file is named by, as COCO's are, else its name; where an earlier
            image has that id, the next one that is free. Categories are numbered from 1 in label order, and
            `coco_images.json` states which is which, as a label file does.
    """

    def __init__(self, out: Path, labels: Path | None = None) -> None:
        self.out = out
        self.results: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []
        self.classes: tuple[str, ...] = ()
        self.ids: dict[str, Any] | None = None
        self._taken: set[Any] = set()
        self.categories: dict[str, int] | None = None
        if labels is not None:
            from datamodules.coco import read_coco

            coco = read_coco(labels)
            self.ids = {}
            names = [normalized(image["file_name"].replace("\\", "/")) for image in coco.images]
            bare = Counter(name.rpartition("/")[2] for name in names)
            for name, image in zip(names, coco.images, strict=True):
                self.ids[name] = image["id"]
                # two images of one name are distinguished by their folders alone
                if bare[name.rpartition("/")[2]] == 1:
                    self.ids.setdefault(name.rpartition("/")[2], image["id"])
            self.categories = {name: number for number, name in coco.categories.items()}
        self.labels = labels

    def add(self, path: Path, prediction: Prediction, size: tuple[int, int]) -> None:
        """Adds the prediction to one image of that height and width.

        Raises:
            UsageError: The model predicts neither boxes nor poses.
            DataError: The label file knows no such image or class.
        """
        if not prediction.coco_classes:
            raise UsageError(
                f"--coco-results: results are of boxes, masks and poses; this model predicts {prediction.kind}"
            )
        self.classes = prediction.coco_classes
        number = self._image(path, size)
        for row in prediction.coco_results(number, 0):  # counted from 0: the label
            label = row["category_id"]
            self.results.append({**row, "category_id": self._category(label, self.classes[label])})

    def write(self) -> Path:
        """Writes the files and gives the path of the results."""
        path = self.out / NAME
        write_whole(path, json.dumps(self.results).encode())
        if self.ids is None:
            categories = [{"id": k + 1, "name": name} for k, name in enumerate(self.classes)]
            top = {"images": self.images, "annotations": [], "categories": categories}
            write_whole(self.out / "coco_images.json", json.dumps(top, ensure_ascii=False).encode())
        return path

    def _image(self, path: Path, size: tuple[int, int]) -> Any:
        if self.ids is None:
            name = self._free_id(path.stem)
            self.images.append({"id": name, "file_name": str(path), "height": size[0], "width": size[1]})
            return name
        parts: Sequence[str] = path.parts
        for start in range(len(parts)):  # the longest ending of the path that the file knows
            if (name := normalized("/".join(parts[start:]))) in self.ids:
                number = self.ids[name]
                if number in self._taken:
                    raise DataError(f"{path}: a second image that {self.labels} knows as {name!r}; name its folder")
                self._taken.add(number)
                return number
        raise DataError(f"{self.labels}: it has no image {path.name!r}{suggest(path.name, self.ids)}")

    def _free_id(self, stem: str) -> Any:
        """The number or the name of a file, or the next that no image has."""
        number = int(stem) if stem.isascii() and stem.isdecimal() else None
        found: Any = stem if number is None else number
        count = 1
        while found in self._taken:
            count += 1
            found = f"{stem}-{count}" if number is None else max(i for i in self._taken if isinstance(i, int)) + 1
        self._taken.add(found)
        return found

    def _category(self, label: int, name: str) -> int:
        if self.categories is None:
            return label + 1
        if name not in self.categories:
            raise DataError(f"{self.labels}: it has no category {name!r}{suggest(name, self.categories)}")
        return self.categories[name]


def as_coco(prediction: Prediction, name: str, size: tuple[int, int]) -> str | None:
    """COCO's results json of one image, with ids of its own; None for predictions that COCO has no results of.

    Args:
        prediction: Prediction to that image.
        name: Name of the image, which its id comes from.
        size: Its height and width.
    """
    if not prediction.coco_classes:
        return None
    coco = CocoResults(Path())
    coco.add(Path(name), prediction, size)
    return json.dumps(coco.results) + "\n"
