"""Standing searches over the API and on their pages: added, looked at, tried, paused and removed; no secret is shown
again.
"""

from __future__ import annotations

import asyncio
import json
import re
import stat
import time
import uuid
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from client import WeaviateStore
from ledger import Ledger, Watch
from ledger.watches import MOST_WATCHES, Match
from records import IndexedImage, Made, ModelIdentity, Vector
from settings import Weaviate
from tests.fixtures.redis import Valkey
from tests.store.images import image
from tests.web.conftest import DIMENSIONS, Land, Open, street
from tests.web.test_pages import cards, links, shown

READ, ADMIN = "a reader's word", "the admin's word"
MODEL = ModelIdentity("plain_embedder", "1")
BEARER = {"Authorization": f"Bearer {ADMIN}"}
HOOK = "https://198.51.100.7/token"
NEW = {"name": "street", "query": "a street", "threshold": 0.5, "webhook": "https://8.8.8.8/token"}


def watch_of(name: str, **changes: Any) -> Watch:
    """A watch as another process has added it."""
    made = Made(np.eye(1, DIMENSIONS, dtype=np.float32)[0], MODEL)
    fixed = {"query": "a dog", "threshold": 0.5, "made": made, **changes}
    return Watch(name, str(uuid.uuid4()), NEW["webhook"], "/none", 0.0, **fixed)  # type: ignore[arg-type]


def comparable(number: int, vector: Vector, **changes: Any) -> IndexedImage:
    """An image whose vector the page's embedder has made, a while before the end of what is tried."""
    recent = time.time_ns() - (100 - number) * 10**9
    return replace(street(number, vector=vector, captured_ns=recent, **changes), embedder=MODEL)


def found(ledger: Ledger, watch: Watch, number: int, **body: str) -> str:
    """The watch finds an image: a delivery waits; its id."""
    own, delivery = image(number).record.id, f"msg_{number}"
    told = json.dumps({"type": "picture.matched", "vsn": "W02F", "node": "", **body})
    assert ledger.watches.matched([], [Match(watch, delivery, own, "top", float(number), 0.75, told)]) == ["queued"]
    return delivery


def bury(ledger: Ledger, watch: Watch, number: int, **body: str) -> str:
    """The watch's post of an image is dead; its id."""
    own = found(ledger, watch, number, **body)
    (delivery,) = ledger.watches.claim(watch, 1, 60)
    assert ledger.watches.bury(watch, delivery, "webhook_refused", f"{HOOK} answers with status 500", 3600)
    return own


@pytest.fixture
def admin(open_page: Open) -> httpx.Client:
    """A page, asked with the admin's token."""
    page = open_page(admin_token=ADMIN)
    page.headers.update(BEARER)
    return page


def test_a_watch_is_added_with_a_secret_that_nothing_shows_again(
    admin: httpx.Client, ledger: Ledger, tmp_path: Path
) -> None:
    answer = admin.post("/api/watches", json={**NEW, "camera": "top", "cooldown": 60})
    assert answer.status_code == 201, answer.text
    said = answer.json()
    secret = said["secret"]
    kept = ledger.watches.get("street")
    assert kept is not None
    file = Path(kept.secret_file)
    assert (file.parent, file.read_text().strip(), stat.S_IMODE(file.stat().st_mode)) == (
        *(tmp_path / "watches", secret),
        0o600,
    )
    assert (kept.narrowed, kept.cooldown, kept.made.by.name) == ({"camera": "top"}, 60, "plain_embedder")  # type: ignore[union-attr]
    for path in ("/api/watches", "/api/watches/street", "/watches"):
        text = admin.get(path).text
        assert "a street" in text
        assert "https://8.8.8.8:443/" in text
        for hidden in (secret, "token", str(tmp_path)):
            assert hidden not in text, (path, hidden)


def test_a_dry_run_checks_everything_and_keeps_nothing(admin: httpx.Client, ledger: Ledger, tmp_path: Path) -> None:
    said = admin.post("/api/watches", json={**NEW, "dry_run": True}).json()
    assert (said["secret"], said["watch"]["embedder"]) == (None, "plain_embedder")
    assert ledger.watches.states() == []
    assert not (tmp_path / "watches").exists()


