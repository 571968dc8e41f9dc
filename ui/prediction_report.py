"""What `visionkit predict` shows in the terminal: its progress, a table of the first predictions, and the sum."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ui.file_names import folder_of
from ui.prediction_records import RECORDS
from visionkit.errors import DataError
from visionkit.wording import counted

if TYPE_CHECKING:
    from visionkit.novelty import Novelty
    from visionkit.predictions import Prediction

DRAWN = "drawn"
"""Folder of the drawings, below that of the results."""
FEW = 20
"""Up to that many images, a table of the predictions is printed."""


@dataclass
class Report:
    """Counts what was done and skipped, and keeps the first predictions for a table."""

    done: int = 0
    skipped: int = 0
    few: list[tuple[Path, Prediction, bool]] = field(default_factory=list)
    unlike: int = 0
    novelty: Novelty | None = None

    def skip(self, fault: DataError | None) -> None:
        self.skipped += 1
        print(f"visionkit: skipped: {fault}", file=sys.stderr)

    def note(self, path: Path, prediction: Prediction, novelty: Novelty | None = None) -> None:
        self.done += 1
        marked = novelty is not None and novelty.unlike
        self.unlike, self.novelty = self.unlike + marked, novelty or self.novelty
        if self.done <= FEW:
            self.few.append((path, prediction, marked))

    def close(self, out: Path | None, top: int | None) -> int:
        """Prints the table and the sum; returns the exit status."""
        if out is not None:
            if self.done <= FEW and self.few:
                print_table(self.few, top or 3)
            message = counted(self.done, "image")
            print(f"{message}{f', {self.skipped} skipped' if self.skipped else ''}: {out / RECORDS}", file=sys.stderr)
            if (out / DRAWN).is_dir():
                print(f"drawn: {out / DRAWN}{os.sep}", file=sys.stderr)
        if self.unlike and self.novelty is not None:
            print(
                f"visionkit: {self.unlike} of {self.done} look unlike the images this model was made with: further out "
                f"than {self.novelty.percentile:g} % of its {self.novelty.images:,} held-out images; their predictions "
                "may mean little",
                file=sys.stderr,
            )
        return DataError.status if self.skipped else 0


def print_table(rows: Sequence[tuple[Path, Prediction, bool]], top: int) -> None:
    """Prints one line per image.

    Args:
        rows: Path, prediction, and whether the image looks unlike the model's own.
        top: Number of classes to show, the most probable first.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    folder = folder_of([path for path, *_ in rows])
    table = Table(box=None, pad_edge=False)
    table.add_column("image", overflow="fold")
    table.add_column("prediction", overflow="fold")
    for path, prediction, marked in rows:
        name = path.resolve().relative_to(folder) if folder else path
        text = f"{prediction.text(top)}{' (unlike its own images)' if marked else ''}"
        table.add_row(escape(str(name)), escape(text))
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 10_000  # one line per image for the next program
    console.print(table)


@contextmanager
def show_progress(
    total: int, part: str = "this image"
) -> Iterator[tuple[Callable[[], None], Callable[[int, int], None]]]:
    """A bar over the images, and one over the tiles of an image that has several.

    Args:
        total: Number of images.
        part: What the second bar is of.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("predicting", total=total, visible=total > 1)
        parts = progress.add_task(part, total=None, visible=False)
        yield (
            lambda: progress.advance(task),
            lambda done, tiles: progress.update(parts, completed=done, total=tiles, visible=tiles > 1),
        )
