"""Which visitors have asked that what runs for them ends where it is."""

from __future__ import annotations

import threading

import gradio as gr

REMEMBERED = 1000
"""Visitors whose video can be ended; those who have begun theirs longest ago are forgotten."""


class Stops:
    """Visitors who have asked that their video ends where it is."""

    def __init__(self) -> None:
        self._events: dict[str, threading.Event] = {}

    def begin(self, request: gr.Request) -> None:
        """Begins a video."""
        self._events[str(request.session_hash)] = threading.Event()
        while len(self._events) > REMEMBERED:
            self._events.pop(next(iter(self._events)))

    def stop(self, request: gr.Request) -> None:
        """Ends it."""
        event = self._events.get(str(request.session_hash))
        if event is not None:
            event.set()

    def take(self, request: gr.Request) -> threading.Event:
        """Set once the video shall end."""
        return self._events.setdefault(str(request.session_hash), threading.Event())

    def end(self, request: gr.Request) -> None:
        """Forgets it."""
        self._events.pop(str(request.session_hash), None)
