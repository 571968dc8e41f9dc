"""Brings a public file, when asked to, and checks that it is the published one."""

from __future__ import annotations

import hashlib
import sys
import urllib.error
import urllib.request
from pathlib import Path

from visionkit.errors import DataError, EnvironmentFault

_CHUNK = 1 << 20
_PATIENCE = 20  # seconds without a response


def download(url: str, target: Path, md5: str) -> Path:
    """Downloads one file; nothing is left behind where it fails.

    Args:
        url: Where it is published.
        target: Where it goes; a file that already exists is only checked.
        md5: The published checksum, hexadecimal.

    Raises:
        EnvironmentFault: The network or the disk does not let us; states how to bring the file by hand.
        DataError: The file is not the published one.
    """
    if not target.exists():
        part = target.with_name(target.name + ".part")
        print(f"downloading {url}", file=sys.stderr)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with urllib.request.urlopen(url, timeout=_PATIENCE) as response, part.open("wb") as file:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
            _check(part, md5, url)
            part.replace(target)
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise EnvironmentFault(f"{url}: cannot be downloaded ({reason}); bring it by hand to {target}") from None
        finally:
            part.unlink(missing_ok=True)
        return target
    _check(target, md5, str(target))
    return target


def _check(file: Path, md5: str, name: str) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != md5:
        raise DataError(f"{name}: its checksum is {digest.hexdigest()}, that of the published file is {md5}; remove it")
