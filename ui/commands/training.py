"""`fit`, `validate` and `test`: a short page of help of their own, everything else is Lightning's command line.

The whole help (`--help-all`) has some hundred options and takes seconds, since it is made from every class's
signature; the page here names the most used ones and imports nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

SUMMARIES = {
    "fit": "train a model, or continue a stopped run",
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
    Option("-c", "FILE", "yaml configuration or name of a shipped one (classification); later ones win"),
    Option("--model", "CLASS", "class of the task, such as ClassificationTask; --model.help CLASS explains it"),
    Option("--model.backbone", "NAME", "any timm model or classic network; `visionkit models PATTERN` lists them"),
    Option("--model.pretrained", "true|false", "start the backbone from its public weights (default: false)"),
    Option("--model.input.size", "[H,W]", "height and width, in pixels, of the images that the network is given"),
    Option("--data", "CLASS", "class that reads the data, such as FolderData; --data.help CLASS explains it"),
    Option("--data.batch_size", "N", "images per step and process"),
    Option("--data.num_workers", "N", "processes that read images (default: 0); any number gives the same result"),
)
_MACHINE = (
    Option("--trainer.accelerator", "auto|cpu|gpu", "device to compute on (default: auto, a GPU where there is one)"),
    Option("--trainer.devices", "N", "number of devices to use (default: all that there are; one CPU)"),
    Option("--trainer.precision", "32-true|bf16-mixed", "number format of training; bf16-mixed takes less memory"),
)
_FIT = (
    Option("--model.optim.lr", "X", "highest learning rate of the schedule"),
    Option("--model.optim.freeze", "backbone", "train the head alone and keep the backbone as it is (linear probe)"),
    Option("--trainer.max_epochs", "N", "number of passes through the training images (default: 30)"),
    Option("--run", "DIR", "folder that everything is written to (default: runs/<task>-<time>)"),
    Option("--ckpt_path", "last|best|FILE", "continue a stopped run from its last or best checkpoint, or from a file"),
    Option("--init_from", "MODEL", "begin a new run with the task and the weights of a trained model"),
    Option("--ema", "DECAY", "use a moving average of the weights, such as 0.999 (default: 0, off)"),
    Option("--checkpoint_every", "N", "save a checkpoint every N steps, besides at the end of each epoch"),
    Option("--seed_everything", "N", "random seed (default: 0); the same seed gives the same run"),
    Option("--print_config", "", "print the complete configuration and exit without training"),
)
_MEASURE = (
    Option("--ckpt_path", "MODEL", "model to measure: a run, .ckpt, bundle or public name; best|last of --run"),
    Option("--results", "FILE", "also write the metrics, their protocol and the tables to this json file"),
)
_GENERAL = (
    Option("--help-all", "", "list every option of every class; takes some seconds"),
    Option("--debug", "", "show the Python traceback of an error"),
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
            "Every argument of the task, the data and the trainer is an option; options override the files of -c.",
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
