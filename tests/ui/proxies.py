"""Proxies that show the demo under a path: nginx itself where it is installed, and a small one that always is there."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}
"""Headers that belong to one connection."""


@contextlib.contextmanager
def small_proxy(port: int, root: str, keep_path: bool = False, keep_port: bool = True) -> Iterator[str]:
    """A proxy in a thread of this process.

    Args:
        port: Where the demo listens.
        root: Path under which it is shown.
        keep_path: Hand the path on, in place of taking it off.
        keep_port: Hand the port of `Host` on.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            if not self.path.startswith(f"{root}/") and self.path != root:
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            path = self.path if keep_path else self.path.removeprefix(root) or "/"
            there = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            try:
                host = self.headers["host"] if keep_port else self.headers["host"].partition(":")[0]
                headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
                there.request(self.command, path, body, {**headers, "Host": host, "Connection": "close"})
                prediction = there.getresponse()
                self.send_response_only(prediction.status)
                for name, value in prediction.getheaders():
                    if name.lower() not in HOP:
                        self.send_header(name, value)
                self.send_header("Connection", "close")
                self.end_headers()
                while chunk := prediction.read1(65536):  # events are handed on as they come
                    self.wfile.write(chunk)
                    self.wfile.flush()
            except OSError:
                pass
            finally:
                there.close()
                self.close_connection = True

        do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = do_OPTIONS = handle_any

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def nginx(port: int, root: str, folder: Path, host: str = "$http_host", keep_path: bool = False) -> Iterator[str]:
    """nginx, for as long as the block runs.

    Args:
        port: Where the demo listens.
        root: Path under which it is shown.
        folder: For its files.
        host: What it hands on as `Host`; `$host` has no port.
        keep_path: Path, as in `small_proxy`.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        own = free.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    end = "" if keep_path else "/"
    (folder / "nginx.conf").write_text(
        f"""
        user root; worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 256; }}
        http {{
          access_log off;
          client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
          fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
          server {{
            listen 127.0.0.1:{own};
            location / {{ return 404; }}
            location {root}/ {{
              proxy_pass http://127.0.0.1:{port}{end};
              proxy_http_version 1.1; proxy_buffering off; proxy_set_header Host {host};
            }}
          }}
        }}
        """
    )
    process = subprocess.Popen([NGINX, "-c", str(folder / "nginx.conf"), "-p", str(folder)])
    try:
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", own), 1):
                break
            time.sleep(0.02)
        yield f"http://127.0.0.1:{own}"
    finally:
        process.terminate()
        process.wait(10)
