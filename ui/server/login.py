"""An optional login before the whole demo: accounts of a file, a page with a form, and Basic for programs.

The file has one line an account, `NAME:scrypt:N:R:P:SALT:HASH`; `visionkit serve --auth-file FILE --add-user NAME`
writes it. A session is a signed cookie whose key comes from the file: replicas that share the file share the
sessions.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import html
import os
import re
import secrets
import time
import urllib.parse
from collections import OrderedDict, deque
from pathlib import Path

from ui import strings
from ui.server.error_bodies import error_body
from ui.server.security_middleware import Application, Message, Receive, Scope, Send
from visionkit.errors import EnvironmentFault, UsageError

COST = (2**14, 8, 1)
"""N, r and p of scrypt (RFC 7914): 16 MB and some 40 ms a try."""

SESSION = 12 * 3600
"""Seconds that a login holds."""

COOKIE = "visionkit-session"

TRIES = {"address": (10, 60.0), "name": (30, 300.0)}
"""Failures that one address, or one name, may have in so many seconds; then nothing is tried any more."""

OPEN = ("/health", "/ready")
"""Routes that need no login: whoever balances the load has none."""

FORM = 4096
"""Bytes that a login form may have."""


class Accounts:
    """Names and hashed passwords of a file.

    Args:
        path: Path of the file.

    Raises:
        UsageError: The file cannot be read, has no account, or a line of another form.
    """

    def __init__(self, path: Path) -> None:
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--auth-file {path}: cannot be read ({error})") from None
        self._hashes: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            name, colon, rest = line.strip().partition(":")
            if not (name and colon and re.fullmatch(r"scrypt:\d+:\d+:\d+:[0-9a-f]+:[0-9a-f]+", rest)):
                raise UsageError(
                    f"--auth-file {path}: line {number} is no account; write accounts with --add-user, "
                    "passwords do not stand in the file as they are"
                )
            self._hashes[name] = rest
        if not self._hashes:
            raise UsageError(f"--auth-file {path}: no account in it; add one with --add-user NAME")
        self.key = hashlib.sha256(b"visionkit session " + text.encode()).digest()

    def is_right(self, name: str, password: str) -> bool:
        """Whether there is such an account with this password; takes as long where there is none."""
        known = self._hashes.get(name)
        _, n, r, p, salt, wanted = (known or next(iter(self._hashes.values()))).split(":")
        found = _scrypt(password, bytes.fromhex(salt), (int(n), int(r), int(p)))
        return hmac.compare_digest(found, bytes.fromhex(wanted)) and known is not None

    def __contains__(self, name: object) -> bool:
        return name in self._hashes


def add_account(path: Path, name: str, password: str) -> None:
    """Writes an account into a file, in place of one of the same name.

    Raises:
        UsageError: A name with a colon or white space, or a password of less than eight characters.
        EnvironmentFault: The file cannot be written.
    """
    if not re.fullmatch(r"[^\s:#]{1,64}", name):
        raise UsageError(f"--add-user {name!r}: a name has 1 to 64 characters, no white space, no colon and no #")
    if len(password) < 8:
        raise UsageError("a password has at least eight characters")
    salt = secrets.token_bytes(16)
    line = ":".join((name, "scrypt", *map(str, COST), salt.hex(), _scrypt(password, salt, COST).hex()))
    try:
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        lines = [each for each in lines if each.partition(":")[0] != name]
        part = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write("\n".join([*lines, line]) + "\n")
        part.replace(path)
    except OSError as error:
        raise EnvironmentFault(f"--auth-file {path}: cannot be written ({error.strerror})") from error


def _scrypt(password: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    n, r, p = cost
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)


class Login:
    """Wraps an ASGI application: without a session or a password nothing behind it is reached.

    Args:
        application: What it protects.
        accounts: Who may come in.
        root: Path under which a proxy shows the application: "/demo".
    """

    def __init__(self, application: Application, accounts: Accounts, root: str = "") -> None:
        self._application, self._accounts, self._root = application, accounts, root
        self._failures: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()
        self._known: OrderedDict[bytes, float] = OrderedDict()  # Basic headers that were right, as keyed hashes
        self._one_at_a_time = asyncio.Semaphore(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        root = self._root or str(scope.get("root_path") or "")
        path = str(scope["path"])
        if root and (path == root or path.startswith(f"{root}/")):  # some proxies take the path off, others do not
            path = path.removeprefix(root) or "/"
        headers = {key.lower(): value.decode("latin-1") for key, value in scope["headers"]}
        if path in OPEN:
            await self._application(scope, receive, send)
        elif path.rstrip("/") == "/login":
            await self._login(scope, receive, send, root)
        elif path.rstrip("/") == "/logout":
            await _redirect(send, f"{root}/login", [_cookie(scope, root, "", 0)])
        elif self._session(headers.get(b"cookie", "")) or await self._basic(scope, headers):
            await self._application(scope, receive, send)
        elif scope["method"] == "GET" and "text/html" in headers.get(b"accept", ""):
            query = urllib.parse.urlencode({"next": f"{root}{path}"})
            await _redirect(send, f"{root}/login?{query}", [])
        else:
            challenge = (b"www-authenticate", b'Basic realm="visionkit", charset="UTF-8"')
            kind, body = error_body("log in first", path, headers.get(b"accept", ""))
            await _respond(send, 401, body.decode(), kind.decode(), [challenge])

    async def _login(self, scope: Scope, receive: Receive, send: Send, root: str) -> None:
        given = urllib.parse.parse_qs(bytes(scope.get("query_string") or b"").decode("latin-1"))
        target = _local(given.get("next", [""])[0], root)
        if scope["method"] != "POST":
            await _respond(send, 200, _page(root, target, ""), "text/html", [])
            return
        form = await _form(receive)
        name, password = (form.get(key, [""])[0] for key in ("username", "password"))
        right = await self._is_right(scope, name, password)
        if right is None:
            await _respond(send, 429, _page(root, target, strings.LOGIN_TOO_OFTEN), "text/html", [])
        elif not right:
            await _respond(send, 401, _page(root, target, strings.LOGIN_WRONG), "text/html", [])
        else:
            cookie = _cookie(scope, root, self._signed(name, int(time.time()) + SESSION), SESSION)
            # gradio's client takes the cookie from a response that is a success, and follows nothing.
            accept = next((value for key, value in scope["headers"] if key.lower() == b"accept"), b"")
            if b"text/html" in accept:
                await _redirect(send, target, [cookie])
            else:
                await _respond(send, 200, '{"success": true}', "application/json", [cookie])

    async def _is_right(self, scope: Scope, name: str, password: str) -> bool | None:
        """None where nothing is tried any more."""
        keys = (("address", str((scope.get("client") or ("",))[0])), ("name", name[:64]))
        now = time.monotonic()
        for key in keys:
            most, seconds = TRIES[key[0]]
            failures = self._failures.get(key, deque())
            while failures and failures[0] < now - seconds:
                failures.popleft()
            if len(failures) >= most:
                return None
        async with self._one_at_a_time:
            right = await asyncio.to_thread(self._accounts.is_right, name, password[:1024])
        if not right:
            for key in keys:
                self._failures.setdefault(key, deque()).append(now)
                self._failures.move_to_end(key)
            while len(self._failures) > 10_000:
                self._failures.popitem(last=False)
        return right

    async def _basic(self, scope: Scope, headers: dict[bytes, str]) -> bool:
        scheme, _, rest = headers.get(b"authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return False
        mark = hmac.digest(self._accounts.key, rest.encode("latin-1", "replace"), "sha256")
        if self._known.get(mark, 0) > time.monotonic():
            return True
        try:
            name, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
        except ValueError:
            return False
        if not await self._is_right(scope, name, password):
            return False
        self._known[mark] = time.monotonic() + 600
        while len(self._known) > 1000:
            self._known.popitem(last=False)
        return True

    def _signed(self, name: str, until: int) -> str:
        payload = base64.urlsafe_b64encode(f"{until}:{name}".encode()).decode().rstrip("=")
        return f"{payload}.{hmac.digest(self._accounts.key, payload.encode(), 'sha256').hex()}"

    def _session(self, cookies: str) -> str | None:
        """Whose session it is."""
        for each in cookies.split(";"):
            key, _, value = each.strip().partition("=")
            payload, _, mark = value.partition(".")
            if key != COOKIE or not hmac.compare_digest(
                hmac.digest(self._accounts.key, payload.encode("latin-1", "replace"), "sha256").hex().encode(),
                mark.encode("latin-1", "replace"),
            ):
                continue
            until, _, name = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode().partition(":")
            if int(until) > time.time() and name in self._accounts:
                return name
        return None


def _local(target: str, root: str) -> str:
    """Where to go after the login: a place on this server, whatever the address asks for."""
    return target if re.fullmatch(r"/(?![/\\])[\w./~-]*", target) else f"{root}/"


def _cookie(scope: Scope, root: str, value: str, seconds: int) -> tuple[bytes, bytes]:
    secure = "; Secure" if scope.get("scheme") == "https" else ""
    return (
        b"set-cookie",
        f"{COOKIE}={value}; Path={root or '/'}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}".encode(),
    )


async def _form(receive: Receive) -> dict[str, list[str]]:
    body = b""
    while len(body) <= FORM:
        message: Message = await receive()
        if message["type"] != "http.request":
            return {}
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    else:
        return {}
    return urllib.parse.parse_qs(body.decode("utf-8", "replace"))


def _page(root: str, target: str, fault: str) -> str:
    query = urllib.parse.urlencode({"next": target})
    alert = f'<p role="alert">{html.escape(fault)}</p>' if fault else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><title>{html.escape(strings.TITLE)}</title><style>
:root {{ color-scheme: light dark; font: 16px system-ui, sans-serif; }}
body {{ display: grid; place-items: center; min-height: 90vh; margin: 1rem; }}
form {{ display: grid; gap: .8rem; width: min(20rem, 100%); }}
input, button {{ font: inherit; padding: .6rem; width: 100%; box-sizing: border-box; }}
</style></head><body><form method="post" action="{html.escape(root)}/login?{html.escape(query)}">
<h1>{html.escape(strings.TITLE)}</h1>{alert}
<label>{html.escape(strings.LOGIN_NAME)} <input name="username" autocomplete="username" required autofocus></label>
<label>{html.escape(strings.LOGIN_PASSWORD)}
<input name="password" type="password" autocomplete="current-password" required></label>
<button>{html.escape(strings.LOGIN)}</button></form></body></html>
"""


async def _redirect(send: Send, target: str, headers: list[tuple[bytes, bytes]]) -> None:
    place = urllib.parse.quote(target, safe="/?=&%~.-_:").encode()
    await send({"type": "http.response.start", "status": 303, "headers": [(b"location", place), *headers]})
    await send({"type": "http.response.body", "body": b""})


async def _respond(send: Send, status: int, text: str, kind: str, headers: list[tuple[bytes, bytes]]) -> None:
    body = text.encode()
    headers = [
        (b"content-type", (kind if "charset" in kind else f"{kind}; charset=utf-8").encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
