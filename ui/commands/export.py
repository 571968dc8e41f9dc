"""Exports a model as a bundle to hand out: weights that cannot run code, its facts, a model card, and a graph.

MODEL is a run (its best checkpoint), a .ckpt, a bundle folder or a public name (timm:resnet50). What is exported
predicts as the checkpoint does; the graph of --onnx is kept only if its predictions on images match. With --push the
bundle is also published on the Hugging Face hub (HF_ENDPOINT; log in with `hf auth login` or HF_TOKEN), from where
hf-hub:user/name takes it. With --triton an ensemble that takes encoded images and gives predictions is added to a model
repository of NVIDIA Triton (KServe's v2 protocol).

  visionkit export runs/flowers --out models/flowers --half
  visionkit export models/flowers --out models/flowers-int8 --onnx --int8 --calibrate photos
  visionkit export runs/flowers --push user/flowers
  visionkit export runs/flowers --triton repository
"""

from __future__ import annotations

import argparse
import re
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ui.named_inputs import inputs_in
from visionkit.errors import CheckpointError, DataError, UsageError
from visionkit.model_facts import check_plain
from visionkit.model_files import CHECKPOINTS, check_model
from visionkit.text_files import read_yaml

SUMMARY = "write a bundle to hand out: safetensors, model card, ONNX"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("model", metavar="MODEL", help="a run, .ckpt, bundle folder or public name (timm:resnet50)")
    parser.add_argument(
        "--out", metavar="DIR", help="where the bundle shall be; with --push or --triton it may be left out"
    )
    parser.add_argument(
        "--push", metavar="USER/NAME", help="publish the bundle in this repository of the Hugging Face hub"
    )
    parser.add_argument(
        "--triton", metavar="DIR", help="add the model, or a further version of it, to this repository of NVIDIA Triton"
    )
    parser.add_argument(
        "--triton-name", metavar="NAME", help="its name there (default: that of --out, the run or the public model)"
    )
    parser.add_argument("--private", action="store_true", help="a repository that --push makes is private")
    parser.add_argument("--overwrite", action="store_true", help="replace a bundle that is there")
    parser.add_argument("--half", action="store_true", help="store weights in 16 bit: half the size")
    parser.add_argument("--onnx", action="store_true", help="also write model.onnx, for ONNX Runtime")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="also write the ONNX graph in 8 bit, several times faster on CPUs; needs --calibrate",
    )
    parser.add_argument(
        "--calibrate",
        metavar="DIR",
        help="images like those to come, some hundred, for --int8; for several inputs one folder per input in DIR",
    )
    parser.add_argument(
        "--held-out",
        metavar="DIR",
        help="images like the training images, not trained on; what is less like them than these is marked unusual",
    )
    parser.add_argument(
        "--card",
        metavar="FILE",
        help="yaml or json with facts for the model card: name, summary, data, terms, command, ...",
    )


def run(args: argparse.Namespace) -> int:
    """Exports and reports the result."""
    if not (args.push or args.out or args.triton):
        raise UsageError(
            "--out DIR states where the bundle shall be; --push USER/NAME publishes it, --triton DIR adds it to a "
            "repository of Triton"
        )
    if args.triton_name and not args.triton:
        raise UsageError("--triton-name: is for --triton alone")
    if args.private and not args.push:
        raise UsageError("--private: is for --push alone")
    repository = None
    if args.push:
        from visionkit.hub import Repository, check_reachable

        repository = Repository.of(args.push.removeprefix("hf-hub:"))
        check_reachable(f"--push {args.push}")  # before minutes of export
    with TemporaryDirectory() if args.out is None else nullcontext(args.out) as out:
        folder = _export(args, Path(out) / "bundle" if args.out is None else Path(out))
        if repository is not None:
            from visionkit.hub_publish import publish

            print(f"{publish(folder, repository, args.private)}  (visionkit predict {repository} IMAGES)")
    return 0


def _export(args: argparse.Namespace, out: Path) -> Path:
    if args.int8 and not args.calibrate:
        raise UsageError("--int8: name a folder of images like those to come with --calibrate DIR")
    if args.calibrate and not args.int8:
        raise UsageError("--calibrate: is for --int8 alone")
    check_model(args.model)
    card = read_card(Path(args.card)) if args.card else {}
    from visionkit.listing import find_images

    for folder in filter(None, (args.calibrate, args.held_out)):
        find_images(folder)  # before the model is read
    from ui.stages import stages
    from visionkit.checkpoint import load_task
    from visionkit.export import export_bundle
    from visionkit.run_report.summary import with_test_results

    with stages() as progress:
        progress("reading the model")
        task = load_task(args.model)
        task.card = with_test_results(task.card, Path(args.model))
        if args.triton:
            from visionkit.triton_repository import check_servable

            check_servable(task)  # before minutes of export
        if args.held_out:
            from visionkit.feature_statistics import statistics_from

            task.statistics = statistics_from(task, inputs_in(task, args.held_out), progress)
        folder = export_bundle(
            task,
            out,
            card=card,
            half=args.half,
            onnx=args.onnx or bool(args.triton),
            int8=args.int8,
            calibration=inputs_in(task, args.calibrate) if args.calibrate else None,
            overwrite=args.overwrite,
            progress=progress,
        )
        if args.triton:
            from visionkit.triton_repository import write_repository

            progress("writing the repository")
            models = write_repository(folder, task, args.triton, name_in_triton(args), args.overwrite)
    if args.triton:
        print(f"{models[-1]}  takes images and gives predictions (tritonserver --model-repository {args.triton})")
    if args.out is None and not args.push:
        return folder
    for path in sorted(folder.iterdir()):
        size = path.stat().st_size
        print(f"{path}  {size / 1e6:,.2f} MB" if size >= 1e5 else f"{path}  {size / 1e3:,.1f} kB")
    return folder


def name_in_triton(args: argparse.Namespace) -> str:
    """The name of the model in a repository: the one given, or that of the bundle, the run or the public model."""
    if args.triton_name:
        return str(args.triton_name)
    path = Path(args.out or args.model.rpartition(":")[2])
    if path.suffix == ".ckpt":
        path = path.parent.parent if path.parent.name == CHECKPOINTS else path.with_suffix("")
    return re.sub(r"[^\w.-]+", "-", path.resolve().name).lstrip("-._") or "model"


def read_card(path: Path) -> dict[str, Any]:
    """Reads facts for a model card from yaml or json.

    Raises:
        DataError: Not there, not readable, or no table of facts.
    """
    try:
        facts = read_yaml(path)
    except DataError as error:
        raise DataError(f"--card {error}") from None
    if not isinstance(facts, dict):
        raise DataError(f"--card {path}: facts are written as `name: text`, one per line")
    try:
        check_plain(facts, f"--card {path}")
    except CheckpointError as error:
        raise DataError(str(error)) from None
    return {str(key): value for key, value in facts.items()}
