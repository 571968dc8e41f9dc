"""Reports that pages of the demo show in a frame: whole pages of html, which run nothing."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

POLICY = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'"
"""What a browser lets a report do: draw itself. It has no origin, runs no script and fetches nothing."""

_TOKEN = re.compile(r"[0-9a-f]{32}")


class Reports:
    """Keeps reports in the server's folder, where they are swept with all else that was made for visitors.

    Args:
        folder: Folder of the server.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "reports"
        self._kept: dict[str, tuple[object, str]] = {}  # version and token by name

    def keep(self, page: str) -> str:
        """Keeps a report.

        Args:
            page: The whole page of html.

        Returns:
            Markup that shows it; it is for whoever asked, since nobody can guess its address.
        """
        return _frame(self._write(page))

    def keep_once(self, name: str, version: object, make: Callable[[], str]) -> str:
        """Keeps a report that everybody may see, where that version of it is not kept already.

        Args:
            name: Names the report.
            version: Changes with it, such as the time when it was written.
            make: Gives the whole page of html.

        Returns:
            As `keep`.
        """
        known, token = self._kept.get(name, (None, ""))
        if known == version:
            with suppress(OSError):
                os.utime(self.folder / f"{token}.html")  # for as long as it is asked for it is not swept
                return _frame(token)
        token = self._write(make())
        self._kept[name] = (version, token)
        return _frame(token)

    def _write(self, page: str) -> str:
        token = secrets.token_hex(16)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{token}.html").write_text(page, encoding="utf-8")
        return token

    def page(self, token: str) -> str | None:
        """The report of an address; None where there is none, or it was swept."""
        if not _TOKEN.fullmatch(token):
            return None
        try:
            return (self.folder / f"{token}.html").read_text("utf-8")
        except OSError:
            return None


def _frame(token: str) -> str:
    return f'<iframe class="vk-report" title="Report" sandbox src="report/{token}"></iframe>'
