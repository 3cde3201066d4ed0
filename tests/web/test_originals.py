"""Originals: handed out only where a setting allows it, with this installation's login, by the processors' rules."""

from __future__ import annotations

import time

import httpx

from tests.fixtures.sage import LocalSage
from tests.store.images import image
from tests.web.conftest import Land, Open, street

JPEG = b"\xff\xd8\xff\xe0 an original"


def opened(open_page: Open, sage: LocalSage, **web: object) -> httpx.Client:
    section = sage.section.model_dump()
    page: httpx.Client = open_page(sage=section, fetch={"allowed_hosts": (sage.host.partition(":")[0],)}, **web)
    return page


def test_without_the_setting_they_are_not_handed_out(open_page: Open, sage: LocalSage, land: Land) -> None:
    url = sage.answer("/1.jpg", JPEG)
    land(street(1, source="sage", url=url))
    page = opened(open_page, sage)
    answer = page.get(f"/api/images/{image(1).record.id}/original")
    assert answer.status_code == 403
    assert "WEAVLOADER_WEB_ORIGINALS" in answer.json()["error"]
    assert sage.count("/1.jpg") == 0
    assert page.get(f"/api/images/{image(1).record.id}").json()["original"] is None


def test_with_it_they_come_with_the_operators_login(open_page: Open, sage: LocalSage, land: Land) -> None:
    url = sage.upload("/1.jpg", time.time_ns(), JPEG)["value"]
    land(street(1, source="sage", url=url))
    page = opened(open_page, sage, originals=True)
    path = page.get(f"/api/images/{image(1).record.id}").json()["original"]
    answer = page.get(path)
    assert (answer.content, answer.headers["content-type"]) == (JPEG, "image/jpeg")
    assert [seen.authorization for seen in sage.seen if seen.path == "/1.jpg"] == [sage.authorization]
    assert f'href="{path}"' in page.get("/", params={"q": "street"}).text


def test_what_is_no_picture_is_not_shown_by_a_browser(open_page: Open, sage: LocalSage, land: Land) -> None:
    url = sage.upload("/1.jpg", time.time_ns(), b"<script>alert(1)</script>")["value"]
    land(street(1, source="sage", url=url))
    answer = opened(open_page, sage, originals=True).get(f"/api/images/{image(1).record.id}/original")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment"


def test_only_what_is_in_the_store_and_may_be_shown_is_fetched(open_page: Open, sage: LocalSage, land: Land) -> None:
    url = sage.upload("/1.jpg", time.time_ns(), JPEG)["value"]
    land(street(1, source="sage", url=url, vsn="W099"))
    page = open_page(
        sage={**sage.section.model_dump(), "unallowed_nodes": ("W099",)},
        fetch={"allowed_hosts": (sage.host.partition(":")[0],)},
        originals=True,
    )
    for number in (1, 2):
        assert page.get(f"/api/images/{image(number).record.id}/original").status_code == 404
    assert sage.count("/1.jpg") == 0


def test_an_original_of_another_host_is_not_fetched(open_page: Open, sage: LocalSage, land: Land) -> None:
    land(street(1, source="sage", url="http://169.254.169.254/latest/meta-data"))
    answer = opened(open_page, sage, originals=True).get(f"/api/images/{image(1).record.id}/original")
    assert answer.status_code == 422
    assert answer.json()["cause"] == "host_not_allowed"


def test_a_reader_gets_originals_of_the_nodes_that_are_theirs_and_the_admin_of_all(
    open_page: Open, sage: LocalSage, land: Land
) -> None:
    url = sage.upload("/1.jpg", time.time_ns(), JPEG)["value"]
    land(street(1, source="sage", url=url))
    page = opened(open_page, sage, originals=True, nodes=("W099",), admin_token="the admin's word")
    path = f"/api/images/{image(1).record.id}/original"
    assert page.get(path).status_code == 404
    assert sage.count("/1.jpg") == 0
    assert page.get(path, headers={"Authorization": "Bearer the admin's word"}).content == JPEG