@pytest.mark.parametrize(
    ("change", "status", "named"),
    [
        ({"name": "X Y"}, 422, "X Y"),
        ({"name": "../x"}, 422, "../x"),
        ({"name": "there"}, 409, "there"),
        ({"query": ""}, 422, "query"),
        ({"query": "a" * 2001}, 422, "2000"),
        ({"threshold": None}, 422, "threshold"),
        ({"threshold": 0}, 422, "threshold"),
        ({"threshold": 1.5}, 422, "threshold"),
        ({"threshold": "nan"}, 422, "threshold"),
        ({"alerts": True}, 422, "alerts"),
        ({"webhook": "not a url"}, 422, "https://"),
        ({"webhook": "ftp://h/x"}, 422, "https://"),
        ({"webhook": "http://10.0.0.1/x"}, 422, "WEAVLOADER_WEBHOOK_HOSTS"),
        ({"webhook": "http://localhost:1/x"}, 422, "WEAVLOADER_WEBHOOK_HOSTS"),
        ({"webhook": "https://me:word@8.8.8.8/"}, 422, "login"),
        ({"webhook": "https://8.8.8.8/" + "x" * 2000}, 422, "2000"),
        ({"cooldown": -1}, 422, "cooldown"),
        ({"camera": "x" * 201}, 422, "200"),
        ({"secret_file": "/etc/passwd"}, 422, "secret_file"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_added(
    admin: httpx.Client, ledger: Ledger, tmp_path: Path, change: dict[str, Any], status: int, named: str
) -> None:
    ledger.watches.add(watch_of("there"))
    answer = admin.post("/api/watches", json={**NEW, **change})
    assert answer.status_code == status, answer.text
    assert named in answer.json()["error"]
    assert [state.watch.name for state in ledger.watches.states()] == ["there"]
    assert list((tmp_path / "watches").glob("*.secret")) == []


def test_there_are_only_so_many_watches(admin: httpx.Client, ledger: Ledger, tmp_path: Path) -> None:
    for number in range(MOST_WATCHES):
        ledger.watches.add(watch_of(f"w{number}"))
    for dry in (True, False):
        answer = admin.post("/api/watches", json={**NEW, "dry_run": dry})
        assert (answer.status_code, answer.json()["cause"]) == (409, "taken"), dry
    assert list((tmp_path / "watches").glob("*.secret")) == []
    assert len(admin.get("/api/watches").json()["watches"]) == MOST_WATCHES


def test_no_secret_is_kept_where_no_cleaner_reads_it(admin: httpx.Client, ledger: Ledger, tmp_path: Path) -> None:
    ledger.watches.note_folder("another host's")
    for dry in (True, False):
        answer = admin.post("/api/watches", json={**NEW, "dry_run": dry})
        assert (answer.status_code, ledger.watches.states()) == (403, []), dry
        assert "python main.py watch add" in answer.json()["error"]
    assert not (tmp_path / "watches").exists()


def test_a_secret_that_cannot_be_kept_is_the_servers_fault(
    admin: httpx.Client, browser: httpx.Client, ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / "watches").write_text("a file where the folder should be")
    answer = admin.post("/api/watches", json=NEW)
    assert (answer.status_code, answer.json()["cause"], ledger.watches.states()) == (503, "configuration", [])
    html = unescape(shown(form(browser), 503))
    assert "cannot be kept" in html
    assert 'name="query" value="a street"' in html


def test_a_watch_is_paused_resumed_and_removed_with_its_secret(
    admin: httpx.Client, ledger: Ledger, tmp_path: Path
) -> None:
    admin.post("/api/watches", json=NEW)
    assert admin.post("/api/watches/street/pause").json() == {"name": "street", "state": "paused"}
    assert admin.get("/api/watches/street").json()["state"] == "paused"
    assert admin.post("/api/watches/street/resume").json() == {"name": "street", "state": "active"}
    assert admin.get("/api/watches/street").json()["state"] == "active"
    gone = admin.delete("/api/watches/street").json()
    assert gone == {"name": "street", "state": "removed", "waiting": 0, "dead": 0}
    assert list((tmp_path / "watches").glob("*.secret")) == []
    calls = (("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume"), ("GET", "/dead-letters"))
    for method, path in calls:
        answer = admin.request(method, f"/api/watches/street{path}")
        assert (answer.status_code, "street" in answer.json()["error"]) == (404, True), (method, path)


def test_a_reader_sees_how_watches_are_and_neither_receiver_nor_error(
    open_page: Open, ledger: Ledger, land: Land
) -> None:
    land(street(1), street(2, vsn="W099"))
    one, other = watch_of("one"), watch_of("other")
    for watch, number in ((one, 1), (other, 2)):
        ledger.watches.add(watch)
        bury(ledger, watch, number)
    page = open_page(read_token=READ, admin_token=ADMIN, nodes=("W02F",))
    reader = {"Authorization": f"Bearer {READ}"}
    listed = page.get("/api/watches", headers=reader).json()["watches"]
    assert [(told["name"], told["dead"], told["failing"]) for told in listed] == [("one", 1, True), ("other", 1, True)]
    assert [told["last_image"] for told in listed] == [image(1).record.id, None]
    assert {(told["webhook"], told["last_error"]) for told in listed} == {(None, None)}
    for path in ("/api/watches", "/api/watches/one", "/watches"):
        assert "8.8.8.8" not in page.get(path, headers=reader).text
    whole = page.get("/api/watches/other", headers=BEARER).json()
    assert (whole["last_image"], whole["last_error"]) == (image(2).record.id, f"{HOOK} answers with status 500")
    for method, path, body in (
        ("POST", "", NEW),
        ("POST", "/test", {"name": "one"}),
        ("DELETE", "/one", None),
        ("POST", "/one/pause", None),
        ("POST", "/one/resume", None),
        ("GET", "/one/dead-letters", None),
        ("POST", "/one/dead-letters/replay", {"ids": ["msg_1"]}),
        ("POST", "/one/dead-letters/discard", {"ids": ["msg_1"]}),
    ):
        assert page.request(method, f"/api/watches{path}", json=body).status_code == 401, path
        assert page.request(method, f"/api/watches{path}", json=body, headers=reader).status_code == 403, path
    assert len(ledger.watches.states()) == 2


def test_a_query_is_tried_on_stored_pictures(admin: httpx.Client, land: Land, ledger: Ledger) -> None:
    near, far = np.eye(2, DIMENSIONS, dtype=np.float32)
    made = [comparable(number, near + far * 0.1 * number, camera="top") for number in (0, 1, 2)]
    land(*made, comparable(3, far, camera="top"), comparable(4, near, camera="other"))
    ledger.watches.add(watch_of("top", narrowed={"camera": "top"}, threshold=0.9, cooldown=0.0))
    said = admin.post("/api/watches/test", json={"name": "top"}).json()
    assert (said["compared"], said["matched"], said["posted"], said["more"]) == (4, 3, 3, False)
    assert [one["id"] for one in said["best"]] == [image(number).record.id for number in (0, 1, 2, 3)]
    assert [one["matches"] for one in said["best"]] == [True, True, True, False]
    assert said["best"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert sum(step["count"] for step in said["histogram"]) == 4
    cooled = admin.post("/api/watches/test", json={"name": "top", "cooldown": 1e6}).json()
    assert (cooled["matched"], cooled["posted"]) == (3, 1)
    other = admin.post("/api/watches/test", json={"query": "a street", "threshold": 1e-6}).json()
    assert (other["watch"], other["compared"], other["not_comparable"]) == (None, 5, 0)
    for body in ({}, {"name": "top", "query": "x"}, {"name": "top", "camera": "x"}, {"query": "x", "since": "soon"}):
        assert admin.post("/api/watches/test", json=body).status_code == 422, body
    assert admin.post("/api/watches/test", json={"name": "nobody"}).status_code == 404


def test_a_try_is_by_the_model_that_made_the_vectors_and_not_by_the_configured_one(
    open_page: Open, land: Land, ledger: Ledger, collection: Weaviate
) -> None:
    land(comparable(1, np.eye(1, DIMENSIONS, dtype=np.float32)[0]))

    async def tell() -> None:
        store = WeaviateStore(collection)
        current = await store.current()
        await store.tell_apart(replace(current, embedder=MODEL.name, embedder_version=MODEL.version))
        await store.close()

    asyncio.run(tell())
    ledger.watches.add(watch_of("one", made=Made(np.eye(1, 8, dtype=np.float32)[0], ModelIdentity("configured", "1"))))
    page = open_page(admin_token=ADMIN, embedder="configured")
    said = page.post("/api/watches/test", json={"name": "one"}, headers=BEARER).json()
    assert (said.get("error"), said.get("compared"), said.get("not_comparable")) == (None, 1, 0)


def test_dead_deliveries_are_listed_posted_again_and_thrown_away(open_page: Open, ledger: Ledger) -> None:
    watch = watch_of("one")
    ledger.watches.add(watch)
    for number in (1, 2, 3):
        bury(ledger, watch, number, vsn="W099" if number == 3 else "W02F")
    page = open_page(admin_token=ADMIN, sage={"unallowed_nodes": ("W099",)})
    page.headers.update(BEARER)
    listed = page.get("/api/watches/one/dead-letters").json()
    assert (listed["count"], {one["id"] for one in listed["deliveries"]}) == (2, {"msg_1", "msg_2"})
    assert {one["cause"] for one in listed["deliveries"]} == {"webhook_refused"}
    again = page.post("/api/watches/one/dead-letters/replay", json={"ids": ["msg_1", "msg_9"]}).json()
    assert again == {"replayed": ["msg_1"], "missing": ["msg_9"]}
    gone = page.post("/api/watches/one/dead-letters/discard", json={"ids": ["msg_1", "msg_2"]}).json()
    assert gone == {"discarded": ["msg_2"], "missing": ["msg_1"]}
    assert (ledger.watches.state("one").waiting, ledger.watches.state("one").dead) == (1, 1)  # type: ignore[union-attr]


def test_missed_pictures_are_told(page: httpx.Client, valkey: Valkey) -> None:
    valkey.client.hset("weavloader:watch:overflow", mapping={"count": 7, "since": 0, "until": 60})
    assert page.get("/api/watches").json()["missed"]["count"] == 7
    assert "7 pictures that landed from 1970-01-01 00:00:00Z" in shown(page.get("/watches"))


# --- the pages -------------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(open_page: Open) -> httpx.Client:
    """A page that the admin has logged in to."""
    page = open_page(admin_token=ADMIN)
    assert page.post("/login", data={"token": ADMIN}).status_code == 303
    return page


def csrf_of(page: httpx.Client, path: str = "/watches") -> str:
    found = re.search(r'name="csrf" value="(\w+)"', page.get(path).text)
    assert found is not None
    return found[1]


def form(page: httpx.Client, **fields: str) -> httpx.Response:
    given = {"query": "a street", "name": "street", "threshold": "0.5", "webhook": NEW["webhook"], "cooldown": "5m"}
    return page.post("/watches", data={"csrf": csrf_of(page), "action": "add", **given, **fields})


def test_a_search_leads_to_the_form_that_it_fills(browser: httpx.Client, land: Land) -> None:
    land(street(1))
    (link,) = links(shown(browser.get("/?q=A+street%2C+wet!&camera=top&since=7d")), r"/watches\?")
    assert link == "/watches?q=A+street%2C+wet%21&camera=top#add"
    html = shown(browser.get(link))
    for name, value in (("query", "A street, wet!"), ("name", "a-street-wet"), ("camera", "top"), ("cooldown", "10m")):
        assert re.search(rf'name="{name}" value="{re.escape(value)}"', unescape(html)), name
    own = image(1).record.id
    assert links(shown(browser.get(f"/?like={own}")), r"/watches\?") == [], "there are no words to look for"


def test_who_is_not_the_admin_is_led_to_the_login_and_back(open_page: Open) -> None:
    page = open_page(admin_token=ADMIN)
    html = shown(page.get("/watches?q=a+cat"))
    assert 'name="webhook"' not in html
    assert "/login?next=%2Fwatches%3Fq%3Da%2Bcat" in links(html, "/login")
    assert "WEAVLOADER_WEB_ADMIN_TOKEN" in shown(open_page().get("/watches"))


def test_the_form_adds_a_watch_and_shows_its_secret_once(browser: httpx.Client, ledger: Ledger) -> None:
    html = shown(form(browser, camera="top"), 201)
    kept = ledger.watches.get("street")
    assert kept is not None
    assert (kept.query, kept.threshold, kept.cooldown, kept.narrowed) == ("a street", 0.5, 300, {"camera": "top"})
    secret = Path(kept.secret_file).read_text().strip()
    assert secret in unescape(html)
    assert secret not in unescape(shown(browser.get("/watches")))


def test_what_is_wrong_stands_beside_the_form_which_keeps_what_was_given(browser: httpx.Client, ledger: Ledger) -> None:
    for fields, named in (
        ({"threshold": ""}, "threshold"),
        ({"webhook": "http://10.0.0.1/x"}, "WEAVLOADER_WEBHOOK_HOSTS"),
        ({"cooldown": "soon"}, "cool-down"),
        ({"name": "A B"}, "name"),
        ({"alerts": "true"}, "alerts"),
    ):
        html = unescape(shown(form(browser, **fields), 422))
        (told,) = re.findall(r'role="alert" class="error">([^<]*)', html)
        assert named in told
        assert 'name="query" value="a street"' in html
    assert ledger.watches.states() == []


def test_a_form_that_cannot_be_served_now_keeps_what_was_given(browser: httpx.Client, ledger: Ledger) -> None:
    ledger.watches.note_folder("another host's")
    html = unescape(shown(form(browser), 403))
    assert "python main.py watch add" in html
    assert 'name="query" value="a street"' in html


def test_alerts_are_watched_from_the_form(browser: httpx.Client, ledger: Ledger) -> None:
    shown(form(browser, query="", threshold="", alerts="true", name="news"), 201)
    kept = ledger.watches.get("news")
    assert kept is not None
    assert kept.of_alerts
    assert "Alerts, firing and resolved" in shown(browser.get("/watches"))


def test_another_sites_form_and_one_without_its_word_change_nothing(browser: httpx.Client, ledger: Ledger) -> None:
    ledger.watches.add(watch_of("one"))
    ours = {"csrf": csrf_of(browser)}
    theirs = {"Origin": "https://evil.example.org"}
    for path, data in (
        ("/watches", {**NEW, "action": "add"}),
        ("/watches/one", {"action": "remove", "confirmed": "true"}),
        ("/watches/one", {"action": "pause"}),
        ("/watches/one/dead-letters", {"action": "discard", "ids": "x", "confirmed": "true"}),
    ):
        assert browser.post(path, data=data).status_code == 403, path
        assert browser.post(path, data={**data, "csrf": "0" * 64}).status_code == 403, path
        assert browser.post(path, data={**data, **ours}, headers=theirs).status_code == 403, path
    assert browser.delete("/api/watches/one", headers=theirs).status_code == 403
    assert [(state.watch.name, state.active) for state in ledger.watches.states()] == [("one", True)]


def test_the_page_tells_how_a_watch_is_and_changes_it(browser: httpx.Client, ledger: Ledger, land: Land) -> None:
    land(street(1, caption="a wet street"))
    watch = watch_of("one", query="a <dog>")
    ledger.watches.add(watch)
    bury(ledger, watch, 1)
    html = shown(browser.get("/watches"))
    text = " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())
    assert "one failing a <dog> from a similarity of 0.5 on" in text
    assert re.search(r"Found 1 Delivered 0 Cooled down 0 Waiting 0 Dead 1 Last match .*, 0\.750: a wet street", text)
    assert "answers with status 500" in text
    assert links(html, rf"/images/{image(1).record.id}")
    csrf = csrf_of(browser)
    for action, told in (("pause", "one is paused."), ("resume", "one is resumed.")):
        after = browser.post("/watches/one", data={"action": action, "csrf": csrf})
        assert told in shown(browser.get(after.headers["location"]))
        assert ledger.watches.states()[0].active is (action == "resume")
    asked = shown(browser.post("/watches/one", data={"action": "remove", "csrf": csrf}))
    assert "Remove one?" in asked
    assert len(ledger.watches.states()) == 1
    after = browser.post("/watches/one", data={"action": "remove", "confirmed": "true", "csrf": csrf})
    assert "one is removed." in shown(browser.get(after.headers["location"]))
    assert ledger.watches.states() == []


def test_a_try_shows_pictures_and_keeps_the_form(browser: httpx.Client, land: Land, ledger: Ledger) -> None:
    near, far = np.eye(2, DIMENSIONS, dtype=np.float32)
    land(comparable(0, near), comparable(1, far))
    html = shown(form(browser, action="test", webhook="", threshold=""))
    assert "choose a threshold" in html
    assert 'name="query" value="a street"' in html
    ledger.watches.add(watch_of("one"))
    tried = shown(browser.post("/watches/one", data={"action": "test", "csrf": csrf_of(browser)}))
    assert "1 picture scores 0.5 or more" in tried
    assert ["matches" in card for card in cards(tried)] == [True, False]
    assert "say what to try" in unescape(shown(form(browser, action="test", query=""), 422))


def test_dead_letters_have_a_page_of_their_own(browser: httpx.Client, ledger: Ledger) -> None:
    watch = watch_of("one")
    ledger.watches.add(watch)
    for number in (1, 2):
        bury(ledger, watch, number)
    (link,) = links(shown(browser.get("/watches")), "^/watches/one/dead-letters$")
    html = shown(browser.get(link))
    assert html.count("answers with status 500") == 2
    sent = {"csrf": csrf_of(browser, link)}
    after = browser.post(link, data={**sent, "action": "replay", "ids": "msg_1"})
    assert "1 delivery is due again." in shown(browser.get(after.headers["location"]))
    assert "Throw 1 delivery" in shown(browser.post(link, data={**sent, "action": "discard", "ids": "msg_2"}))
    after = browser.post(link, data={**sent, "action": "discard", "ids": "msg_2", "confirmed": "true"})
    assert "1 delivery was thrown away." in shown(browser.get(after.headers["location"]))
    assert shown(browser.post(link, data={**sent, "action": "replay"}), 422)
