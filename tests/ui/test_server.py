"""The application under other servers, and the files for containers, as far as they can be checked without them."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml

from tests.real_data import ROOT
from ui.cli import build_parser
from ui.commands.serve import check, listen
from visionkit.errors import DataError, UsageError

SERVE = ROOT / "configs" / "deploy"


@pytest.mark.timeout(300)
def test_any_asgi_server_runs_it_with_options_of_a_variable(models: Path, tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as door:
        port = door.getsockname()[1]
    environment = {
        **os.environ,
        "TMPDIR": str(tmp_path),
        "VISIONKIT_SERVE": f"--models {shlex.quote(str(models))} --root-path /demo --allow-host demo.example",
    }
    command = [sys.executable, "-m", "uvicorn", "ui.server:create_app", "--factory", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as session:
            end = time.monotonic() + 240
            while True:
                assert process.poll() is None and time.monotonic() < end
                try:
                    health = session.get("/health")
                    break
                except httpx.TransportError:
                    time.sleep(0.2)
            assert health.json()["status"] == "ok"
            # As a proxy asks that takes "/demo" off: the page's own addresses have it.
            page = session.get("/", headers={"host": "demo.example"})
            assert page.status_code == 200 and '"root":"http://demo.example/demo"' in page.text.replace(" ", "")
            assert session.get("/", headers={"host": "other.example"}).status_code == 421
            assert session.post("/api/predict?model=good", content=b"x").status_code == 422
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert list(tmp_path.glob("visionkit-*")) == [], "its temporary folder went with it"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--root-path demo", "--root-path"),
        ("--root-path /demo/", "--root-path"),
        ("--ssl-keyfile x", "--ssl-certfile"),
        ("--ssl-certfile nowhere.pem", "no such file"),
        ("--auth-file nowhere", "no such file"),
        ("--queue 0", "--queue"),
        ("--device tpu", "--device"),
        ("--data nowhere", "--data nowhere: no such file or folder"),
    ],
)
def test_options_that_are_wrong_are_reported_before_anything_is_imported(options: str, said: str) -> None:
    with pytest.raises((UsageError, DataError), match=said):
        check(build_parser("serve").parse(shlex.split(options)))


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    path.write_text("no certificate")
    with pytest.raises(UsageError, match="is no certificate with its key"):
        check(build_parser("serve").parse(["--ssl-certfile", str(path)]))


def test_compose_starts_what_there_is() -> None:
    """Its options are those of the command, its files are there, its names are those that nginx asks for."""
    compose = yaml.safe_load((SERVE / "compose.yaml").read_text("utf-8"))
    services = compose["services"]
    replicas = {name: each for name, each in services.items() if each.get("image") == "visionkit"}
    assert len(replicas) == 2 and set(services["nginx"]["depends_on"]) == set(replicas)
    for each in replicas.values():
        words = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in each["command"]]
        args = build_parser("serve").parse([word for word in words if not word.startswith("--models")])
        assert args.allow_host == ["localhost"] and args.no_public
        assert (SERVE / each["build"]["context"] / each["build"]["dockerfile"]).is_file()
        assert each["read_only"] and each["cap_drop"] == ["ALL"] and "ports" not in each
    nginx = (SERVE / "nginx.conf").read_text("utf-8")
    assert set(re.findall(r"server (demo-\d):7860", nginx)) == set(replicas)
    assert nginx.count("{") == nginx.count("}")
    upload = int(re.search(r"client_max_body_size (\d+)m;", nginx)[1])
    assert upload > build_parser("serve").parse([]).upload_mb


def test_the_image_is_made_of_what_there_is() -> None:
    text = (SERVE / "Dockerfile").read_text("utf-8")
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.M) for word in line.split()[:-1]]
    assert copied and all((ROOT / word).exists() for word in copied)
    allowed = {
        line[1:] for line in (SERVE / "Dockerfile.dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"
    }
    assert allowed == set(copied)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages <= set(copied), "a package that the image lacks"
    assert re.search(r"^USER visionkit$", text, re.M)
    entry = re.search(r"^ENTRYPOINT \[(.*)\]$", text, re.M)[1].replace('"', "").split(", ")
    assert entry[:2] == ["visionkit", "serve"]
    check(build_parser("serve").parse(entry[2:]))
