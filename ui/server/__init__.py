"""What makes the demo a server.

Limits, the job queue that admits work, metrics, login, and the sweeping of old files.
"""

from __future__ import annotations

from typing import Any


def create_app() -> Any:
    """The application for any ASGI server: `uvicorn ui.server:create_app --factory`."""
    from ui.server.factory import create_app as create

    return create()
