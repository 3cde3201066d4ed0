"""Below a path of an operator's web server, whether its proxy hands that path on or takes it away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect

from ledger import Ledger
from tests.fixtures.browser import Browse
from tests.fixtures.proxy import proxied
from tests.store.images import image
from tests.web.conftest import Land, Open, street
from tests.web.test_letters import bury
from tests.web.test_tools import call

PREFIX = "/our/pictures"
ADMIN = "the admin's word"
both = pytest.mark.parametrize("takes_away", [False, True], ids=["handed on", "taken away"])


@contextmanager
def behind(open_page: Open, takes_away: bool, **web: object) -> Iterator[httpx.Client]:
    page = open_page(prefix=f"{PREFIX}/", **web)
    with (
        proxied(str(page.base_url), PREFIX, takes_away=takes_away) as address,
        httpx.Client(base_url=address, trust_env=False, timeout=30) as client,
    ):
        yield client


@both
def test_every_link_leads_below_the_prefix(open_page: Open, land: Land, ledger: Ledger, takes_away: bool) -> None:
    land(*(street(number) for number in range(30)))
    bury(ledger, 40)
    own = image(1).record.id
    with behind(open_page, takes_away, admin_token=ADMIN) as client:
        for path in ("/", "/?q=street&apart=true", f"/images/{own}", "/live", "/dead-letters", "/login", "/nowhere"):
            html = client.get(PREFIX + path).text
            links = [unescape(link) for link in re.findall(r'(?:href|src|action|data-source)="(/[^"]*)"', html)]
            assert links, path
            assert [link for link in links if not link.startswith(f"{PREFIX}/")] == [], path
            for link in set(links):
                if not link.endswith(("/logout", "/similar")):
                    assert client.get(link).status_code == 200, link


@both
def test_the_api_and_its_description_name_whole_paths(open_page: Open, land: Land, takes_away: bool) -> None:
    land(street(1))
    with behind(open_page, takes_away) as client:
        (found,) = client.get(f"{PREFIX}/api/search", params={"q": "street"}).json()["results"]
        assert client.get(found["thumbnail"]).content == b"\xff\xd8 a thumbnail"
        assert client.get(f"{PREFIX}/openapi.json").json()["servers"] == [{"url": PREFIX}]
        refused = client.get(f"{PREFIX}/api/search")
        assert (refused.status_code, refused.json()["cause"]) == (422, "usage")


@both
def test_a_browser_that_logs_in_stays_below_the_prefix(open_page: Open, land: Land, takes_away: bool) -> None:
    land(street(1))
    with behind(open_page, takes_away, read_token="a reader's word") as client:
        asked = client.get(f"{PREFIX}/", params={"q": "street"})
        assert asked.headers["location"].startswith(f"{PREFIX}/login?next=%2F%3Fq")
        answer = client.post(f"{PREFIX}/login", data={"token": "a reader's word", "next": "/?q=street"})
        assert answer.headers["location"] == f"{PREFIX}/?q=street"
        assert f"Path={PREFIX}" in answer.headers["set-cookie"]
        assert client.get(answer.headers["location"]).status_code == 200
        assert client.post(f"{PREFIX}/logout").headers["location"] == f"{PREFIX}/"
        assert client.get(f"{PREFIX}/").status_code == 303


def test_the_tools_name_whole_paths(open_page: Open, land: Land) -> None:
    land(street(1))
    page = open_page(prefix=PREFIX)
    (found,) = call(page, "search_images", query="street").structured_content["results"]
    assert page.get(found["thumbnail"]).status_code == 200
    assert found["thumbnail"].startswith(PREFIX)


def test_without_its_last_slash_the_prefix_is_the_search_page(open_page: Open) -> None:
    assert 'role="search"' in open_page(prefix=PREFIX).get(PREFIX).text


def test_what_only_begins_like_the_prefix_is_not_below_it(open_page: Open) -> None:
    assert open_page(prefix=PREFIX).get(f"{PREFIX}s/live").status_code == 404


@pytest.fixture
def pictures(land: Land) -> None:
    land(street(1), street(2))


@both
@pytest.mark.debian("chromium")
async def test_a_browser_works_through_the_proxy(
    open_page: Open, pictures: None, ledger: Ledger, browse: Browse, photos: Path, takes_away: bool
) -> None:
    record = bury(ledger, 3)
    with behind(open_page, takes_away, admin_token=ADMIN) as client:
        page = await browse(f"{client.base_url}{PREFIX}/", path="")
        await page.get_by_role("searchbox").fill("a quiet street")
        await page.get_by_role("button", name="Search", exact=True).click()
        await expect(page.get_by_role("article")).to_have_count(2)
        await page.get_by_text("Search with a picture of yours").click()
        await page.get_by_label("Find pictures like one of yours").set_input_files(photos / "coffee.png")
        await page.get_by_role("button", name="Find similar").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Pictures like coffee.png")
        await page.get_by_role("link", name="Dead letters").click()
        await page.get_by_role("link", name="log in", exact=True).click()
        await page.get_by_label("Token").fill(ADMIN)
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_label(f"Mark {record.filename}").check()
        await page.get_by_role("button", name="Replay the marked").click()
        await expect(page.get_by_role("status")).to_have_text("1 image is queued again.")
