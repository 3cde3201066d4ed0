"""Tokens, roles, rates and where the page listens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from errors import ConfigurationError
from ledger import Ledger, Watch
from sections import Web
from settings import Settings, Weaviate
from tests.fixtures.redis import free_port
from tests.store.images import image
from tests.web.conftest import Land, Open, street
from tests.web.test_letters import bury
from web.access import Access, Role, is_loopback
from web.app import application
from web.limits import Rates
from web.serving import serving

READ, ADMIN = "a reader's word", "the admin's wörd"


def bearer(token: str) -> dict[str, bytes]:
    return {"Authorization": f"Bearer {token}".encode()}


def test_on_loopback_reading_needs_no_token_and_changing_is_off(page: httpx.Client) -> None:
    assert page.get("/api/status").status_code == 200
    answer = page.post("/api/dead-letters/discard", json={"ids": ["1"]})
    assert answer.status_code == 403
    assert "WEAVLOADER_WEB_ADMIN_TOKEN" in answer.json()["error"]


def test_with_a_read_token_everything_needs_one(open_page: Open) -> None:
    page = open_page(read_token=READ)
    for path in ("/api/search?q=a", "/api/similar", "/api/images/1", "/api/images/1/thumbnail", "/api/status"):
        answer = page.get(path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
    assert page.get("/api/dead-letters").status_code == 401
    assert page.get("/api/dead-letters", headers=bearer("a reader's wor")).status_code == 401
    assert page.get("/api/dead-letters", headers=bearer(READ)).status_code == 200
    assert page.get("/health").status_code == 200


def test_changing_needs_the_admins_token(open_page: Open) -> None:
    page = open_page(read_token=READ, admin_token=ADMIN)
    for path in ("/api/dead-letters/discard", "/api/dead-letters/replay"):
        assert page.post(path, json={"ids": ["1"]}).status_code == 401
        assert page.post(path, json={"ids": ["1"]}, headers=bearer(READ)).status_code == 403
        assert page.post(path, json={"ids": ["1"]}, headers=bearer(ADMIN)).json()["missing"] == ["1"]


def test_a_wrong_token_opens_nothing_even_where_all_is_open(page: httpx.Client) -> None:
    assert page.get("/api/status", headers=bearer("guessed")).status_code == 401


@pytest.mark.parametrize("token", ["", " ", "a reader's word ", "A READER'S WORD", READ + "x", READ[:-1]])
def test_only_the_whole_token_is_the_token(token: str) -> None:
    access = Access(Web(read_token=READ))
    assert access.role_of_token(token) is Role.NOBODY
    assert access.role_of_token(READ) is Role.READ


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "weavloader.example.org"])
def test_without_a_token_it_does_not_listen_beyond_loopback(host: str) -> None:
    settings = Settings(weaviate=Weaviate(host="127.0.0.1"), web=Web(host=host, port=free_port()))
    with (
        pytest.raises(ConfigurationError, match=r"not loopback.*WEAVLOADER_WEB_READ_TOKEN"),
        serving(settings, dict),
    ):
        pass


def test_with_the_admins_token_alone_it_listens_everywhere_and_reading_needs_it() -> None:
    settings = Settings(
        weaviate=Weaviate(host="127.0.0.1"), web=Web(host="0.0.0.0", port=free_port(), admin_token=ADMIN)
    )
    with serving(settings, dict):
        address = f"http://127.0.0.1:{settings.web.port}"
        assert httpx.get(f"{address}/api/status", trust_env=False).status_code == 401
        assert httpx.get(f"{address}/api/status", headers=bearer(ADMIN), trust_env=False).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "[::1]", "localhost"])
def test_loopback_has_several_names(host: str) -> None:
    assert is_loopback(host)


def test_a_taken_port_is_named() -> None:
    settings = Settings(weaviate=Weaviate(host="127.0.0.1"), web=Web(port=free_port()))
    with (
        serving(settings, dict),
        pytest.raises(ConfigurationError, match="WEAVLOADER_WEB_PORT"),
        serving(settings, dict),
    ):
        pass


def test_another_sites_name_for_this_host_reads_nothing(page: httpx.Client) -> None:
    answer = page.get("/api/status", headers={"Host": f"evil.example.org:{page.base_url.port}"})
    assert answer.status_code == 421
    assert page.get("/api/status", headers={"Host": "[::1"}).status_code in (400, 421)
    assert page.get("/api/status", headers={"Host": f"localhost:{page.base_url.port}"}).status_code == 200


def test_another_sites_page_changes_nothing(open_page: Open) -> None:
    page = open_page(admin_token=ADMIN)
    for headers in ({"Origin": "https://evil.example.org"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        answer = page.post("/api/dead-letters/replay", json={"ids": ["1"]}, headers={**bearer(ADMIN), **headers})
        assert answer.status_code == 403, headers


def test_a_client_that_asks_too_often_has_to_wait(open_page: Open) -> None:
    page = open_page(rate=3)
    statuses = [page.get("/api/dead-letters").status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    answer = page.get("/api/dead-letters", headers=bearer("another guess"))
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 21
    assert page.get("/health").status_code == 200


def test_rates_refill_with_time() -> None:
    rates, now = Rates(60), time.monotonic()
    assert [rates.wait("me", 30, now) for _ in range(2)] == [0, 0]
    assert rates.wait("me", 1, now) == pytest.approx(1)
    assert rates.wait("you", 1, now) == 0
    assert rates.wait("me", 1, now + 1.01) == 0


def test_every_answer_says_what_a_browser_may_do_with_it(page: httpx.Client) -> None:
    headers = page.get("/api/status").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers


def test_two_roles_have_two_tokens() -> None:
    from settings import load

    with pytest.raises(ConfigurationError, match="WEAVLOADER_WEB_ADMIN_TOKEN"):
        load({"WEAVLOADER_WEB_READ_TOKEN": "same", "WEAVLOADER_WEB_ADMIN_TOKEN": "same"})


def test_every_page_and_call_asks_for_the_token_and_works_with_it(
    open_page: Open, land: Land, ledger: Ledger, photos: Path
) -> None:
    """All that the application serves: nothing but its own looks, its description and its life is open."""
    land(street(1), street(2))
    letter = bury(ledger, 3).id
    ledger.watches.add(Watch("one", "0", "https://hooks.example/x", "/none", 0.0, "a street"))
    page = open_page(read_token=READ, admin_token=ADMIN)
    one, picture = image(1).record.id, {"picture": ("a.png", (photos / "coffee.png").read_bytes())}
    reading = {
        "/": {"params": {"q": "street"}},
        "/results.csv": {"params": {"q": "street"}},
        f"/images/{one}": {},
        "/live": {},
        "/live/now": {},
        "/dead-letters": {},
        "/watches": {},
        "/api": {},
        "/api/search": {"params": {"q": "street"}},
        "/api/similar": {"params": {"id": one}},
        f"/api/images/{one}": {},
        f"/api/images/{one}/thumbnail": {},
        "/api/status": {},
        "/api/dead-letters": {},
        "/api/watches": {},
        "/api/watches/one": {},
    }
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    both = {"Accept": "application/json, text/event-stream"}
    posting = {"/similar": {"files": picture}, "/api/similar": {"files": picture}, "/mcp": {"json": listing}}
    changing = (
        *("/api/dead-letters/replay", "/api/dead-letters/discard"),
        *("/api/watches/one/dead-letters/replay", "/api/watches/one/dead-letters/discard"),
    )
    # their pages and calls, each tried with both tokens in tests/web/test_watches.py
    watching = (
        *("/watches/one", "/watches/one/dead-letters", "/api/watches/test", "/api/watches/one/pause"),
        *("/api/watches/one/resume", "/api/watches/one/dead-letters"),
    )
    # not handed out; there is none of the letter; nobody's own (those that are: tests/web/test_files.py)
    others = (f"/api/images/{one}/original", f"/dead-letters/{letter}/picture", f"/files/{'0' * 64}")
    free = ("/login", "/logout", "/health", "/openapi.json")
    served = set(paths_of(one, letter))
    assert served == {*reading, *posting, *changing, *watching, *others, *free}

    for method, calls in (("GET", reading), ("POST", posting)):
        for path, given in calls.items():
            refused = page.request(method, path, **given)
            assert refused.status_code in (401, 303), path
            assert refused.headers.get("location", "/login").startswith("/login"), path
            answer = page.request(method, path, headers={**bearer(READ), **both}, **given)
            assert answer.status_code in (200, 303), (path, answer.text)
    for path in changing:
        assert page.post(path, json={"ids": ["1"]}, headers=bearer(READ)).status_code == 403
        assert page.post(path, json={"ids": ["1"]}, headers=bearer(ADMIN)).status_code == 200
    for path, status in zip(others, (403, 404, 404), strict=True):
        assert page.get(path).status_code in (401, 303)
        assert page.get(path, headers=bearer(READ)).status_code == status


def paths_of(image_id: str, letter: str) -> Iterator[str]:
    """Every path that the application routes, with these ids."""
    app = application(Settings(weaviate=Weaviate(host="127.0.0.1")), dict, lambda _records: None)
    for route in app.routes:
        for own in getattr(getattr(route, "original_router", None), "routes", [route]):
            if own.path != "/static":
                yield (
                    own.path.replace("{id}", letter if own.path.startswith("/dead-letters") else image_id)
                    .replace("{digest}", "0" * 64)
                    .replace("{name}", "one")
                )
