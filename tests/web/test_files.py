"""Links of own pictures: they lead to the original, for those who may see it, wherever the page is by now."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from ledger import Lease, Ledger
from records import DeadLetter, IndexedImage
from sources import OwnFiles
from sources.own import own_id, own_url
from tests.inference.pictures import corners, encoded
from tests.web.conftest import Land, Open, street

JPEG = encoded(corners())
DIGEST = hashlib.sha256(JPEG).hexdigest()
LINK = f"/files/{DIGEST}"


@pytest.fixture
def files(tmp_path: Path) -> OwnFiles:
    files = OwnFiles(tmp_path)
    files.keep(DIGEST, JPEG)
    return files


def own(**changes: Any) -> IndexedImage:
    """As it landed when the page was somewhere else."""
    image = street(1, source="own", url=own_url("http://127.0.0.1:1", DIGEST), filename="a b.jpg", **changes)
    return replace(image, record=replace(image.record, id=own_id(DIGEST)))


@pytest.fixture
def opened(open_page: Open, files: OwnFiles, land: Land) -> httpx.Client:
    land(own())
    page: httpx.Client = open_page()
    return page


def test_the_link_gives_the_original_without_any_setting(opened: httpx.Client) -> None:
    answer = opened.get(LINK)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, JPEG, "image/jpeg")
    assert answer.headers["content-disposition"].startswith("inline; filename")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert opened.get(LINK, headers={"Range": "bytes=0-1"}).content == JPEG[:2]


def test_search_gives_links_that_work_now(opened: httpx.Client) -> None:
    found = opened.get("/api/search", params={"q": "street"}).json()["results"][0]
    assert found["link"] == f"{str(opened.base_url).rstrip('/')}{LINK}"
    assert found["original"] == LINK
    assert opened.get(found["link"]).content == opened.get(found["original"]).content == JPEG
    assert opened.get(f"/api/images/{found['id']}").json()["link"] == found["link"]


@pytest.mark.parametrize("path", ["/?q=street", f"/images/{own_id(DIGEST)}"])
def test_pages_lead_there(opened: httpx.Client, path: str) -> None:
    text = opened.get(path).text
    assert f'<a href="{LINK}">Original</a>' in text
    assert "127.0.0.1:1/" not in text


def test_below_a_prefix_too(open_page: Open, files: OwnFiles, land: Land) -> None:
    land(own())
    page = open_page(prefix="pictures")
    assert f'<a href="/pictures{LINK}">' in page.get("/pictures/?q=street").text
    found = page.get("/pictures/api/search", params={"q": "street"}).json()["results"][0]
    assert found["original"] == f"/pictures{LINK}"
    assert page.get(found["original"]).content == page.get(found["link"]).content == JPEG


def test_where_originals_are_handed_out_it_is_read_from_the_files(open_page: Open, files: OwnFiles, land: Land) -> None:
    land(own())
    page = open_page(originals=True)
    path = page.get(f"/api/images/{own_id(DIGEST)}").json()["original"]
    assert path.endswith("/original")
    assert page.get(path).content == JPEG


@pytest.mark.parametrize(
    "path",
    [
        "/files/" + "0" * 64,
        f"/files/{DIGEST.upper()}",
        f"/files/{DIGEST}.json",
        "/files/known.sqlite3",
        f"/files/..%2f{DIGEST}",
        "/files/../ledger",
        "/files/",
    ],
)
def test_nothing_else_is_handed_out(opened: httpx.Client, files: OwnFiles, path: str) -> None:
    files.describe(DIGEST, own().record)
    assert opened.get(path).status_code == 404


def test_a_picture_that_is_neither_in_the_store_nor_dead_is_nobodys_yet(open_page: Open, files: OwnFiles) -> None:
    assert open_page().get(LINK).status_code == 404


def test_a_picture_of_a_denied_node_is_not_handed_out(open_page: Open, files: OwnFiles, land: Land) -> None:
    land(own(vsn="W099"))
    assert open_page(sage={"unallowed_nodes": ("w099",)}).get(LINK).status_code == 404


def test_a_reader_gets_those_of_the_nodes_that_are_theirs_and_the_admin_all(
    open_page: Open, files: OwnFiles, land: Land
) -> None:
    land(own())
    page = open_page(nodes=("W098",), read_token="a reader's word", admin_token="the admin's word")
    assert page.get(LINK).status_code == 303, "a browser without a token is led to where it is asked for"
    assert page.get(LINK, headers={"Authorization": "Bearer a reader's word"}).status_code == 404
    assert page.get(LINK, headers={"Authorization": "Bearer the admin's word"}).content == JPEG


def test_a_dead_picture_can_be_looked_at_from_its_letter(open_page: Open, files: OwnFiles, ledger: Ledger) -> None:
    record = own().record
    lease = ledger.lease(record)
    assert isinstance(lease, Lease)
    letter = DeadLetter(record.id, record.to_message(), "store_rejected", "permanent", "no", "", 1, 1_765_000_000.0)
    assert ledger.bury(lease, letter)
    page = open_page()
    assert f'<a href="{LINK}">a b.jpg</a>' in page.get("/dead-letters").text
    assert page.get(LINK).content == JPEG


@pytest.mark.parametrize(
    ("kind", "told"), [("HEIF", "image/heic"), ("PNG", "image/png"), ("WEBP", "image/webp"), ("TIFF", "image/tiff")]
)
def test_the_kind_is_told_by_the_first_bytes(
    open_page: Open, files: OwnFiles, land: Land, kind: str, told: str
) -> None:
    data = encoded(corners(), kind)
    digest = hashlib.sha256(data).hexdigest()
    files.keep(digest, data)
    image = own()
    land(replace(image, record=replace(image.record, id=own_id(digest), url=own_url("http://x", digest))))
    assert open_page().get(f"/files/{digest}").headers["content-type"] == told
