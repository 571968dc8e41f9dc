"""What a MODEL on a command line names: checked without torch, so that a wrong path costs no imports."""

from __future__ import annotations

import re
from pathlib import Path

from visionkit.errors import CheckpointError, suggest

FACTS = "model.json"
"""The file that makes a folder a bundle."""

CHECKPOINTS = "checkpoints"
"""The folder of a run that holds its checkpoints."""

HUB = "hf-hub"
"""Scheme of the models in a repository of the Hugging Face hub: `hf-hub:user/name`."""

_PUBLIC = re.compile(r"^([a-z][a-z0-9_-]+):(?!\\|//)(.+)$")  # two letters at least: C:\ is a drive
_ZIP = b"PK\x03\x04"


def public_name(source: str | Path) -> tuple[str, str] | None:
    """Scheme and name of a public name (`timm:resnet50`), or None where a path is meant."""
    match = _PUBLIC.match(str(source))
    return (match[1], match[2]) if match and not Path(source).exists() else None


def is_bundle(folder: Path) -> bool:
    """Whether the folder has a `model.json`."""
    return (folder / FACTS).is_file()


def find_checkpoint(run: Path, name: str | None = None) -> Path:
    """A checkpoint of a run.

    Args:
        run: Folder of the run.
        name: `best`, which the monitored metric chose, or `last`; by default the best, and the last where none is best.

    Raises:
        CheckpointError: The run has no such checkpoint.
    """
    folder = run / CHECKPOINTS
    best = sorted(folder.glob("best*.ckpt"), key=lambda path: path.stat().st_mtime)
    last = [path for path in (folder / "last.ckpt",) if path.is_file()]
    found = {"best": best, "last": last, None: best or last}[name]
    if not found:
        raise CheckpointError(f"{folder}: it has no {name or 'best or last'} checkpoint")
    return found[-1]


def of_run(path: Path) -> Path:
    """The best checkpoint of a run whose folder is given, or the last where none is best; any other path as it is.

    Raises:
        CheckpointError: The run has no checkpoint.
    """
    is_run = not is_bundle(path) and (path / CHECKPOINTS).is_dir()
    return find_checkpoint(path) if is_run else path


def check_model(source: str | Path) -> None:
    """Checks a checkpoint, a bundle folder or a public name as far as that is possible without torch.

    Raises:
        CheckpointError: No such file, an empty one, one of another type, or a folder without a model.
    """
    if public_name(source):
        return
    path = of_run(Path(source))
    if path.is_dir():
        check_bundle_folder(path)
    else:
        check_checkpoint(path)


def check_checkpoint(path: Path) -> None:
    """Checks that a file begins as a checkpoint does.

    Raises:
        CheckpointError: No such file, a folder, an empty file or one of another type.
    """
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder; give the .ckpt file itself")
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path}: a special file, not a checkpoint")
    try:
        with path.open("rb") as file:
            start = file.read(len(_ZIP))
    except FileNotFoundError:
        near = suggest(path.name, [p.name for p in path.parent.glob("*.ckpt")]) if path.parent.is_dir() else ""
        from visionkit.registry import task_names

        if len(path.parts) == 2 and path.parts[0] in task_names():
            near = f"; folders of example models are listed by: visionkit models {path.parts[0]}"
        raise CheckpointError(f"{path}: no such checkpoint{near}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    if not start:
        raise CheckpointError(f"{path}: empty (0 bytes), the remains of an interrupted copy; take another checkpoint")
    if start != _ZIP:
        raise CheckpointError(
            f"{path}: no checkpoint of visionkit: it does not begin as a torch file does; nothing of it was run"
        )


def check_bundle_folder(folder: Path) -> None:
    """Checks that a folder is a bundle.

    Raises:
        CheckpointError: It is not; where it is a run, one of its checkpoints is named.
    """
    if is_bundle(folder):
        return
    found = sorted(folder.glob("*.ckpt")) or sorted(folder.glob(f"{CHECKPOINTS}/*.ckpt"))
    if found:
        raise CheckpointError(f"{folder}: a folder of checkpoints, not a model; give one of them, such as {found[-1]}")
    raise CheckpointError(f"{folder}: no bundle: it has no {FACTS}; give a .ckpt file or what `visionkit export` wrote")
