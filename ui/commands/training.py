"""`fit`, `validate` and `test`: a short page of help of their own, everything else is Lightning's command line.

The whole help (`--help-all`) has some hundred options and takes seconds, since it is made from every class's
signature; the page here names the most used ones and imports nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from visionkit.deferred_imports import uncollected
from visionkit.errors import UsageError

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


_CONFIGURATION = Option(
    "-c", "FILE", "yaml file, or name of a shipped one such as classification; repeatable, later win"
)
_MODEL = (
    Option("--model", "CLASS", "class of the task: ClassificationTask, ...; required unless a file of -c names it"),
    Option(
        "--model.backbone",
        "NAME",
        "network by timm's name (default: tf_efficientnet_lite0); `visionkit models` lists them",
    ),
    Option(
        "--model.pretrained",
        "true|false|auto",
        "start from public weights; auto: if they are at hand (default: auto)",
    ),
    Option("--model.weights", "FILE", "start the backbone from this file: safetensors, .pth, .ckpt, or a bundle"),
    Option("--model.input.size", "[H,W]", "height and width of the network's input in pixels (default: the task's)"),
)
_DATA_OPTIONS = (
    Option("--data", "CLASS", "class of the data reader: FolderData, ...; required unless a file of -c names it"),
    Option("--data.root", "DIR", "folder of the data; --data.help CLASS states what has to lie in it"),
    Option("--data.batch_size", "N", "images per step on each device (default: 32)"),
    Option("--data.num_workers", "N", "processes that read images (default: 0); any number gives the same result"),
)
_MACHINE = (
    Option("--trainer.accelerator", "auto|cpu|gpu", "device to compute on (default: auto, a GPU where there is one)"),
    Option("--trainer.devices", "N", "GPUs to use, or processes on the CPU (default: every GPU, or one process)"),
    Option("--trainer.precision", "32-true|bf16-mixed", "bf16-mixed takes less memory (default: 32-true)"),
)
_FIT = (
    Option("--model.optim.lr", "X", "learning rate at its highest (default: 0.001)"),
    Option("--model.optim.freeze", "backbone", "train the head alone; `none` trains everything (default: none)"),
    Option("--model.adapters.rank", "N", "train low-rank adapters in place of the backbone's weights (default: none)"),
    Option("--model.distill.teacher", "MODEL", "also learn from a .ckpt, bundle or timm:NAME (default: none)"),
    Option("--trainer.max_epochs", "N", "number of passes through the training images (default: 30)"),
    Option("--run", "DIR", "folder that everything is written to (default: runs/<task>-<time>)"),
    Option("--ckpt_path", "last|best|FILE", "continue a stopped run: its last or best checkpoint in --run, or a .ckpt"),
    Option("--init_from", "MODEL", "begin with the task and weights of a .ckpt, bundle or public name"),
    Option("--max_time", "10m|2h", "train for about so long, with as many epochs as fit (default: no limit)"),
    Option("--find_lr", "", "only plot the loss over the learning rate, suggest one, and exit"),
    Option("--auto_batch_size", "", "use the largest batch size that fits into memory"),
    Option("--early_stopping", "N", "stop after N validations without a better metric (default: 0, off)"),
    Option("--ema", "DECAY", "use a moving average of the weights, such as 0.999 (default: 0, off)"),
    Option("--checkpoint_every", "N", "also save every N steps (default: 0, only at the end of each epoch)"),
    Option("--replay", "FILE", "run the batch again whose loss was NaN or infinite; a run's folder keeps it"),
    Option("--seed_everything", "N", "random seed (default: 0); the same seed gives the same run"),
    Option("--print_config", "", "print the complete configuration and exit without training"),
)
_MEASURE = (
    Option("--ckpt_path", "MODEL", "model to measure: a run, .ckpt, bundle or public name; required"),
    Option("--results", "FILE", "also write the metrics, their protocol and the tables to this json file"),
    Option("--bootstrap", "N", "also state 95 % intervals, from N bootstrap replicates by image, such as 1000"),
)
_GENERAL = (
    Option("--help-all", "", "list every option of every class; takes some seconds"),
    Option("--debug", "", "show the Python traceback of an error"),
)
OPTIONS = {
    "fit": (_CONFIGURATION, *_MODEL, *_DATA_OPTIONS, *_FIT, *_MACHINE, *_GENERAL),
    "validate": (*_MEASURE, _CONFIGURATION, *_DATA_OPTIONS, *_MACHINE, *_GENERAL),
    "test": (*_MEASURE, _CONFIGURATION, *_DATA_OPTIONS, *_MACHINE, *_GENERAL),
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
    from visionkit.arguments import check_arguments, given, option

    if verb == "fit" and (kept := option(arguments, "--replay")) is not None:
        if others := [name for name, _ in given(arguments) if name != "--replay"]:
            raise UsageError(f"--replay {kept}: the file holds all that is needed; leave {others[0]} out")
        from visionkit.replay import replay

        return replay(kept)
    checked = check_arguments(verb, ["--help" if argument == "--help-all" else argument for argument in arguments])
    with uncollected():
        import_classes()
        from visionkit.cli import run_training

    return run_training(verb, checked)


def import_classes() -> None:
    """Imports tasks, readers and trackers, so that the parser finds their classes by their short names."""
    import importlib
    import pkgutil

    import datamodules
    from visionkit.registry import task_class, task_names

    for name in ("callbacks.images", "callbacks.loggers", "loggers", "sharding.strategy"):
        importlib.import_module(f"visionkit.{name}")
    for name in task_names():
        task_class(name)
    for module in pkgutil.iter_modules(datamodules.__path__):
        importlib.import_module(f"datamodules.{module.name}")
