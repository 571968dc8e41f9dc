"""Files that a visitor may download: written into the server's own folder, few at a time."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import deque
from pathlib import Path

KEPT = 64
"""Downloads that are kept; gradio serves copies of its own, so the oldest may go."""


class Downloads:
    """Writes what a visitor may download.

    Args:
        folder: Folder of the server, removed with it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._saved: deque[Path] = deque()

    def save(self, name: str, suffix: str, content: bytes | str) -> str:
        """Writes one file and gives its path.

        Args:
            name: Name of the image, as the visitor sent it; only its harmless characters are kept.
            suffix: Suffix with its dot: ".json".
            content: Text is written as UTF-8.
        """
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(name).stem).strip("-")[:60] or "image"
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        path = folder / f"{stem}{suffix}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        self._saved.append(folder)
        while len(self._saved) > KEPT:
            shutil.rmtree(self._saved.popleft(), ignore_errors=True)
        return str(path)
