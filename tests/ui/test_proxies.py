"""The demo behind a proxy that shows it under a path: login, pages, uploads, streams and logout in a browser."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ui.browser import PATIENCE, chromium, needs_chromium
from tests.ui.conftest import served
from tests.ui.proxies import NGINX, nginx, small_proxy
from ui.server.login import Accounts, add_account

pytestmark = pytest.mark.filterwarnings("ignore::Warning:gradio.queueing")
ROOT = "/demo"
needs_nginx = pytest.mark.skipif(not Path(NGINX).exists(), reason="no nginx: install Debian's nginx-light to run this")


@pytest.fixture(scope="module")
def port(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A demo with a login that is reported its path."""
    folder = tmp_path_factory.mktemp("proxied")
    add_account(folder / "accounts", "ada", "long enough")
    with served(models, folder, accounts=Accounts(folder / "accounts"), root_path=ROOT) as demo:
        yield int(demo.address.rpartition(":")[2])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.mark.parametrize("keep_path", [False, True], ids=["path off", "path kept"])
@pytest.mark.parametrize("keep_port", [True, False], ids=["port kept", "port dropped"])
def test_a_login_stays_below_the_path(port: int, keep_path: bool, keep_port: bool) -> None:
    with small_proxy(port, ROOT, keep_path, keep_port) as address, httpx.Client(base_url=address) as client:
        asked = client.get("/demo/pose?a=1", headers={"accept": "text/html"})
        assert asked.status_code == 303 and asked.headers["location"].startswith("/demo/login?next=%2Fdemo%2Fpose")
        form = client.get(asked.headers["location"])
        assert 'action="/demo/login?next=%2Fdemo%2Fpose"' in form.text
        right = {"username": "ada", "password": "long enough"}
        origin = {"accept": "text/html", "origin": address}
        sent = client.post("/demo/login?next=%2Fdemo%2Fpose", data=right, headers=origin)
        assert (sent.status_code, sent.headers["location"]) == (303, "/demo/pose")
        assert "; Path=/demo;" in sent.headers["set-cookie"]
        assert client.get("/demo/pose").status_code == 200
        gone = client.get("/demo/logout")
        assert gone.headers["location"] == "/demo/login" and "; Path=/demo; Max-Age=0" in gone.headers["set-cookie"]
        assert client.get("/demo/pose").status_code == 401
        # A place outside of this server, or a path that merely begins like it, is none of its own.
        elsewhere = client.post("/demo/login?next=//outside.example", data=right, headers=origin)
        assert elsewhere.headers["location"] == "/demo/"


def test_a_path_that_only_begins_the_same_is_not_the_root(port: int) -> None:
    asked = httpx.get(f"http://127.0.0.1:{port}/demolition", headers={"accept": "text/html"})
    assert asked.headers["location"] == "/demo/login?next=%2Fdemo%2Fdemolition"


PROXIES: tuple[Any, ...] = (
    pytest.param(lambda port, folder: small_proxy(port, ROOT), id="small", marks=pytest.mark.slow),
    pytest.param(
        lambda port, folder: small_proxy(port, ROOT, keep_path=True, keep_port=False), id="small, port dropped"
    ),
    pytest.param(lambda port, folder: nginx(port, ROOT, folder), id="nginx", marks=needs_nginx),
    pytest.param(
        lambda port, folder: nginx(port, ROOT, folder, host="$host"),
        id="nginx, port dropped",
        marks=[needs_nginx, pytest.mark.slow],
    ),
)


@needs_chromium
@pytest.mark.parametrize("proxy", PROXIES)
def test_a_visitor_logs_in_gets_an_predictions_and_logs_out(
    port: int,
    browser: Any,
    images: list[Path],
    tmp_path: Path,
    proxy: Callable[[int, Path], contextlib.AbstractContextManager[str]],
) -> None:
    with proxy(port, tmp_path / "nginx") as address:
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        outside: list[str] = []
        page.on("request", lambda asked: asked.url.startswith((address, "data:", "blob:")) or outside.append(asked.url))
        refused: list[str] = []
        page.on(
            "response",
            lambda prediction: prediction.status >= 400 and refused.append(f"{prediction.status} {prediction.url}"),
        )
        page.goto(f"{address}{ROOT}/classification")
        assert page.url.startswith(f"{address}{ROOT}/login?")
        page.locator("input[name=username]").fill("ada")
        page.locator("input[name=password]").fill("long enough")
        page.get_by_role("button").click()
        page.wait_for_url(f"{address}{ROOT}/classification")
        page.locator("input[type=file]").first.wait_for(state="attached")
        with page.expect_response(
            lambda prediction: "/gradio_api/queue/data" in prediction.url and prediction.status == 200
        ):
            page.locator("input[type=file]").first.set_input_files(str(images[0]))
        page.get_by_text("The response appears here.", exact=True).wait_for(state="hidden")
        assert outside == [] and refused == []
        page.goto(f"{address}{ROOT}/logout")
        page.goto(f"{address}{ROOT}/classification")
        assert page.url.startswith(f"{address}{ROOT}/login?")
        context.close()
