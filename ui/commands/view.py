"""Shows samples of a data set with their labels drawn, before and after augmentation.

DATA is what `visionkit doctor` takes: a folder, an archive or a label file, whose reader is found out; a run or its
configuration; or a training's own options, by which drawn scenes are shown too:

  visionkit view photos
  visionkit view --data SceneData --data.target boxes

It serves a page of the demo to this machine: thumbnails, filters by split, class, size and finding, large images. With
--out it writes a folder instead, whose index.html does the same and needs no server:

  visionkit view coco --class dog --size small --split train --out page
  visionkit view photos --finding errors --out page

With --model, a run, .ckpt, bundle folder or public name, predictions stand beside the labels, the worst images first,
as `visionkit analyze` ranks them; DATA is then named as for that command, and may be left out where the model is a run:

  visionkit view --model runs/flowers --out worst
  visionkit view coco_val --model models/people --split val --class person --out worst

Augmentation is that of the configuration, or the preset for such labels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from ui.data_opening import add_data_names, check_named, open_named
from ui.data_options import data_arguments
from ui.paths import check_new_folder
from visionkit.errors import DataError, UsageError, suggest
from visionkit.model_files import check_model

if TYPE_CHECKING:
    from visionkit.browsing.browser import DataBrowser
    from visionkit.browsing.items import Filter, Item
    from visionkit.browsing.page import Shown

SUMMARY = "show samples of a data set with their labels, before and after augmentation"

SIZES = ("small", "medium", "large")  # visionkit.browsing would import torch for its names
SPLITS = ("train", "val", "test")
COUNT, EPOCH = 48, 1  # defaults of the options of those names, which are None where they are not given


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    add_data_names(parser)
    parser.add_argument("--out", metavar="DIR", help="a new or empty folder for a page that needs no server")
    parser.add_argument("--port", type=int, default=7862, help="port of the page without --out (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier page wrote")
    parser.add_argument("--count", type=int, metavar="N", help=f"samples of the page with --out ({COUNT})")
    parser.add_argument(
        "--model", metavar="MODEL", help="also show what this model predicts on a split (test, or that of --split)"
    )
    chosen = parser.add_argument_group("which samples (of several values, any)")
    chosen.add_argument("--split", nargs="+", choices=SPLITS, default=[], help="samples of these splits")
    chosen.add_argument("--class", dest="classes", nargs="+", metavar="NAME", default=[], help="that show a class")
    chosen.add_argument(
        "--size",
        nargs="+",
        choices=SIZES,
        default=[],
        help="with objects of a size: small below 32 x 32 pixels of area, large from 96 x 96 on",
    )
    chosen.add_argument(
        "--finding",
        nargs="+",
        metavar="KIND",
        default=[],
        help="that `visionkit doctor` finds something of: kinds, or errors, warnings, notes",
    )
    augmented = parser.add_argument_group("augmentation")
    augmented.add_argument(
        "--no-augment", action="store_true", help="show samples as they are alone, not as training sees them too"
    )
    augmented.add_argument(
        "--epoch", type=int, metavar="N", help=f"epoch, from 1, whose augmentation --out draws ({EPOCH})"
    )


def run(args: argparse.Namespace) -> int:
    """Finds, draws and writes the samples, or serves the page that shows them; returns the exit status."""
    _check(args)
    browser = _opened(args)
    if args.out is None:
        return _serve(args, browser)
    filter = _filter(args, browser)
    items = browser.find(filter, 0, COUNT if args.count is None else args.count)
    if not items:
        raise DataError(f"no sample is as the options ask for, of {len(browser):,}; leave one of them out")
    from visionkit.browsing.page import PAGE, about_samples, write_page

    out = Path(args.out)
    about = about_samples(len(items), len(browser), filter != type(filter)())
    write_page(
        out, f"Samples of {_name(args)}", f"{about}. {_explained(browser)}".strip(), _shown(browser, items, args)
    )
    print(f"{out / PAGE}: {about}")
    return 0


def _name(args: argparse.Namespace) -> str:
    """What the data is called."""
    return str(args.data or args.reader or (Path(args.config[-1]).stem if args.config else args.model))


def _serve(args: argparse.Namespace, browser: DataBrowser) -> int:
    """Serves the demo, whose page Data begins with these samples."""
    import contextlib
    import tempfile

    from ui.cli import build_parser
    from ui.commands.serve import listen, serve
    from ui.data_sets import DataSet
    from ui.stopping import stopped_by_signal

    name = _name(args)
    given = DataSet("given", Path(name).name or name, lambda: browser)
    options = build_parser("serve").parse(["--port", str(args.port), *(["--debug"] if args.debug else [])])
    with (
        stopped_by_signal() as check_stopped,
        contextlib.closing(listen(options.host, options.port)) as door,
        tempfile.TemporaryDirectory(prefix="visionkit-") as scratch,
    ):
        serve(door, options, Path(scratch), check_stopped, [given], "data")
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.model is None:
        check_named(args)
    else:
        check_model(args.model)
        if len(args.split) > 1 or "train" in args.split:
            raise UsageError(f"--split {' '.join(args.split)}: a model is measured on val or test; give one of them")
    if args.count is not None and args.count < 1:
        raise UsageError(f"--count {args.count}: at least 1")
    if args.epoch is not None and args.epoch < 1:
        raise UsageError(f"--epoch {args.epoch}: at least 1, which is the first one")
    if args.out is None:
        _check_served(args)
    elif not args.overwrite:
        check_new_folder(args.out)
    if args.finding:
        from visionkit.checkup.kinds import chosen_kinds

        chosen_kinds(args.finding)


def _check_served(args: argparse.Namespace) -> None:
    """Refuses options that the served page does not read."""
    lists = {"--class": args.classes, "--size": args.size, "--finding": args.finding}
    lists |= {} if args.model is not None else {"--split": args.split}  # of a model it states what is measured
    if given := [name for name, value in lists.items() if value]:
        raise UsageError(f"{', '.join(given)}: only with --out DIR; the page that is served has lists to choose from")
    others = {"--count": args.count, "--epoch": args.epoch, "--overwrite": args.overwrite or None}
    if given := [name for name, value in others.items() if value is not None]:
        raise UsageError(f"{', '.join(given)}: only with --out DIR, which writes a page; without it one is served")


def _opened(args: argparse.Namespace) -> DataBrowser:
    from ui.browsing import browser_of

    if args.model is not None:
        return _measured(args)
    data, network = open_named(args, augmented=not args.no_augment)
    return browser_of(data, None if network is None else network.input, augmented=not args.no_augment)


def _measured(args: argparse.Namespace) -> DataBrowser:
    """The samples of the split that the model is measured on."""
    from ui.browsing import browser_of
    from ui.commands.training import import_classes

    import_classes()
    split = args.split[0] if args.split else "test"
    argv = [*data_arguments(args.model, args), "--ckpt_path", args.model, "--trainer.devices", "1"]
    from visionkit.browsing.measured_model import MeasuredModel
    from visionkit.callbacks.analysis import AnalysisCollector
    from visionkit.cli import measure

    collector = AnalysisCollector(worst=0)
    with redirect_stdout(sys.stderr):
        done = measure("test" if split == "test" else "validate", argv, [collector])
    model = MeasuredModel.of(done.model, split, collector)
    return browser_of(done.datamodule, done.model.input, augmented=not args.no_augment, model=model)


def _filter(args: argparse.Namespace, browser: DataBrowser) -> Filter:
    from visionkit.browsing.items import Filter

    for split in args.split:
        if split not in browser.samples:
            raise UsageError(f"--split {split}: the data has {', '.join(browser.samples)}")
    known = browser.classes
    for name in args.classes if known else ():
        if name not in known:
            allowed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
            raise UsageError(f"--class {name}: the data has {allowed}{suggest(name, known)}")
    kinds: tuple[str, ...] = ()
    if args.finding:
        from ui.progress_bar import image_progress
        from visionkit.checkup.examination import examine
        from visionkit.checkup.kinds import chosen_kinds

        chosen = chosen_kinds(args.finding)
        with image_progress() as progress:
            browser.findings = examine(browser.data, kinds=chosen, progress=progress).findings
        kinds = tuple(sorted(chosen))
    return Filter(tuple(args.split), tuple(args.classes), tuple(args.size), kinds)


def _explained(browser: DataBrowser) -> str:
    sentences = ["Labels on the left, the prediction on the right, the worst images first."] if browser.model else []
    return " ".join([*sentences, f"Augmented by {type(browser.augment).__name__}."] if browser.augments else sentences)


def _shown(browser: DataBrowser, items: Sequence[Item], args: argparse.Namespace) -> Iterator[Shown]:
    from visionkit.browsing.page import Shown

    for number, item in enumerate(items, 1):
        views, fault = browser.views(item, (EPOCH if args.epoch is None else args.epoch) - 1)
        if sys.stderr.isatty():
            print(f"\r{number} of {len(items)} drawn", end="\n" if number == len(items) else "", file=sys.stderr)
        note = "" if browser.model is None else browser.model.notes[item.number]
        yield Shown(item, views, ", ".join(filter(None, (note, fault))))
