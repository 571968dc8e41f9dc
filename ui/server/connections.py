"""Which connections a server keeps: whoever sends no whole request, or reads no response, makes room for others.

uvicorn waits for ever for the rest of a request's head, and every such connection takes one of the process's open
files: when those are used up, nobody is served any more.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ui.server.error_bodies import error_body

HEAD = 10.0
"""Seconds for the head of a request, from its first byte or from the beginning of the connection."""

STALL = 60.0
"""Seconds without a byte taken after which a response that waits is given up."""

MOST, RESERVED = 1000, 128
"""Connections at a time, and files that the process keeps for itself where the system allows fewer."""


def most_connections() -> int:
    """Connections that the limit of open files allows; the limit is raised as far as the system lets us."""
    try:
        import resource
    except ImportError:  # not on Windows
        return MOST
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + RESERVED if hard == resource.RLIM_INFINITY else min(hard, MOST + RESERVED)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return max(16, min(MOST, soft - RESERVED))


def limited_protocol(most: int, head: float = HEAD, stall: float = STALL) -> type[asyncio.Protocol]:
    """A protocol class for uvicorn.

    Args:
        most: Connections at a time. One more closes the one that has waited longest without a request.
        head: Seconds for the head of a request.
        stall: Seconds without progress of a response.
    """
    waiting: dict[Any, None] = {}  # without a request in progress, those that have waited longest first

    class LimitedProtocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None
        _stalled: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            waiting[self] = None
            self._start()
            if len(self.connections) > most:
                next(iter(waiting))._drop()

        def connection_lost(self, exc: Exception | None) -> None:
            waiting.pop(self, None)
            self._stop()
            self.resume_writing()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is None or self.cycle.response_complete:
                self._start()
            else:
                waiting.pop(self, None)
                self._stop()

        def on_response_complete(self) -> None:
            if not self.transport.is_closing():
                waiting[self] = None
            super().on_response_complete()  # may begin with the next request at once
            if not self.cycle.response_complete:
                waiting.pop(self, None)

        def send_400_response(self, msg: str) -> None:
            """What is no HTTP gets the form of every other error; uvicorn writes plain text."""
            kind, body = error_body(msg, "")
            sent = h11.Response(status_code=400, headers=[(b"content-type", kind), (b"connection", b"close")])
            for event in (sent, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
            self.transport.close()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stalled = self.loop.call_later(stall, self._drop)

        def resume_writing(self) -> None:
            if self._stalled is not None:
                self._stalled.cancel()
                self._stalled = None
            super().resume_writing()

        def _start(self) -> None:
            if self._timer is None:
                self._timer = self.loop.call_later(head, self._drop)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _drop(self) -> None:
            waiting.pop(self, None)
            self._stop()
            self.transport.abort()

    return LimitedProtocol
