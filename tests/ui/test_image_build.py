"""The container image is built with buildah where that is at hand, and serves models."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.real_data import ROOT
from tests.ui.test_workers import png
from visionkit.predictor import load

TAG = "visionkit-test"


def _buildah(*words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """A command of buildah, which needs no daemon, and with this isolation none of the system's namespaces either."""
    # The one test whose tool fetches something: the closed door of all others stands in `http_proxy`.
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.run(
        ["buildah", *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds
    )


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """Name of the image, built from configs/deploy/Dockerfile."""
    if shutil.which("buildah") is None:
        pytest.skip("no buildah: `apt-get install buildah` to build the container image")
    if os.geteuid() != 0:
        pytest.skip("buildah's chroot isolation needs root")
    base = re.search(r"^FROM (\S+)$", (ROOT / "configs" / "deploy" / "Dockerfile").read_text("utf-8"), re.M)[1]
    pulled = _buildah("pull", "--policy", "missing", base, seconds=600)
    if pulled.returncode:
        pytest.skip(f"{base} is neither here nor in reach: {pulled.stderr.strip()[-160:]}")
    words = (
        "bud",
        "--isolation",
        "chroot",
        "--layers=false",
        "--pull=false",
        "-f",
        "configs/deploy/Dockerfile",
        "-t",
        TAG,
        ".",
    )
    built = _buildah(*words, seconds=2400)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-4000:]
    yield TAG
    _buildah("rmi", TAG)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_image_serves_models_that_are_mounted(image: str, models: Path, free_port: int) -> None:
    container = _buildah("from", "--pull-never", image).stdout.strip()
    try:
        config = json.loads(_buildah("inspect", container).stdout)["OCIv1"]["config"]
        entry = config["Entrypoint"]
        assert config["User"] == "visionkit" and "--host" in entry
        entry[entry.index("--port") + 1] = str(free_port)
        start = ["buildah", "run", "--isolation", "chroot", "--user", config["User"], "-v", f"{models}:/models:ro"]
        command = [*start, container, "--", *entry, "--models=/models", "--no-public", "--api-only", "--workers=2"]
        with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as server:
            try:
                pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
                assert _predicted(free_port, pixels) == load(models / "good")(pixels).to_json()
            finally:
                os.killpg(server.pid, signal.SIGKILL)
    finally:
        _buildah("rm", container)


def _predicted(port: int, pixels: np.ndarray) -> object:
    """The json of the server, once it listens."""
    end = time.monotonic() + 300
    while True:
        try:
            address = f"http://127.0.0.1:{port}/api/predict?model=good"
            return httpx.post(address, content=png(pixels), timeout=300).raise_for_status().json()
        except httpx.TransportError:
            assert time.monotonic() < end
            time.sleep(0.5)
