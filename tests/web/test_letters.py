"""Dead letters over the API."""

from __future__ import annotations

import httpx
import pytest

from ledger import Lease, Ledger
from ledger import letters as kept
from records import DeadLetter, ImageRecord
from tests.fixtures.redis import Valkey
from tests.store.images import image
from tests.web.conftest import Open
from web import api

ADMIN = {"Authorization": "Bearer the admin's word"}


def bury(ledger: Ledger, number: int, cause: str = "not_found", kind: str = "permanent", **changes: str) -> ImageRecord:
    """An image that is dead, with its letter."""
    record = image(number, **changes).record
    ledger.record([record])
    lease = ledger.lease(record)
    assert isinstance(lease, Lease)
    letter = DeadLetter(
        task_id=record.id,
        record=record.to_message(),
        cause=cause,
        kind=kind,
        error=f"image {number} failed",
        traceback="Traceback: a line of code",
        attempts=1,
        when=1_700_000_000.0 + number,
    )
    assert ledger.bury(lease, letter)
    return record


def test_letters_are_listed_newest_first_by_cause_and_time(page: httpx.Client, ledger: Ledger) -> None:
    for number, cause in enumerate(["not_found", "poison", "not_found"]):
        bury(ledger, number, cause)
    listed = page.get("/api/dead-letters").json()
    assert (listed["count"], listed["by_cause"]) == (3, {"not_found": 2, "poison": 1})
    assert [letter["error"] for letter in listed["letters"]] == [f"image {number} failed" for number in (2, 1, 0)]
    assert listed["letters"][0]["record"]["url"] == "https://storage.example.org/2.jpg"
    only = page.get("/api/dead-letters", params={"cause": "poison"}).json()["letters"]
    assert [letter["cause"] for letter in only] == ["poison"]
    older = page.get("/api/dead-letters", params={"until": "2023-11-14T22:13:20Z"}).json()["letters"]
    assert [letter["error"] for letter in older] == ["image 0 failed"]


def test_tracebacks_are_for_the_admin(open_page: Open, ledger: Ledger) -> None:
    bury(ledger, 1)
    page = open_page(admin_token="the admin's word")
    assert page.get("/api/dead-letters").json()["letters"][0]["traceback"] == ""
    assert "Traceback" in page.get("/api/dead-letters", headers=ADMIN).json()["letters"][0]["traceback"]


def test_letters_of_denied_nodes_are_not_shown(open_page: Open, ledger: Ledger) -> None:
    bury(ledger, 1, vsn="W099")
    bury(ledger, 2)
    page = open_page(sage={"unallowed_nodes": ("W099",)})
    assert [letter["error"] for letter in page.get("/api/dead-letters").json()["letters"]] == ["image 2 failed"]


def test_letters_of_denied_nodes_take_no_places_of_others(open_page: Open, ledger: Ledger) -> None:
    bury(ledger, 0)
    for number in range(1, 6):
        bury(ledger, number, vsn="W099")
    page = open_page(sage={"unallowed_nodes": ("W099",)})
    shown = page.get("/api/dead-letters", params={"limit": 2}).json()["letters"]
    assert [letter["error"] for letter in shown] == ["image 0 failed"]


def test_letters_of_nodes_that_are_not_for_the_reader_are_not_counted(open_page: Open, ledger: Ledger) -> None:
    bury(ledger, 1, "poison", vsn="W099")
    bury(ledger, 2)
    reader = open_page(nodes=("W02F",), admin_token="the admin's word")
    for page in (reader, open_page(sage={"unallowed_nodes": ("W099",)})):
        listed = page.get("/api/dead-letters").json()
        assert (listed["count"], listed["by_cause"], listed["of_newest"]) == (1, {"not_found": 1}, None)
        html = page.get("/dead-letters").text
        assert "tried again by themselves: 1." in html
        assert "poison" not in html
    assert reader.get("/api/dead-letters", headers=ADMIN).json()["by_cause"] == {"poison": 1, "not_found": 1}


def test_of_very_many_letters_the_newest_are_counted_for_a_limited_reader(
    open_page: Open, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST_COUNTED", 2)
    monkeypatch.setattr(api, "MOST_COUNTED", 2)
    for number in range(3):
        bury(ledger, number)
    page = open_page(nodes=("W02F",), admin_token="the admin's word")
    listed = page.get("/api/dead-letters").json()
    assert (listed["count"], listed["of_newest"], len(listed["letters"])) == (2, 2, 3)
    assert "tried again by themselves: 2 of the newest 2." in page.get("/dead-letters").text
    assert page.get("/api/dead-letters", headers=ADMIN).json()["count"] == 3


def test_a_replayed_letters_image_is_queued_again(open_page: Open, ledger: Ledger, valkey: Valkey) -> None:
    record = bury(ledger, 1)
    page = open_page(admin_token="the admin's word")
    answer = page.post("/api/dead-letters/replay", json={"ids": [record.id, "nobody"]}, headers=ADMIN)
    assert answer.json() == {"replayed": [record.id], "missing": ["nobody"]}
    standing = ledger.standing(record.id)
    assert standing is not None
    assert standing.state == "queued"
    assert ledger.letters.count() == 0
    assert valkey.client.llen("image_processing") == 1


def test_a_discarded_letter_is_gone_and_archived_and_its_image_stays_dead(
    open_page: Open, ledger: Ledger, tmp_path
) -> None:
    record = bury(ledger, 1)
    page = open_page(admin_token="the admin's word")
    answer = page.post("/api/dead-letters/discard", json={"ids": [record.id, "nobody"]}, headers=ADMIN)
    assert answer.json() == {"discarded": [record.id], "missing": ["nobody"]}
    assert ledger.letters.count() == 0
    assert ledger.audit().dead == 1
    assert record.id in next((tmp_path / "archive").glob("*.jsonl")).read_text()


def test_which_letters_must_be_said(open_page: Open) -> None:
    page = open_page(admin_token="the admin's word")
    for body in ({}, {"ids": []}, {"ids": ["x"] * 501}, {"ids": [""]}, {"ids": ["1"], "all": True}, [], "x"):
        assert page.post("/api/dead-letters/discard", json=body, headers=ADMIN).status_code == 422, body
