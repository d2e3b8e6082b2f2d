"""Files of a page: from memory, of the right type, asked for again each time, and nothing else."""

import configparser
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from rqueue.web.assets import STRICT, TYPES, Assets
from rqueue.web.middleware import one_error_shape


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Any]:
    folder = tmp_path / "page"
    (folder / "below.txt").mkdir(parents=True)
    for suffix in TYPES:
        (folder / f"a.{suffix}").write_text(f"this is {suffix}")
    (folder / "a.py").write_text("no file of a page")
    (tmp_path / "secret.txt").write_text("not for you")
    assets = Assets(str(folder), img_src="'self' data:")

    async def show(request: web.Request) -> web.Response:
        return assets.answer(request, request.match_info["file"])

    app = web.Application(middlewares=[one_error_shape])
    app.router.add_get("/{file:.*}", show)
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.mark.parametrize("suffix", TYPES)
async def test_a_file_is_what_its_suffix_says_and_loads_nothing_from_elsewhere(
    page: Any, suffix: str
) -> None:
    async with page.get(f"/a.{suffix}") as response:
        assert (response.status, await response.text()) == (200, f"this is {suffix}")
        headers = response.headers
    assert headers["Content-Type"] == TYPES[suffix]
    assert headers["Cache-Control"] == "no-cache"
    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = dict(one.split(" ", 1) for one in headers["Content-Security-Policy"].split("; "))
    assert policy == {**STRICT, "img-src": "'self' data:"}


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
async def test_who_has_it_already_is_not_sent_it_again(page: Any, form: str) -> None:
    async with page.get("/a.js") as response:
        etag = response.headers["ETag"]
    known = {"If-None-Match": form.format(etag)}
    async with page.get("/a.js", headers=known) as response:
        assert (response.status, await response.read(), response.headers["ETag"]) == (304, b"", etag)
    async with page.get("/a.css", headers={"If-None-Match": etag}) as response:
        assert response.status == 200
    async with page.head("/a.js") as response:
        assert (response.status, response.headers["Content-Length"]) == (200, str(len("this is js")))


@pytest.mark.parametrize(
    "name", ["", "a.py", "b.js", "A.JS", "below.txt", "..%2Fsecret.txt", "%2Fetc%2Fpasswd", "a.js%00"]
)
async def test_there_are_no_others(page: Any, name: str) -> None:
    async with page.get(f"/{name}") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (404, "not_found")


def test_all_of_them_are_in_the_wheel() -> None:
    """setuptools takes what setup.cfg names, and forgets the rest without a word."""
    root = Path(__file__).parents[2]
    setup = configparser.ConfigParser()
    setup.read(root / "setup.cfg")
    folder = root / "rqueue" / "web"
    named = setup["options.package_data"]["rqueue.web"].replace("\n", ",").split(",")
    packed = {path for pattern in named for path in folder.glob(pattern.strip())}
    there = {path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert there
    assert there <= packed
