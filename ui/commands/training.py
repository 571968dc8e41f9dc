"""`fit`, `validate` and `test`: a short page of help of their own, everything else is Lightning's command line.

The whole help (`--help-all`) has some hundred options and takes seconds, since it is made from every class's
signature; the page here names the most used ones and imports nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

SUMMARIES = {
    "fit": "train a model, or go on with a stopped run",
    "validate": "measure a model on the validation split",
    "test": "measure a model on the test split",
}
VERBS = tuple(SUMMARIES)


class Option(NamedTuple):
    """One row of the page: the option, what stands for its value, and its meaning."""

    name: str
    value: str
    meaning: str


_WHAT = (
    Option("-c", "FILE", "a yaml file, or a shipped one by name (classification); later ones win, flags win over all"),
    Option("--model", "CLASS", "the task, by its short name: ClassificationTask"),
    Option("--model.backbone", "NAME", "any timm model or classic network (visionkit models PATTERN lists them)"),
    Option("--model.pretrained", "true|false", "start from public weights"),
    Option("--model.input.size", "[H,W]", "what the network takes, in pixels"),
    Option("--data", "CLASS", "the reader of the images and labels, by its short name"),
    Option("--data.batch_size", "N", "images per step"),
    Option("--data.num_workers", "N", "processes that read images; the result is the same for any number"),
)
_MACHINE = (
    Option("--trainer.accelerator", "auto|cpu|gpu", "what to compute on"),
    Option("--trainer.devices", "N", "number of devices"),
    Option("--trainer.precision", "32|bf16-mixed", "arithmetic of training; bf16-mixed takes less memory"),
)
_FIT = (
    Option("--model.optim.lr", "X", "learning rate"),
    Option("--model.optim.freeze", "backbone", "train the head alone (linear probe)"),
    Option("--trainer.max_epochs", "N", "epochs of training (30)"),
    Option("--run", "DIR", "folder of the run (runs/<task>-<time>)"),
    Option("--ckpt_path", "last|best|FILE", "go on from a checkpoint; `last` is the newest whole one of --run"),
    Option("--init_from", "MODEL", "begin a new run from the weights of a trained model; --model is then that model's"),
    Option("--ema", "DECAY", "moving average of the weights, such as 0.999; 0 is off"),
    Option("--checkpoint_every", "N", "also save every N steps"),
    Option("--seed_everything", "N", "random seed; equal seeds give equal runs"),
    Option("--print_config", "", "print the whole configuration and end"),
)
_MEASURE = (
    Option(
        "--ckpt_path", "MODEL", "a run, a .ckpt, a bundle folder or a public name (timm:resnet50); best|last of --run"
    ),
    Option("--results", "FILE", "write the metrics, their protocol and tables as json"),
)
_GENERAL = (
    Option("--help-all", "", "every option of every class; takes seconds"),
    Option("--debug", "", "show the traceback of an error"),
)
OPTIONS = {
    "fit": (*_WHAT, *_FIT, *_MACHINE, *_GENERAL),
    "validate": (*_MEASURE, *_WHAT, *_MACHINE, *_GENERAL),
    "test": (*_MEASURE, *_WHAT, *_MACHINE, *_GENERAL),
}

_DATA = "--data FolderData --data.root photos"
EXAMPLES = {
    "fit": (
        f"visionkit fit -c classification {_DATA} --run runs/photos",
        f"visionkit fit -c classification {_DATA} --run runs/photos --ckpt_path last",
    ),
    "validate": ("visionkit validate --ckpt_path runs/photos",),
    "test": (
        "visionkit test --ckpt_path runs/photos --results results.json",
        f"visionkit test --ckpt_path models/photos {_DATA}",
    ),
}


def page(verb: str) -> str:
    """The short help of a training verb."""
    rows = [(f"{option.name} {option.value}".rstrip(), option.meaning) for option in OPTIONS[verb]]
    width = max(len(left) for left, _ in rows) + 2
    return "\n".join(
        [
            f"usage: visionkit {verb} [-c FILE]... [OPTIONS]",
            "",
            f"{SUMMARIES[verb][0].upper()}{SUMMARIES[verb][1:]}.",
            "Every argument of the task, the data and the trainer is an option.",
            "",
            *(f"  {left:<{width}}{meaning}" for left, meaning in rows),
            "",
            "examples:",
            *(f"  {example}" for example in EXAMPLES[verb]),
        ]
    )


def main(verb: str, arguments: Sequence[str]) -> int:
    """Runs a training verb, or prints its help.

    Args:
        verb: One of `VERBS`.
        arguments: What follows it.

    Returns:
        The exit status; expected failures are raised.
    """
    if not arguments or "-h" in arguments or "--help" in arguments:
        print(page(verb))
        return 0 if arguments else 2
    from visionkit.arguments import check_arguments

    checked = check_arguments(verb, ["--help" if argument == "--help-all" else argument for argument in arguments])
    import_classes()
    from visionkit.cli import run_training

    return run_training(verb, checked)


def import_classes() -> None:
    """Imports tasks, readers and trackers, so that the parser finds their classes by their short names."""
    import importlib
    import pkgutil

    import datamodules
    from visionkit.registry import task_class, task_names

    for name in ("visionkit.callbacks.images", "visionkit.callbacks.loggers", "visionkit.loggers"):
        importlib.import_module(name)
    for name in task_names():
        task_class(name)
    for module in pkgutil.iter_modules(datamodules.__path__):
        importlib.import_module(f"datamodules.{module.name}")
