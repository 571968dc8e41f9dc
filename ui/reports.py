"""Reports that pages of the demo show in a frame: whole pages of html, which run nothing."""

from __future__ import annotations

import re
import secrets
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

    def keep(self, page: str) -> str:
        """Keeps a report.

        Args:
            page: The whole page of html.

        Returns:
            Markup that shows it; it is for whoever asked, since nobody can guess its address.
        """
        token = secrets.token_hex(16)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{token}.html").write_text(page, encoding="utf-8")
        return f'<iframe class="vk-report" title="Report" sandbox src="report/{token}"></iframe>'

    def page(self, token: str) -> str | None:
        """The report of an address; None where there is none, or it was swept."""
        if not _TOKEN.fullmatch(token):
            return None
        try:
            return (self.folder / f"{token}.html").read_text("utf-8")
        except OSError:
            return None
