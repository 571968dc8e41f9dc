"""Recognizes people: enrol them from images, then ask who is in a photo, or whether two images show one person.

  enrol GALLERY IMAGE... --name NAME    makes the gallery where there is none; --add for further images of a person
  enrol GALLERY FOLDER                    one person per sub-folder, called by its name
  identify GALLERY IMAGE...             names every face, or states "nobody known"; folders are searched
  verify IMAGE IMAGE                  are these two one person? with --gallery DIR --name NAME: is this NAME?
  list GALLERY                            who is enrolled; --check compares every embedding with its checksum
  remove GALLERY --name NAME              forgets a person and overwrites the embeddings

The gallery is a folder; it holds names and embeddings, never images, and belongs to the model that it was made with.
Somebody counts as known above the similarity that strangers reach at the rate --far: it is read from the ROC in the
model card (or --roc results.json, which `visionkit test` wrote), or set by --threshold.

  visionkit gallery enrol people ada.jpg --name Ada
  visionkit gallery identify people group.jpg --far 0.01 --draw group-named.jpg
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ui.operating_point import FAR, Point, card_curve, named, operating_point, place_on_curve, read_curve
from ui.paths import check_exists
from visionkit.errors import DataError, EnvironmentFault, UsageError, suggest
from visionkit.model_files import check_model
from visionkit.wording import counted

if TYPE_CHECKING:
    import numpy as np

    from tasks.face_recognition.chain import FaceChain
    from tasks.face_recognition.gallery import Gallery
    from visionkit.predictions import Faces

SUMMARY = "enrol and recognize people by their faces"

ACTIONS = ("enrol", "identify", "verify", "list", "remove")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("action", metavar="ACTION", help=", ".join(ACTIONS))
    parser.add_argument("items", metavar="GALLERY|IMAGE", nargs="+", help="as the action needs, see above")
    parser.add_argument("--model", metavar="MODEL", help="a .ckpt or a bundle folder (the face example model)")
    parser.add_argument(
        "--finder",
        metavar="MODEL",
        help="detection or keypoint model that finds faces (default: scikit-image's cascade)",
    )
    parser.add_argument("--crop", action="store_true", help="the images are faces already: nothing is searched")
    parser.add_argument("--name", metavar="NAME", help="who, for enrol, remove and verify")
    parser.add_argument("--add", action="store_true", help="enrol: further images of somebody who is there")
    parser.add_argument(
        "--face",
        type=int,
        metavar="N",
        help="which face of several, the largest being 1 (default: several are refused)",
    )
    parser.add_argument("--gallery", metavar="DIR", help="verify: compare with NAME in this gallery")
    parser.add_argument("--far", type=float, default=FAR, help="rate at which strangers may pass (%(default)s)")
    parser.add_argument("--threshold", type=float, help="similarity to count as known from, in place of --far")
    parser.add_argument("--roc", metavar="FILE", help="results.json of `visionkit test`, in place of the model card")
    parser.add_argument("--check", action="store_true", help="list: compare every embedding with its checksum")
    parser.add_argument("--draw", metavar="FILE", help="identify: write the (one) photo with boxes and names")
    parser.add_argument("--json", action="store_true", help="print records in place of words")


def run(args: argparse.Namespace) -> int:
    """Does one action."""
    if args.action not in ACTIONS:
        raise UsageError(
            f"gallery: no action {args.action!r}; there are {', '.join(ACTIONS)}{suggest(args.action, ACTIONS)}"
        )
    check_exists([each for each in (args.roc, args.gallery) if each])
    for model in filter(None, (args.model, args.finder)):
        check_model(model)
    if args.action in ("enrol", "identify"):
        check_exists(args.items[1:])
    if args.action == "identify":
        _check_gallery(Path(args.items[0]))
    actions = {"enrol": _enrol, "identify": _identify, "verify": _verify, "list": _list, "remove": _remove}
    return actions[args.action](args)


# ---------------------------------------------------------------------- the actions


def _enrol(args: argparse.Namespace) -> int:
    folder, images = Path(args.items[0]), args.items[1:]
    if len(images) == 1 and not args.name and Path(images[0]).is_dir():
        return _enrol_folder(args, folder, Path(images[0]))
    if not args.name or not images:
        raise UsageError("gallery enrol: GALLERY, at least one IMAGE and --name NAME, or one FOLDER, are needed")
    import numpy as np

    from visionkit.listing import find_images

    images = [str(path) for each in images for path in find_images(each)]
    chain, model = _chain(args)
    gallery = _open(folder, model, chain, create=True)
    # Every image is processed before anything is written: one without a face leaves the gallery as it was.
    found = [chain.one(image, args.crop, args.face) for image in images]
    embeddings = np.concatenate([each.embeddings for each in found])
    twins = _twins(gallery, args.name, embeddings, model)
    gallery.enrol(args.name, embeddings, images, add=args.add)
    _report_twins(args.name, twins)
    print(f"{' '.join(args.name.split())}: {counted(len(images), 'image')} enrolled in {folder}")
    return 0


def _enrol_folder(args: argparse.Namespace, folder: Path, source: Path) -> int:
    """Enrols one person per sub-folder; an image that cannot be used is reported and the rest goes on."""
    import numpy as np

    from visionkit.listing import list_folders, list_images
    from visionkit.names import normalized

    if args.face is not None:
        raise UsageError("--face: is for the images of one person, and a folder holds several people")
    people: dict[str, list[Path]] = {}
    for each in list_folders(source):
        people.setdefault(normalized(each.name), []).extend(list_images(each).files)
    if not people:
        raise DataError(f"{source}: no sub-folders in it, one per person; for one person give the images and --name")
    chain, model = _chain(args)
    gallery = _open(folder, model, chain, create=True)
    there = [name for name in people if gallery.has(name)]
    if there and not args.add:
        raise UsageError(
            f"{', '.join(there[:3])}: already enrolled; add the images with --add, or remove the person first"
        )
    skipped = done = 0
    for name, images in people.items():
        found, used = [], []
        for image in images:
            try:
                found.append(chain.one(image, args.crop).embeddings)
                used.append(str(image))
            except DataError as error:
                skipped += 1
                print(f"visionkit: skipped: {error}", file=sys.stderr)
        if not found:
            print(f"visionkit: {name}: no image with one face, so nobody is enrolled by that name", file=sys.stderr)
            skipped += not images
            continue
        embeddings = np.concatenate(found)
        twins = _twins(gallery, name, embeddings, model)
        gallery.enrol(name, embeddings, used, add=args.add)
        _report_twins(name, twins)
        done += 1
        print(f"{name}: {counted(len(used), 'image')} enrolled in {folder}")
    print(f"{done} {'person' if done == 1 else 'people'} enrolled{f', {skipped} skipped' if skipped else ''}")
    return DataError.status if skipped else 0


TWIN = 0.95
"""Similarity from which two people are reported as one, where the model card has no ROC to state it better."""


def _twins(gallery: Gallery, name: str, embeddings: np.ndarray, model: Model) -> list[tuple[str, float]]:
    """Other people who are so like these faces that they may be the same person under another name."""
    rare = [row["threshold"] for row in card_curve(model.card) if row["far"] <= 0.001]
    least = max(min(rare, default=TWIN), 0.5)
    best: dict[str, float] = {}
    for found in gallery.identify(embeddings, k=3):
        for match in found:
            if match.similarity >= least and not gallery.same(match.name, name):
                best[match.name] = max(best.get(match.name, -1.0), match.similarity)
    return sorted(best.items(), key=lambda item: -item[1])


def _report_twins(name: str, twins: Sequence[tuple[str, float]]) -> None:
    for other, similarity in twins:
        print(
            f"visionkit: {name} and {other} are alike by {similarity:.3f}; is one person enrolled under two names?",
            file=sys.stderr,
        )


def _identify(args: argparse.Namespace) -> int:
    folder, images = Path(args.items[0]), args.items[1:]
    if not images:
        raise UsageError("gallery identify: GALLERY and at least one IMAGE are required")
    if args.draw and len(images) > 1:
        raise UsageError("--draw: is for one photo")
    from visionkit.listing import find_images

    images = [str(path) for each in images for path in find_images(each)]
    chain, model = _chain(args)
    gallery, point = _open(folder, model, chain), _point(args, model)
    skipped = 0
    for image in images:
        try:
            found = chain.faces(image, args.crop)
        except DataError as error:
            skipped += 1
            print(f"visionkit: skipped: {error}", file=sys.stderr)
            continue
        faces = named(gallery, found, point.threshold)
        if args.json:
            print(json.dumps({"source": str(image), "prediction": faces.to_json()}, ensure_ascii=False))
        else:
            similarities = faces.similarities if faces.similarities is not None else ()
            print(f"{image}: {counted(len(faces), 'face')}")
            for box, name, similarity in zip(faces.boxes, faces.names, similarities, strict=True):
                alike = "" if math.isnan(similarity) else f" ({similarity:.3f})"
                print(f"  {', '.join(f'{v:.0f}' for v in box)}: {name or 'nobody known'}{alike}")
        if args.draw:
            _draw(Path(args.draw), image, faces)
    if not args.json and len(gallery):
        print(f"known from similarity {point.threshold:.3f} on ({point.message})")
    elif not args.json:
        print(f"{folder}: nobody is enrolled; enrol people with: visionkit gallery enrol {folder} IMAGE --name NAME")
    return DataError.status if skipped else 0


def _verify(args: argparse.Namespace) -> int:
    wanted = 1 if args.gallery else 2
    if len(args.items) != wanted or bool(args.gallery) != bool(args.name):
        raise UsageError("gallery verify: two IMAGEs are required, or one with --gallery DIR and --name NAME")
    chain, model = _chain(args)
    point = _point(args, model)
    faces = [chain.one(image, args.crop, args.face) for image in args.items]
    if args.gallery:
        score = _open(Path(args.gallery), model, chain).similarity(args.name, faces[0].embeddings[0])
    else:
        score = float(faces[0].embeddings[0] @ faces[1].embeddings[0])
    same = score >= point.threshold
    record = {"same": same, "similarity": score, "threshold": point.threshold, **place_on_curve(score, point.curve)}
    if args.json:
        print(json.dumps(record))
    else:
        print(f"{'the same person' if same else 'different people'}: similarity {score:.3f}, {point.message}")
        if "far" in record:
            print(
                f"  {record['far']:.2%} of different pairs and {record['tar']:.1%} of pairs of one person score so high"
            )
    return 0


def _list(args: argparse.Namespace) -> int:
    import time

    gallery = _open(_alone(args, "list"))
    people = gallery.people()
    checked = gallery.check() if args.check else None
    if args.json:
        print(json.dumps([person._asdict() for person in people], ensure_ascii=False))
        return 0
    for person in people:
        print(f"{person.name}\t{person.images}\t{time.strftime('%Y-%m-%d', time.localtime(person.added))}")
    message = "" if checked is None else f"; {checked} embeddings checked, all whole"
    print(f"{len(people)} {'person' if len(people) == 1 else 'people'}{message}")
    return 0


def _remove(args: argparse.Namespace) -> int:
    if not args.name:
        raise UsageError("gallery remove: GALLERY and --name NAME are required")
    count = _open(_alone(args, "remove")).remove(args.name)
    print(f"{args.name}: removed, {counted(count, 'embedding')} overwritten")
    return 0


# ---------------------------------------------------------------------- what they share


class Model(NamedTuple):
    """A face model as a gallery knows it."""

    path: Path
    mark: str
    card: dict[str, Any]


def default_model() -> Path:
    """The face example model.

    Raises:
        UsageError: There is none.
    """
    from ui.model_registry import find_example_models

    for entry in find_example_models():
        if entry.task == "face_recognition" and not entry.fault:
            return Path(entry.path)
    raise UsageError("gallery: there is no face example model here; name a model with --model")


def _chain(args: argparse.Namespace) -> tuple[FaceChain, Model]:
    from tasks.face_recognition.chain import FaceChain, fingerprint
    from tasks.face_recognition.finding import DetectionFinder
    from visionkit.bundle import read_bundle
    from visionkit.model_files import is_bundle
    from visionkit.predictor import load

    path = Path(args.model) if args.model else default_model()
    predictor = load(path)
    finder = DetectionFinder(load(args.finder)) if args.finder else None
    chain = FaceChain(predictor, finder)
    card = read_bundle(path).card if is_bundle(path) else {}
    return chain, Model(path, fingerprint(predictor.task.config, predictor.task.state_dict()), card)


def _point(args: argparse.Namespace, model: Model) -> Point:
    curve = read_curve(Path(args.roc)) if args.roc else card_curve(model.card)
    return operating_point(curve, args.far, args.threshold, f"--roc {args.roc}" if args.roc else f"{model.path}")


def _open(folder: Path, model: Model | None = None, chain: FaceChain | None = None, create: bool = False) -> Gallery:
    from tasks.face_recognition.gallery import Gallery

    mark, width = (model.mark, chain.width) if model and chain else (None, None)
    return Gallery(folder, model=mark, width=width, create=create)


def _check_gallery(folder: Path) -> None:
    from tasks.face_recognition.gallery import DATABASE

    if not (folder / DATABASE).is_file():
        raise DataError(f"{folder}: no gallery here (no {DATABASE}); enrol somebody to make one")


def _alone(args: argparse.Namespace, action: str) -> Path:
    if len(args.items) != 1:
        raise UsageError(f"gallery {action}: one GALLERY is required")
    return Path(args.items[0])


def _draw(path: Path, image: str, faces: Faces) -> None:
    import io

    from PIL import Image

    from visionkit.atomic import write_whole
    from visionkit.drawing import jpeg

    drawn = faces.draw(image)
    try:
        if path.suffix.lower() in (".jpg", ".jpeg"):
            data = jpeg(drawn)
        else:
            file = io.BytesIO()
            Image.fromarray(drawn).save(file, Image.registered_extensions().get(path.suffix.lower(), ""))
            data = file.getvalue()
        write_whole(path, data)
    except (OSError, ValueError, KeyError) as error:
        raise EnvironmentFault(f"--draw {path}: cannot be written ({error})") from error
