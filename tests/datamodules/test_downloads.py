import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from datamodules.downloads import download
from visionkit.errors import DataError, EnvironmentFault

CONTENT = b"published" * 1000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "set.bin").write_bytes(CONTENT)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


def test_brings_and_checks(server: str, tmp_path: Path) -> None:
    target = tmp_path / "new" / "set.bin"
    md5 = hashlib.md5(CONTENT).hexdigest()
    assert download(f"{server}/set.bin", target, md5) == target
    assert target.read_bytes() == CONTENT
    target.write_bytes(b"changed")
    with pytest.raises(DataError, match="checksum"):
        download(f"{server}/set.bin", target, md5)


def test_what_is_not_the_published_file_is_not_kept(server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its checksum is"):
        download(f"{server}/set.bin", tmp_path / "set.bin", "0" * 32)
    with pytest.raises(EnvironmentFault, match=r"(?i)not found.*; bring it by hand to"):
        download(f"{server}/other.bin", tmp_path / "other.bin", "0" * 32)
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
