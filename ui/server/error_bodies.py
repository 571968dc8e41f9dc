"""The body of every error that is no page: `{"error": "..."}` for programs, plain text for who reads it as it is.

Nothing but json is imported, since what stands before the application uses it too.
"""

from __future__ import annotations

import json

PAGES = "/gradio_api/"
"""Routes of the pages' own script, which shows the body of an upload's error as it is, and reads `detail` otherwise."""


RETRY_AFTER = "5"
"""Seconds after which a request that was refused as one too many may come again: the header of 503."""


def is_of_pages(path: str) -> bool:
    """Whether the script of the pages sends such a request, under whatever path a proxy shows them."""
    return PAGES in f"{path}/"


def error_body(words: str, path: str, accept: str = "") -> tuple[bytes, bytes]:
    """Type and body of an error.

    Args:
        words: What went wrong, and what to do.
        path: Path of the request.
        accept: Its `Accept` header; a browser that opens an address asks for html.

    Returns:
        The content type and the body.
    """
    if is_of_pages(path) or "text/html" in accept:
        return b"text/plain; charset=utf-8", words.encode()
    return b"application/json", json.dumps({"error": words}, ensure_ascii=False, separators=(",", ":")).encode()
