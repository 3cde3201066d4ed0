"""The live page and the page of dead letters."""

from __future__ import annotations

import re

import httpx
import numpy as np
import pytest

from ledger import Lease, Ledger
from records import Calibration, Caption, Made, ModelIdentity, Outputs, Place, Sight
from tests.store.images import image
from tests.web.conftest import Land, Open, street
from tests.web.test_letters import bury
from tests.web.test_pages import cards, links, shown

ADMIN = "the admin's word"


def landed(ledger: Ledger, number: int) -> None:
    lease = ledger.lease(image(number).record)
    assert isinstance(lease, Lease)
    assert ledger.land(lease)


def test_the_live_page_shows_what_landed_last_and_how_everything_is(
    page: httpx.Client, land: Land, ledger: Ledger
) -> None:
    land(street(0), street(1, vsn="W030"), street(2))
    for number in (0, 1, 2):
        landed(ledger, number)
    ledger.record([image(3).record])
    for path in ("/live", "/live/now"):
        html = shown(page.get(path))
        assert [re.search(r"W0\w\w", card)[0] for card in cards(html)] == ["W02F", "W030", "W02F"]  # type: ignore[index]
        assert re.search(r"Landed a minute</dt><dd>3\.0", html)
        assert re.search(r"Waiting</dt><dd>1", html)
        assert re.search(r'>redis</th><td class="ok">ok</td><td>answered in 1 ms', html)
        assert links(html, "vsn=W030")


def test_how_many_landed_is_said_outside_of_what_the_live_page_replaces(
    page: httpx.Client, land: Land, ledger: Ledger
) -> None:
    land(street(0))
    landed(ledger, 0)
    assert re.search(r'<p role="status"[^>]*>1 landed</p>\s*<div id="live"', shown(page.get("/live")))
    now = shown(page.get("/live/now"))
    assert 'role="status"' not in now
    assert '<dd id="landed">1</dd>' in now


def test_the_live_page_shows_no_denied_node(open_page: Open, land: Land, ledger: Ledger) -> None:
    land(street(0), street(1, vsn="W099"))
    for number in (0, 1):
        landed(ledger, number)
    page = open_page(sage={"unallowed_nodes": ("W099",)})
    html = shown(page.get("/live"))
    assert len(cards(html)) == 1
    assert "W099" not in html


def test_a_reader_of_few_nodes_sees_what_landed_of_them_behind_what_landed_of_others(
    open_page: Open, land: Land, ledger: Ledger
) -> None:
    land(street(0, vsn="W030"))
    for number in range(150):  # the others need not even be in the store
        landed(ledger, number)
    page = open_page(nodes=("W030",))
    for path in ("/live", "/"):
        assert len(cards(shown(page.get(path)))) == 1, path


def test_a_node_that_is_named_is_seen_behind_what_landed_of_others(
    page: httpx.Client, land: Land, ledger: Ledger
) -> None:
    land(street(0, vsn="W030"), *(street(number) for number in range(121, 151)))
    for number in range(151):
        landed(ledger, number)
    assert len(cards(shown(page.get("/live", params={"vsn": "W030"})))) == 1


def test_the_live_page_shows_one_node_alone_where_it_is_named(page: httpx.Client, land: Land, ledger: Ledger) -> None:
    land(street(0), street(1, vsn="W030"), street(2))
    for number in (0, 1, 2):
        landed(ledger, number)
    (one,) = links(shown(page.get("/live")), "vsn=W030")
    html = shown(page.get(one))
    assert len(cards(html)) == 1
    assert 'data-source="/live/now?vsn=W030"' in html
    assert re.search(r'W030 <span class="count">1<.*W02F <span class="count">2<|W02F.*2<.*W030.*1<', html, re.S)
    assert "Nothing of W777 has landed lately" in shown(page.get("/live?vsn=W777"))


def calibrated(rate: float, captioner: str = "light_captioner") -> Calibration:
    models = (ModelIdentity(captioner, "1"), ModelIdentity("plain_embedder", "1"))
    return Calibration(rate, 16, *models, text=True, when=1_764_000_000.0)


def test_the_live_page_and_the_status_tell_the_efficiency(page: httpx.Client, land: Land, ledger: Ledger) -> None:
    """Two landings in the last minute of a ceiling of 0.1 a second are a third of what the models could give."""
    land(street(0), street(1))
    for number in (0, 1):
        landed(ledger, number)
    ledger.keep_calibration(calibrated(0.1))
    html = shown(page.get("/live"))
    assert re.search(r'Efficiency</dt><dd title="[^"]* 0\.1 [^"]*2025-11-24[^"]*">33%', html)
    status = page.get("/api/status").json()
    assert status["landed_per_second"] == pytest.approx(2 / 60)
    assert status["efficiency"] == pytest.approx(1 / 3)
    assert (status["ceiling"]["images_per_second"], status["ceiling"]["captioner"]) == (0.1, "light_captioner")


def test_without_a_calibration_of_the_configured_models_the_efficiency_is_not_known(
    page: httpx.Client, ledger: Ledger
) -> None:
    for made in (None, calibrated(100.0, "gemma3")):
        if made:
            ledger.keep_calibration(made)
        assert re.search(
            r'Efficiency</dt><dd title="not known until [^"]*calibrate[^"]*">[^0-9%<]<', shown(page.get("/live"))
        )
        status = page.get("/api/status").json()
        assert (status["ceiling"], status["efficiency"]) == (None, None)


