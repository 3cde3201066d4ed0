"""The pages over HTTP, without script."""

from __future__ import annotations

import csv
import re
from html import unescape
from io import StringIO
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from ledger import Lease, Ledger
from records import Place
from tests.store.images import image
from tests.web.conftest import Land, Open, street

READ = "a reader's word"


def shown(answer: httpx.Response, status: int = 200) -> str:
    """The page's HTML."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text


def cards(html: str) -> list[str]:
    """The results, each as text."""
    pieces = re.split(r"<li><article[^>]*>", html)[1:]
    return [" ".join(unescape(re.sub(r"<[^>]+>", " ", piece.split("</article>")[0])).split()) for piece in pieces]


def links(html: str, pattern: str) -> list[str]:
    return [unescape(found) for found in re.findall(r'href="([^"]*)"', html) if re.search(pattern, unescape(found))]


def test_the_first_page_is_a_search_box(page: httpx.Client) -> None:
    html = shown(page.get("/"))
    assert 'role="search"' in html
    assert 'name="q"' in html
    assert cards(html) == []


def test_a_result_shows_its_picture_and_why_it_matched(page: httpx.Client, land: Land) -> None:
    land(street(1, caption="a red rocket <script>alert(1)</script>"), street(2))
    html = shown(page.get("/", params={"q": "the rocket"}))
    assert f'src="/api/images/{image(1).record.id}/thumbnail"' in html
    assert "<mark>rocket</mark>" in html
    assert "<script>alert" not in html
    assert re.search(r"Score \d\.\d+ = words 0\.600 \+ meaning \d\.\d+", cards(html)[0])
    assert "Matched: rocket" in cards(html)[0]
    assert "W02F, top_camera, SAGE" in cards(html)[0]
    assert links(html, r"^https://storage\.example\.org/1\.jpg$")


def test_filters_are_offered_with_their_counts_and_keep_the_choice(page: httpx.Client, land: Land) -> None:
    land(*(street(number, camera="top" if number else "bottom") for number in range(4)))
    html = shown(page.get("/", params={"q": "street"}))
    assert '<option value="top">top (3)</option>' in html
    html = shown(page.get("/", params={"q": "street", "camera": "top", "vsn": "", "south": ""}))
    assert '<option value="top" selected>top (3)</option>' in html
    assert len(cards(html)) == 3
    html = shown(page.get("/", params={"q": "street", "camera": "gone"}))
    assert "Nothing found" in html
    assert '<option value="gone" selected>gone (0)</option>' in html


def test_a_chosen_filter_is_changed_for_another_without_being_left_out_first(page: httpx.Client, land: Land) -> None:
    land(*(street(number, camera="top" if number else "bottom") for number in range(4)), street(4, vsn="W030"))
    chosen = {"q": "street", "camera": "bottom", "vsn": "W02F"}
    html = shown(page.get("/", params=chosen))
    assert len(cards(html)) == 1
    assert '<option value="bottom" selected>bottom (1)</option>' in html
    assert '<option value="top">top (3)</option>' in html
    assert "top_camera" not in re.findall(r'<option value="([^"]*)"', html), "another node's"
    assert "W030" not in html, "it has no such camera"
    own = image(0).record.id
    assert '<option value="top">top (3)</option>' in shown(page.get("/", params={"like": own, "camera": "top_camera"}))


def test_a_bar_of_the_histogram_narrows_the_time(page: httpx.Client, land: Land) -> None:
    land(*(street(number, captured_ns=1_765_000_000_000_000_000 + number * 86400 * 10**9) for number in range(5)))
    html = shown(page.get("/", params={"q": "street", "camera": "top_camera"}))
    bars = links(html, "since=")
    assert len(bars) == 5
    narrowed = shown(page.get(bars[0]))
    assert len(cards(narrowed)) == 1
    assert parse_qs(urlsplit(bars[0]).query)["camera"] == ["top_camera"]
    (back,) = links(narrowed, r"^/\?q=street&camera=top_camera$")
    assert len(cards(shown(page.get(back)))) == 5


def test_near_identical_pictures_are_one_card_that_opens(page: httpx.Client, land: Land) -> None:
    same = street(0).vector
    land(*(street(number, vector=same) for number in range(25)), street(25))
    html = shown(page.get("/", params={"q": "street"}))
    assert len(cards(html)) == 2
    assert "24 near-identical" in html
    assert "2 results of 26 pictures" in html
    assert len(cards(shown(page.get("/", params={"q": "street", "apart": "true"})))) == 24


def test_results_come_in_pages(page: httpx.Client, land: Land) -> None:
    land(*(street(number) for number in range(30)))
    first = shown(page.get("/", params={"q": "street", "sort": "time", "apart": "true"}))
    assert "Page 1 of 2" in first
    (following,) = links(first, "page=2")
    second = shown(page.get(following))
    assert (len(cards(first)), len(cards(second))) == (24, 6)
    assert "05:47:09" in cards(first)[0]
    assert "05:46:40" in cards(second)[-1]


def test_a_place_is_a_box(page: httpx.Client, land: Land) -> None:
    land(street(0))
    box = {"south": "41", "west": "-88", "north": "42", "east": "-87"}
    assert len(cards(shown(page.get("/", params={"q": "street", **box})))) == 1
    assert len(cards(shown(page.get("/", params={"q": "street", **box, "west": "-87.5"})))) == 0
    html = shown(page.get("/", params={"q": "street", "south": "41"}), 422)
    assert "box of four sides" in html


def test_results_are_downloaded_as_a_table(page: httpx.Client, land: Land) -> None:
    same = street(0).vector
    land(street(0, caption="=1+1"), street(1, vector=same), *(street(number) for number in range(2, 30)))
    (table,) = links(shown(page.get("/", params={"q": "street", "camera": "top_camera"})), r"results\.csv")
    answer = page.get(table)
    assert answer.headers["content-disposition"] == 'attachment; filename="weavloader.csv"'
    rows = list(csv.DictReader(StringIO(answer.text)))
    assert len(rows) == 30
    row = next(row for row in rows if row["id"] == image(0).record.id)
    assert row["caption"] == "'=1+1"
    assert row["time"] == "2025-12-06T05:46:40.820981933Z"
    assert (row["longitude"], row["vsn"], row["prompt_version"]) == ("-87.6232", "W02F", "0f3a")
    assert row["link"] == "https://storage.example.org/0.jpg"


def test_similar_pictures_are_a_link_away_and_can_be_narrowed(page: httpx.Client, land: Land) -> None:
    land(street(0), street(1), street(2, camera="other"))
    own = image(0).record.id
    (similar,) = links(shown(page.get(f"/images/{own}")), "like=")
    html = shown(page.get(similar))
    assert len(cards(html)) == 2
    assert f'name="like" value="{own}"' in html
    assert len(cards(shown(page.get(similar, params={"like": own, "camera": "other"})))) == 1


def test_an_uploaded_picture_leads_to_pictures_like_it(page: httpx.Client, land: Land, photos: Path) -> None:
    land(street(0), street(1))
    picture = (photos / "coffee.png").read_bytes()
    answer = page.post("/similar", files={"picture": ("coffee.png", picture)})
    assert answer.status_code == 303
    html = shown(page.get(answer.headers["location"]))
    assert "Pictures like coffee.png" in html
    assert len(cards(html)) == 2
    assert "not an image" in shown(page.post("/similar", files={"picture": ("x", b"some words")}), 422)
    assert "upload it again" in shown(page.get("/", params={"upload": "forgotten"}), 404)


def test_one_pictures_page_tells_all_that_is_known(page: httpx.Client, land: Land) -> None:
    land(street(3, caption="a bridge", keywords=("river", "fog")))
    html = shown(page.get(f"/images/{image(3).record.id}"))
    for text in ("a bridge", "river", "fog", "1920 by 1080", "Randolph Street, Chicago", "light_embedder", "0f3a"):
        assert text in html
    assert "there is no image" in shown(page.get("/images/none"), 404)


def test_a_link_that_would_run_a_script_is_not_followed(page: httpx.Client, land: Land) -> None:
    land(street(0, url="javascript:alert(1)"))
    assert "javascript:" not in shown(page.get("/", params={"q": "street"}))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/?q=a&since=soon", "neither a time"),
        ("/?q=a&page=1000", "offset"),
        ("/?q=a&alpha=3", "alpha"),
        ("/?like=none", "not an image"),
        ("/nowhere", "Not Found"),
    ],
)
def test_what_cannot_be_shown_is_told_on_a_page(page: httpx.Client, path: str, says: str) -> None:
    answer = page.get(path)
    assert answer.status_code in (404, 422)
    assert says in shown(answer, answer.status_code)


def test_a_browser_logs_in_with_a_token(open_page: Open, land: Land) -> None:
    land(street(0))
    page = open_page(read_token=READ)
    asked = page.get("/", params={"q": "street"})
    assert asked.status_code == 303
    html = shown(page.get(asked.headers["location"]))
    (after,) = re.findall(r'name="next" value="([^"]*)"', html)
    assert "not one of the tokens" in shown(page.post("/login", data={"token": "guess", "next": "/"}), 403)
    answer = page.post("/login", data={"token": READ, "next": unescape(after)})
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert READ not in cookie
    assert len(cards(shown(page.get(answer.headers["location"])))) == 1
    assert page.get(f"/api/images/{image(0).record.id}/thumbnail").status_code == 200
    page.post("/logout")
    assert page.get("/").status_code == 303


@pytest.mark.parametrize("next", ["https://evil.example.org/", "//evil.example.org", "/\\evil.example.org", "evil"])
def test_logging_in_leads_nowhere_else(open_page: Open, next: str) -> None:
    page = open_page(read_token=READ)
    assert page.post("/login", data={"token": READ, "next": next}).headers["location"] == "/"


def test_a_cookie_of_another_token_is_worth_nothing(open_page: Open) -> None:
    first, second = open_page(read_token=READ), open_page(read_token="another word")
    cookie = first.post("/login", data={"token": READ}).headers["set-cookie"].partition(";")[0]
    assert first.get("/api/status", headers={"Cookie": cookie}).status_code == 200
    for other in (cookie, cookie.replace("READ", "ADMIN"), "weavloader=", "weavloader=a.b.c.d"):
        assert second.get("/api/status", headers={"Cookie": other}).status_code == 401


def test_pages_need_nothing_from_elsewhere(page: httpx.Client) -> None:
    html = shown(page.get("/"))
    for address in re.findall(r'(?:src|href)="([^"]+)"', html):
        assert address.startswith(("/", "#")), address
        assert page.get(address).status_code == 200, address
    assert " style=" not in html
    assert "onclick" not in html


def test_places_are_offered_with_their_counts_and_narrow_to_a_circle(page: httpx.Client, land: Land) -> None:
    paris = Place(48.8606, 2.3376, "SAGE", "Rue de Rivoli, Paris")
    land(street(0), street(1), street(2, place=paris), street(3, place=Place()))
    html = shown(page.get("/", params={"q": "street"}))
    assert '<option value="41.88,-87.62">Randolph Street, Chicago (2)</option>' in html
    (there,) = links(html, r"place=48\.86")
    narrowed = shown(page.get(there))
    assert len(cards(narrowed)) == 1
    assert "within 2 km of 48.86,2.34" in narrowed
    assert len(cards(shown(page.get("/", params={"q": "street", "place": "48.9, 2.3", "km": "1"})))) == 0
    assert len(cards(shown(page.get("/", params={"q": "street", "place": "48.9, 2.3", "km": "20"})))) == 1
    assert "LAT,LON" in shown(page.get("/", params={"q": "street", "place": "Paris"}), 422)


def test_what_narrows_is_shown_and_left_out_by_a_link(page: httpx.Client, land: Land) -> None:
    land(*(street(number, camera="top" if number else "bottom") for number in range(4)))
    asked = {"q": "street", "camera": "bottom", "since": "2025-01-01", "place": "41.88,-87.62"}
    html = shown(page.get("/", params=asked))
    (without,) = links(html, r"^/\?q=street&since=2025-01-01&place=41.88%2C-87.62$")
    assert len(cards(html)) == 1
    assert len(cards(shown(page.get(without)))) == 4


def test_a_search_that_cannot_be_made_keeps_what_was_asked_for(page: httpx.Client) -> None:
    html = shown(page.get("/", params={"q": "a cup of tea", "since": "soon", "camera": "top"}), 422)
    assert "neither a time" in html
    for kept in ('value="a cup of tea"', 'value="soon"', 'value="top"'):
        assert kept in html


def test_the_order_is_a_link_away(page: httpx.Client, land: Land) -> None:
    land(*(street(number) for number in range(5)))
    (newest,) = links(shown(page.get("/", params={"q": "street", "vsn": "W02F"})), "sort=time")
    times = re.findall(r"<time>([^<]*)</time>", shown(page.get(newest)))
    assert times == sorted(times, reverse=True)
    assert len(times) == 5
    assert links(shown(page.get(newest)), r"^/\?q=street&vsn=W02F$")


def test_without_a_question_the_page_shows_what_landed_lately_of_nodes_that_may_be_shown(
    open_page: Open, land: Land, ledger: Ledger
) -> None:
    land(street(0), street(1, caption="a red bus"), street(2, vsn="W099"), street(3, caption="a red bus"))
    for number in range(4):
        lease = ledger.lease(image(number).record)
        assert isinstance(lease, Lease)
        assert ledger.land(lease)
    html = shown(open_page(sage={"unallowed_nodes": ("W099",)}).get("/"))
    assert [card.split(" 2025")[0] for card in cards(html)] == ["a red bus", "a quiet street"]


def test_the_api_has_a_page_for_people(page: httpx.Client) -> None:
    html = shown(page.get("/api"))
    described = page.get("/openapi.json").json()
    for path in described["paths"]:
        assert f"<code>{path}</code>" in html
    assert "what the picture should show, in plain words" in html


def test_what_is_refused_before_it_is_looked_at_is_told_on_a_page_too(open_page: Open) -> None:
    page = open_page(rate=2, upload_bytes=1000)
    large = page.post("/similar", files={"picture": ("a.png", b"x" * 200_000)})
    assert "WEAVLOADER_WEB_UPLOAD_BYTES" in shown(large, 413)
    page.get("/live")
    refused = page.get("/live")
    assert "too many requests" in shown(refused, 429)
    assert refused.headers["retry-after"]
    assert page.get("/api/status").json()["cause"] == "too_many_requests"
    assert "default-src 'none'" in refused.headers["content-security-policy"]


def test_a_missing_file_of_the_page_is_told_with_whole_links(page: httpx.Client) -> None:
    answer = page.get("/static/none.css")
    assert answer.status_code == 404
    assert "/static/static" not in answer.text