def test_letters_are_shown_by_cause_with_their_error(page: httpx.Client, ledger: Ledger) -> None:
    bury(ledger, 1, "not_found")
    bury(ledger, 2, "poison")
    html = shown(page.get("/dead-letters"))
    assert "image 1 failed" in html
    assert "image 2 failed" in html
    (poison,) = links(html, "cause=poison")
    only = shown(page.get(poison))
    assert "image 2 failed" in only
    assert "image 1 failed" not in only
    assert "WEAVLOADER_WEB_ADMIN_TOKEN" in html
    assert "Traceback" not in html
    assert 'name="action"' not in html


def test_older_letters_are_a_link_away(page: httpx.Client, ledger: Ledger) -> None:
    for number in range(4):
        bury(ledger, number)
    first = shown(page.get("/dead-letters?limit=2"))
    (older,) = links(first, "until=")
    assert "image 3 failed" in first
    assert "image 1 failed" in shown(page.get(older))


def test_a_letter_shows_the_picture_that_was_made_before_it_died(page: httpx.Client, ledger: Ledger) -> None:
    record = image(1).record
    ledger.record([record])
    lease = ledger.lease(record)
    assert isinstance(lease, Lease)
    by = ModelIdentity("light_captioner", "1")
    kept = Outputs(
        sight=Sight(Place(), b"\xff\xd8 kept", "0" * 64, 10, 10),
        caption=Made(Caption("a street"), by),
        image_vector=Made(np.ones(4, np.float32), by),
    )
    assert ledger.outputs.keep(lease, kept)
    ledger.release(lease)
    bury(ledger, 1, "store_timeout", kind="transient")
    html = shown(page.get("/dead-letters"))
    (path,) = re.findall(r'<img src="([^"]*)" alt="the picture', html)
    assert page.get(path).content == b"\xff\xd8 kept"
    assert page.get("/dead-letters/nothing/picture").status_code == 404


def login(page: httpx.Client) -> str:
    """The admin's form token."""
    assert page.post("/login", data={"token": ADMIN, "next": "/dead-letters"}).status_code == 303
    found = re.search(r'name="csrf" value="(\w+)"', shown(page.get("/dead-letters")))
    assert found
    return found[1]


def test_the_admin_replays_one_or_many(open_page: Open, ledger: Ledger) -> None:
    records = [bury(ledger, number) for number in range(3)]
    page = open_page(admin_token=ADMIN)
    csrf = login(page)
    ids = [record.id for record in records[:2]]
    answer = page.post("/dead-letters", data={"csrf": csrf, "action": "replay", "ids": ids})
    assert answer.status_code == 303
    html = shown(page.get(answer.headers["location"]))
    assert "2 images are queued again" in html
    assert ledger.letters.count() == 1


def test_one_letter_has_buttons_of_its_own(open_page: Open, ledger: Ledger) -> None:
    records = [bury(ledger, number) for number in range(3)]
    page = open_page(admin_token=ADMIN)
    csrf = login(page)
    answer = page.post("/dead-letters", data={"csrf": csrf, "replay": records[0].id, "ids": records[1].id})
    assert "1 image is queued again" in shown(page.get(answer.headers["location"]))
    html = shown(page.post("/dead-letters", data={"csrf": csrf, "discard": records[1].id}))
    assert "Throw 1 dead letter away?" in html
    assert [name for name in (record.id for record in records) if name in html] == [records[1].id]
    assert ledger.letters.count() == 2
    assert "replay or discard" in shown(page.post("/dead-letters", data={"csrf": csrf, "ids": records[1].id}), 422)


def test_discarding_is_asked_about_first(open_page: Open, ledger: Ledger) -> None:
    record = bury(ledger, 1)
    page = open_page(admin_token=ADMIN)
    form = {"csrf": login(page), "action": "discard", "ids": [record.id]}
    assert "Throw 1 dead letter away?" in shown(page.post("/dead-letters", data=form))
    assert ledger.letters.count() == 1
    answer = page.post("/dead-letters", data={**form, "confirmed": "true"})
    assert "1 letter was thrown away" in shown(page.get(answer.headers["location"]))
    assert ledger.letters.count() == 0
    assert "no dead letter was chosen" in shown(page.post("/dead-letters", data={**form, "ids": []}), 422)


def test_a_form_that_is_not_the_pages_own_changes_nothing(open_page: Open, ledger: Ledger) -> None:
    record = bury(ledger, 1)
    page = open_page(admin_token=ADMIN, read_token="a reader's word")
    csrf = login(page)
    form = {"csrf": csrf, "action": "replay", "ids": record.id}
    for wrong in ("", "0" * 64):
        shown(page.post("/dead-letters", data={**form, "csrf": wrong}), 403)
    elsewhere = page.post("/dead-letters", data=form, headers={"Origin": "https://evil.example.org"})
    assert elsewhere.status_code == 403
    page.cookies.clear()
    page.post("/login", data={"token": "a reader's word"})
    shown(page.post("/dead-letters", data=form), 403)
    page.cookies.clear()
    shown(page.post("/dead-letters", data=form), 401)
    assert ledger.letters.count() == 1
